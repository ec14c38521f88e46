/* The DAG in memory: who names whom, heights, tips, and the newest vertex of each issuer and topic.
 *
 * A vertex is a dense ordinal in the order of insertion, parents before children; bodies are on
 * disk. 64 bytes a node, 4 an edge, about 11 in the index by id and 5 in its issuer's order; nothing
 * costs O(tips) or O(cone).
 * The memory is the caller's: it sees to it that dip_graph_fits before it inserts. */
#ifndef DIP_GRAPH_H
#define DIP_GRAPH_H

#include <stddef.h>
#include <stdint.h>

#include "dag/vertex.h"

#define DIP_NONE UINT32_MAX
#define DIP_LEVELS_MAX 12 /* of an issuer's order: towers grow by one in four, 4^12 vertices */
#define DIP_SWEEP_MAX 1024 /* draws of one selection, those that hit an expired tip among them */

typedef struct { /* one cache line */
    uint8_t id[32];
    uint64_t seq;
    uint32_t height;     /* 1 + the greatest height of the parents, 1 without any */
    uint32_t ref_height;
    uint32_t issuer;     /* index in issuers */
    uint32_t edges;      /* the parents' ordinals begin here in edges, the tower follows them */
    uint32_t tip;        /* position in tips, or DIP_NONE */
    uint8_t parents_count;
    uint8_t levels;      /* of the tower: the issuer's next vertex by (seq, ordinal) on each */
    uint8_t unused[2];
} dip_node;

typedef struct { uint32_t ordinal, ref_height; } dip_tip;
/* head: the vertex of greatest seq; of two with one seq, the first that came. */
typedef struct {
    uint8_t address[20];
    uint32_t head;
    uint32_t first[DIP_LEVELS_MAX], last[DIP_LEVELS_MAX]; /* of its order; a skip list (Pugh 1990) */
} dip_issuer;
typedef struct { uint8_t topic[16]; uint32_t issuer, head; } dip_topic;

/* Open addressing: the upper half of a slot is the upper half of the entry's hash, from whose
 * first bits its place is taken; the lower half is an index, DIP_NONE when the slot is free. */
typedef struct { uint64_t *slots; unsigned bits; } dip_slots;

typedef struct {
    dip_node *nodes;
    dip_tip *tips;
    uint32_t *edges;
    dip_issuer *issuers;
    dip_topic *topics;
    uint32_t count, tips_count, edges_count, issuers_count, topics_count;
    uint32_t towers_count; /* entries of edges that are no edges */
    uint32_t capacity, edges_capacity, issuers_capacity, topics_capacity; /* tips: capacity too */
    dip_slots by_id, by_issuer, by_topic;
    uint64_t seed; /* unknown to peers, or they choose which slots collide */
    uint32_t max_parent_age; /* in final heights */
    uint64_t sum; /* of the first 8 bytes of every id, big-endian: equal sets have equal sums */
} dip_graph;

typedef enum {
    DIP_INSERT_ACCEPTED,
    DIP_INSERT_KNOWN,
    DIP_INSERT_MISSING, /* some parent is not here */
    DIP_INSERT_AGE,     /* a parent's ref_height is above, or too far below, the vertex's */
    DIP_INSERT_INVALID, /* its verdict is not OK (batches only) */
} dip_inserted;

/* Makes every slot free; 1 <= bits <= 32 and slots holds 2^bits. */
void dip_slots_clear(dip_slots *table);
/* Enters all of old into the cleared table, which has at least as many bits. */
void dip_slots_move(dip_slots *table, const dip_slots *old);
/* How many entries a table of so many bits takes at most: three quarters of its slots. */
size_t dip_slots_limit(unsigned bits);

/* 1 iff `count` more vertices with `edges` parents in all can be inserted, whatever they are. */
int dip_graph_fits(const dip_graph *graph, size_t count, size_t edges);

/* Inserts one well-formed vertex with this id. On MISSING bit i of *missing is set for every parent
 * i that is not here. Needs dip_graph_fits(graph, 1, parents_count). */
dip_inserted dip_graph_insert(dip_graph *graph, const uint8_t id[32], const dip_vertex *vertex,
                              uint8_t *missing);

/* The items of a batch in their order; statuses and missing take count bytes each. Accepted ones
 * get consecutive ordinals. */
void dip_graph_insert_batch(dip_graph *graph, const uint8_t *wire, const dip_vertex_item *items,
                            size_t count, uint8_t *statuses, uint8_t *missing);

/* Ordinal, or DIP_NONE. */
uint32_t dip_graph_find(const dip_graph *graph, const uint8_t id[32]);

/* The newest vertex of the issuer (topic NULL) or of the issuer on a topic, or DIP_NONE. */
uint32_t dip_graph_latest(const dip_graph *graph, const uint8_t issuer[20], const uint8_t *topic);

/* The issuer's vertices with seq >= seq_from, by seq, then by ordinal: up to count. Their number. */
size_t dip_graph_range(const dip_graph *graph, const uint8_t issuer[20], uint64_t seq_from,
                       uint32_t *ordinals, size_t count);

/* 1 iff a vertex stamped final_height may name a vertex of ref_height as its parent. */
int dip_graph_nameable(const dip_graph *graph, uint32_t ref_height, uint32_t final_height);

/* Up to k <= DIP_PARENTS_MAX different tips, each set of k nameable ones equally likely (URTS); the
 * seed decides. Tips that it meets and that are too old for ever leave the set. Returns fewer than
 * k where fewer were found in DIP_SWEEP_MAX draws. final_height never falls between calls. */
unsigned dip_graph_select(dip_graph *graph, unsigned k, uint32_t final_height, uint64_t seed,
                          uint32_t *ordinals);

#endif
