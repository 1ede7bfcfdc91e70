/* Inference of a small convolutional network, batch 1, single precision: three 3 x 3 convolutions by im2col and a matrix
 * product (32 -> 64 -> 128 channels, 48 x 48 pixels, stride 2 after each), then two dense layers (4608 -> 512 -> 100). */
#include <math.h>

#include "common.h"

static float *weights(size_t count) {
    float *w = allocate(sizeof(float) * count);
    for (size_t i = 0; i < count; i++) w[i] = (float)(random_unit() - 0.5) * 0.1f;
    return w;
}

/* input: channels x side x side; output: filters x (side/stride)^2; column: scratch of (channels * 9) x pixels. */
static void convolve(const float *input, const float *w, float *column, float *output, int channels, int filters,
                     int side, int stride) {
    const int out = side / stride, pixels = out * out, depth = channels * 9;
    for (int c = 0; c < channels; c++)
        for (int k = 0; k < 9; k++)
            for (int y = 0; y < out; y++)
                for (int x = 0; x < out; x++) {
                    const int iy = y * stride + k / 3 - 1, ix = x * stride + k % 3 - 1;
                    const int inside = iy >= 0 && iy < side && ix >= 0 && ix < side;
                    column[(c * 9 + k) * pixels + y * out + x] = inside ? input[(c * side + iy) * side + ix] : 0.0f;
                }
    for (int f = 0; f < filters; f++) {
        float *row = output + (size_t)f * pixels;
        for (int p = 0; p < pixels; p++) row[p] = 0.0f;
        for (int d = 0; d < depth; d++) {
            const float factor = w[f * depth + d];
            for (int p = 0; p < pixels; p++) row[p] += factor * column[(size_t)d * pixels + p];
        }
        for (int p = 0; p < pixels; p++) row[p] = fmaxf(row[p], 0.0f);
    }
}

static void dense(const float *input, const float *w, float *output, int inputs, int outputs) {
    for (int o = 0; o < outputs; o++) {
        float sum = 0;
        for (int i = 0; i < inputs; i++) sum += w[(size_t)o * inputs + i] * input[i];
        output[o] = fmaxf(sum, 0.0f);
    }
}

int main(void) {
    float *image = weights(3 * 48 * 48);
    float *w1 = weights(32 * 3 * 9), *w2 = weights(64 * 32 * 9), *w3 = weights(128 * 64 * 9);
    float *w4 = weights((size_t)4608 * 512), *w5 = weights(512 * 100);
    float *column = allocate(sizeof(float) * 64 * 9 * 48 * 48), *a = allocate(sizeof(float) * 128 * 48 * 48);
    float *b = allocate(sizeof(float) * 128 * 48 * 48);
    recording_begins();
    convolve(image, w1, column, a, 3, 32, 48, 2);
    convolve(a, w2, column, b, 32, 64, 24, 2);
    convolve(b, w3, column, a, 64, 128, 12, 2);
    dense(a, w4, b, 4608, 512);
    dense(b, w5, a, 512, 100);
    printf("%.6f\n", a[1]);
    return 0;
}
