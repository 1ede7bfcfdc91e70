/* Hash join: build a chained table over 2^16 rows, then probe it with 2^19 rows, writing each match to the result. */
#include "common.h"

enum { BUILD = 1 << 16, PROBE = 1 << 19, BUCKETS = 1 << 16 };

typedef struct {
    uint64_t key, value;
} row;

typedef struct {
    row row;
    uint32_t next;
    uint32_t used;
} entry;

static inline uint32_t hash(uint64_t key) { return (uint32_t)((key * 0x9E3779B97F4A7C15ull) >> 48); }

int main(void) {
    row *inner = allocate(sizeof(row) * BUILD), *outer = allocate(sizeof(row) * PROBE);
    row *result = allocate(2 * sizeof(row) * PROBE);
    entry *entries = allocate(sizeof(entry) * (BUILD + 1));
    uint32_t *buckets = allocate(sizeof(uint32_t) * BUCKETS);
    for (int i = 0; i < BUILD; i++) inner[i] = (row){random_next() >> 44, (uint64_t)i};
    for (int i = 0; i < PROBE; i++) outer[i] = (row){random_next() >> 44, (uint64_t)i};
    for (int i = 0; i < BUCKETS; i++) buckets[i] = 0;
    recording_begins();
    for (uint32_t i = 1; i <= BUILD; i++) {
        const uint32_t bucket = hash(inner[i - 1].key);
        entries[i] = (entry){inner[i - 1], buckets[bucket], 0};
        buckets[bucket] = i;
    }
    size_t matches = 0;
    for (int i = 0; i < PROBE; i++)
        for (uint32_t e = buckets[hash(outer[i].key)]; e; e = entries[e].next)
            if (entries[e].row.key == outer[i].key && matches < 2 * PROBE) {
                entries[e].used++;
                result[matches++] = (row){outer[i].value, entries[e].row.value};
            }
    printf("%zu\n", matches);
    return 0;
}
