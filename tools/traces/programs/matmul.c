/* Product of two matrices of doubles, blocked for a small first-level cache: C += A B, 256 x 256. */
#include "common.h"

enum { N = 256, BLOCK = 32 };

int main(void) {
    double *a = allocate(sizeof(double) * N * N), *b = allocate(sizeof(double) * N * N);
    double *c = allocate(sizeof(double) * N * N);
    for (int i = 0; i < N * N; i++) a[i] = random_unit(), b[i] = random_unit(), c[i] = 0;
    recording_begins();
    for (int jj = 0; jj < N; jj += BLOCK)
        for (int kk = 0; kk < N; kk += BLOCK)
            for (int i = 0; i < N; i++)
                for (int k = kk; k < kk + BLOCK; k++) {
                    const double factor = a[i * N + k];
                    for (int j = jj; j < jj + BLOCK; j++) c[i * N + j] += factor * b[k * N + j];
                }
    printf("%.6f\n", c[N + 1]);
    return 0;
}
