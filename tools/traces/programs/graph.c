/* PageRank-style push and breadth-first search on a power-law graph in compressed rows: 2^16 nodes, 2^19 edges. */
#include "common.h"

enum { NODES = 1 << 16, EDGES = 1 << 19 };

/* Preferential choice: the product of two uniform draws favours low numbers; the hash scatters them over memory. */
static uint32_t pick_node(void) {
    const uint32_t rank = (uint32_t)(random_unit() * random_unit() * NODES);
    return (rank * 2654435761u) >> 16;
}

int main(void) {
    uint32_t *from = allocate(sizeof(uint32_t) * EDGES), *to = allocate(sizeof(uint32_t) * EDGES);
    uint32_t *first = allocate(sizeof(uint32_t) * (NODES + 1)), *next = allocate(sizeof(uint32_t) * EDGES);
    uint32_t *level = allocate(sizeof(uint32_t) * NODES), *queue = allocate(sizeof(uint32_t) * NODES);
    double *rank = allocate(sizeof(double) * NODES), *sum = allocate(sizeof(double) * NODES);
    for (int i = 0; i <= NODES; i++) first[i] = 0;
    for (int i = 0; i < EDGES; i++) {
        from[i] = pick_node();
        to[i] = (uint32_t)(random_next() >> 48);
        first[from[i] + 1]++;
    }
    for (int i = 0; i < NODES; i++) first[i + 1] += first[i], level[i] = first[i];
    for (int i = 0; i < EDGES; i++) next[level[from[i]]++] = to[i];
    for (int i = 0; i < NODES; i++) rank[i] = 1.0 / NODES, sum[i] = 0;
    recording_begins();
    for (int i = 0; i < NODES; i++) level[i] = UINT32_MAX;
    uint32_t head = 0, tail = 0;
    uint32_t root = 0;
    while (first[root + 1] - first[root] < 64) root++;
    level[root] = 0;
    queue[tail++] = root;
    while (head < tail) {
        const uint32_t node = queue[head++];
        for (uint32_t e = first[node]; e < first[node + 1]; e++)
            if (level[next[e]] == UINT32_MAX) {
                level[next[e]] = level[node] + 1;
                queue[tail++] = next[e];
            }
    }
    for (int node = 0; node < NODES; node++) {
        const uint32_t degree = first[node + 1] - first[node];
        if (!degree) continue;
        const double share = rank[node] / degree;
        for (uint32_t e = first[node]; e < first[node + 1]; e++) sum[next[e]] += share;
    }
    printf("%u %.9f\n", tail, sum[1]);
    return 0;
}
