/* Shared by the traced programs: a seeded generator, and the marker from which recording starts. */
#ifndef COMMON_H
#define COMMON_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t random_state = 0x9E3779B97F4A7C15ull;

/* xorshift64*, Vigna 2016 */
static inline uint64_t random_next(void) {
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545F4914F6CDD1Dull;
}

/* Uniform in [0, 1). */
static inline double random_unit(void) { return (double)(random_next() >> 11) * 0x1.0p-53; }

/* The recorder looks up this symbol and starts where it is first executed. */
__attribute__((noinline)) void recording_begins(void) { __asm__ volatile(""); }

static inline void *allocate(size_t bytes) {
    void *memory = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (!memory) {
        fputs("out of memory\n", stderr);
        exit(1);
    }
    return memory;
}

#endif
