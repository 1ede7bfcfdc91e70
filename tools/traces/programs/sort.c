/* Bottom-up merge sort of 2^18 records of 16 bytes (8-byte key and payload), from runs of 64 sorted by insertion. */
#include "common.h"

enum { COUNT = 1 << 18, RUN = 64 };

typedef struct {
    uint64_t key, payload;
} record;

int main(void) {
    record *a = allocate(sizeof(record) * COUNT), *b = allocate(sizeof(record) * COUNT);
    for (int i = 0; i < COUNT; i++) a[i] = (record){random_next(), (uint64_t)i};
    for (int start = 0; start < COUNT; start += RUN)
        for (int i = start + 1; i < start + RUN; i++) {
            const record r = a[i];
            int j = i;
            for (; j > start && a[j - 1].key > r.key; j--) a[j] = a[j - 1];
            a[j] = r;
        }
    int width = RUN;
    for (; width < COUNT; width *= 2) {
        if (width == 4096) recording_begins(); /* from here on a pair of runs no longer fits the cache */
        for (int start = 0; start < COUNT; start += 2 * width) {
            int i = start, j = start + width;
            const int middle = j, end = j + width;
            for (int k = start; k < end; k++) b[k] = j >= end || (i < middle && a[i].key <= a[j].key) ? a[i++] : a[j++];
        }
        record *swap = a;
        a = b;
        b = swap;
    }
    printf("%llu\n", (unsigned long long)a[COUNT / 2].key);
    return 0;
}
