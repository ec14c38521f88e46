/* The DAG in memory: parents, heights, tips, and the newest vertex of each issuer and topic.
 *
 * A vertex is known by its ordinal: dense, in the order of insertion, so parents come before
 * children. Bodies are on disk. A vertex takes 64 bytes, 4 for each edge, about 11 in the index by
 * id and 5 in its issuer's order; no operation costs O(tips) or O(cone).
 * All memory is the caller's: it grows the arrays until dip_graph_fits before it inserts. A graph
 * belongs to one thread at a time. */
#ifndef DIP_GRAPH_H
#define DIP_GRAPH_H

#include <stddef.h>
#include <stdint.h>

#include "dag/vertex.h"

#define DIP_NONE UINT32_MAX
#define DIP_LEVELS_MAX 12 /* of a skip list: one tower in four has a further level; 4^12 vertices */
#define DIP_SWEEP_MAX 1024 /* draws of one selection, draws of an expired tip included */

typedef struct { /* one cache line */
    uint8_t id[32];
    uint64_t seq;
    uint32_t height;     /* 1 + the greatest height of the parents; 1 without parents */
    uint32_t ref_height;
    uint32_t issuer;     /* index in issuers */
    uint32_t edges;      /* index in edges of the parents' ordinals; the tower follows them */
    uint32_t tip;        /* position in tips, or DIP_NONE */
    uint8_t parents_count;
    uint8_t levels;      /* of the tower: on each, the issuer's next vertex by (seq, ordinal) */
    uint8_t unused[2];
} dip_node;

typedef struct { uint32_t ordinal, ref_height; } dip_tip;
/* head: the vertex of greatest seq; of two vertices with the same seq, the first inserted. */
typedef struct {
    uint8_t address[20];
    uint32_t head;
    uint32_t first[DIP_LEVELS_MAX], last[DIP_LEVELS_MAX]; /* of its skip list (Pugh 1990) */
} dip_issuer;
typedef struct { uint8_t topic[16]; uint32_t issuer, head; } dip_topic;

/* A hash table with open addressing. The upper 32 bits of a slot are those of the entry's hash,
 * whose first `bits` bits choose the slot. The lower 32 bits are an index, or DIP_NONE in a free
 * slot. */
typedef struct { uint64_t *slots; unsigned bits; } dip_slots;

typedef struct {
    dip_node *nodes;
    dip_tip *tips;
    uint32_t *edges;
    dip_issuer *issuers;
    dip_topic *topics;
    uint32_t count, tips_count, edges_count, issuers_count, topics_count;
    uint32_t towers_count; /* entries of edges that belong to towers */
    uint32_t capacity, edges_capacity, issuers_capacity, topics_capacity; /* tips: capacity too */
    dip_slots by_id, by_issuer, by_topic;
    uint64_t seed; /* secret: peers that knew it could choose which slots collide */
    uint32_t max_parent_age; /* in final heights */
    uint64_t sum; /* of the first 8 bytes of every id, big-endian: equal sets have equal sums */
} dip_graph;

typedef enum {
    DIP_INSERT_ACCEPTED,
    DIP_INSERT_KNOWN,
    DIP_INSERT_MISSING, /* a parent is not in the graph */
    DIP_INSERT_AGE,     /* a parent's ref_height is above, or too far below, the vertex's */
    DIP_INSERT_INVALID, /* the item's verdict is not OK (batches only) */
} dip_inserted;

/* Frees every slot; 1 <= bits <= 32 (asserted), and slots has room for 2^bits. */
void dip_slots_clear(dip_slots *table);
/* Enters every entry of old into the cleared table, which has at least as many bits (asserted). */
void dip_slots_move(dip_slots *table, const dip_slots *old);
/* The number of entries that a table of so many bits may hold: three quarters of its slots. */
size_t dip_slots_limit(unsigned bits);

/* Returns 1 if any `count` vertices with `edges` parents in all can be inserted, else 0. */
int dip_graph_fits(const dip_graph *graph, size_t count, size_t edges);

/* Inserts one well-formed vertex with this id; keeps no reference to it. On MISSING, bit i of
 * *missing is set for each parent i that is not in the graph, else *missing is 0.
 * dip_graph_fits(graph, 1, parents_count) holds (asserted). */
dip_inserted dip_graph_insert(dip_graph *graph, const uint8_t id[32], const dip_vertex *vertex,
                              uint8_t *missing);

/* Inserts the items of a batch in their order. statuses[i] is a dip_inserted, missing[i] is
 * *missing of dip_graph_insert; both have room for count bytes. Accepted vertices get consecutive
 * ordinals. */
void dip_graph_insert_batch(dip_graph *graph, const uint8_t *wire, const dip_vertex_item *items,
                            size_t count, uint8_t *statuses, uint8_t *missing);

/* Returns the ordinal of the vertex with this id, or DIP_NONE. */
uint32_t dip_graph_find(const dip_graph *graph, const uint8_t id[32]);

/* Returns the ordinal of the issuer's newest vertex, on a topic of 16 bytes or, with NULL, on any
 * topic; DIP_NONE if it has none. */
uint32_t dip_graph_latest(const dip_graph *graph, const uint8_t issuer[20], const uint8_t *topic);

/* Writes the ordinals of up to `count` vertices of the issuer with seq >= seq_from, by seq, then by
 * ordinal. Returns the number written. */
size_t dip_graph_range(const dip_graph *graph, const uint8_t issuer[20], uint64_t seq_from,
                       uint32_t *ordinals, size_t count);

/* Returns 1 if a vertex with reference height final_height may have a parent with reference height
 * ref_height: not above it, and at most max_parent_age below. */
int dip_graph_nameable(const dip_graph *graph, uint32_t ref_height, uint32_t final_height);

/* Writes up to k <= DIP_PARENTS_MAX (asserted) different tips that a new vertex may name, drawn by
 * the seed: each set of k such tips is equally likely (uniform random tip selection). Drawn tips
 * that are too old for any later vertex leave the tip set. Returns the number of tips written:
 * fewer than k if DIP_SWEEP_MAX draws found no more. final_height never falls between calls. */
unsigned dip_graph_select(dip_graph *graph, unsigned k, uint32_t final_height, uint64_t seed,
                          uint32_t *ordinals);

#endif
