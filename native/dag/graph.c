#include "dag/graph.h"

#include <assert.h>
#include <string.h>

#include "assert/dip_assert.h"

#define AHEAD 4 /* how many vertices before its insertion the slots of a vertex are prefetched */

static_assert(sizeof(dip_node) == 64, "a node is one cache line");

/* The finaliser of SplitMix64 (Steele, Lea, Flood 2014). */
static inline uint64_t mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

static inline uint64_t word(const uint8_t *at) {
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* Ids and addresses are hashes themselves, so eight of their bytes suffice; topics are not. */
static inline uint64_t hash_id(const dip_graph *g, const uint8_t *id) {
    return mix(word(id) ^ g->seed);
}

static inline uint64_t hash_topic(const dip_graph *g, uint32_t issuer, const uint8_t topic[16]) {
    return mix(mix(mix(g->seed + issuer) ^ word(topic)) ^ word(topic + 8));
}

static inline size_t slot_first(const dip_slots *t, uint64_t hash) {
    return (size_t)(hash >> (64 - t->bits));
}

static inline size_t slot_next(const dip_slots *t, size_t at) {
    return (at + 1) & (((size_t)1 << t->bits) - 1);
}

void dip_slots_clear(dip_slots *t) {
    DIP_ASSERT(t->bits >= 1 && t->bits <= 32);
    memset(t->slots, 0xff, sizeof(uint64_t) << t->bits);
}

size_t dip_slots_limit(unsigned bits) {
    return ((size_t)1 << bits) / 4 * 3;
}

static void slots_add(dip_slots *t, uint64_t hash, uint32_t index) {
    size_t at = slot_first(t, hash);
    while ((uint32_t)t->slots[at] != DIP_NONE)
        at = slot_next(t, at);
    t->slots[at] = (hash & ~(uint64_t)UINT32_MAX) | index;
}

void dip_slots_move(dip_slots *t, const dip_slots *old) {
    DIP_ASSERT(t->bits >= old->bits);
    for (size_t i = 0; i < (size_t)1 << old->bits; i++)
        if ((uint32_t)old->slots[i] != DIP_NONE)
            slots_add(t, old->slots[i], (uint32_t)old->slots[i]);
}

/* Returns the next entry that has the tag of hash, or DIP_NONE; *at begins at slot_first. */
static inline uint32_t slots_next(const dip_slots *t, uint64_t hash, size_t *at) {
    for (;; *at = slot_next(t, *at)) {
        uint64_t slot = t->slots[*at];
        if ((uint32_t)slot == DIP_NONE)
            return DIP_NONE;
        if (slot >> 32 == hash >> 32) {
            *at = slot_next(t, *at);
            return (uint32_t)slot;
        }
    }
}

static uint32_t find_id(const dip_graph *g, uint64_t hash, const uint8_t *id) {
    size_t at = slot_first(&g->by_id, hash);
    for (;;) {
        uint32_t ordinal = slots_next(&g->by_id, hash, &at);
        if (ordinal == DIP_NONE || !memcmp(g->nodes[ordinal].id, id, 32))
            return ordinal;
    }
}

static uint32_t find_issuer(const dip_graph *g, uint64_t hash, const uint8_t *address) {
    size_t at = slot_first(&g->by_issuer, hash);
    for (;;) {
        uint32_t issuer = slots_next(&g->by_issuer, hash, &at);
        if (issuer == DIP_NONE || !memcmp(g->issuers[issuer].address, address, 20))
            return issuer;
    }
}

static uint32_t find_topic(const dip_graph *g, uint64_t hash, uint32_t issuer,
                           const uint8_t *topic) {
    size_t at = slot_first(&g->by_topic, hash);
    for (;;) {
        uint32_t index = slots_next(&g->by_topic, hash, &at);
        if (index == DIP_NONE || (g->topics[index].issuer == issuer &&
                                  !memcmp(g->topics[index].topic, topic, 16)))
            return index;
    }
}

int dip_graph_fits(const dip_graph *g, size_t count, size_t edges) {
    size_t ids = dip_slots_limit(g->by_id.bits), topics = dip_slots_limit(g->by_topic.bits);
    size_t issuers = dip_slots_limit(g->by_issuer.bits);
    edges += count * DIP_LEVELS_MAX;
    return count <= g->capacity - g->count && edges <= g->edges_capacity - g->edges_count &&
           count <= g->issuers_capacity - g->issuers_count &&
           count <= g->topics_capacity - g->topics_count && g->count + count <= ids &&
           g->issuers_count + count <= issuers && g->topics_count + count <= topics;
}

static void tip_add(dip_graph *g, uint32_t ordinal) {
    dip_node *node = &g->nodes[ordinal];
    node->tip = g->tips_count;
    g->tips[g->tips_count++] = (dip_tip){ordinal, node->ref_height};
}

static void tip_remove(dip_graph *g, uint32_t ordinal) {
    uint32_t hole = g->nodes[ordinal].tip;
    if (hole == DIP_NONE)
        return;
    DIP_ASSERT(hole < g->tips_count);
    dip_tip last = g->tips[--g->tips_count];
    g->tips[hole] = last;
    g->nodes[last.ordinal].tip = hole;
    g->nodes[ordinal].tip = DIP_NONE;
}

static uint32_t enter_issuer(dip_graph *g, const uint8_t *address, uint32_t ordinal) {
    uint64_t hash = hash_id(g, address);
    uint32_t issuer = find_issuer(g, hash, address);
    if (issuer == DIP_NONE) {
        issuer = g->issuers_count++;
        memcpy(g->issuers[issuer].address, address, 20);
        g->issuers[issuer].head = ordinal;
        memset(g->issuers[issuer].first, 0xff, sizeof g->issuers[issuer].first);
        memset(g->issuers[issuer].last, 0xff, sizeof g->issuers[issuer].last);
        slots_add(&g->by_issuer, hash, issuer);
    } else if (g->nodes[ordinal].seq > g->nodes[g->issuers[issuer].head].seq) {
        g->issuers[issuer].head = ordinal;
    }
    return issuer;
}

/* The tower of a vertex, or the head of the issuer's skip list when ordinal is DIP_NONE. */
static inline uint32_t *tower(const dip_graph *g, dip_issuer *issuer, uint32_t ordinal) {
    if (ordinal == DIP_NONE)
        return issuer->first;
    return &g->edges[g->nodes[ordinal].edges + g->nodes[ordinal].parents_count];
}

/* Enters a vertex into its issuer's skip list, after vertices of equal seq. A device counts up, so
 * the place is nearly always the end, which is found without a search. The seeded hash decides
 * the height of the tower, so peers cannot choose it. */
static void enter_order(dip_graph *g, uint32_t ordinal, uint64_t hash) {
    dip_node *node = &g->nodes[ordinal];
    dip_issuer *issuer = &g->issuers[node->issuer];
    uint32_t newest = issuer->last[0], at = DIP_NONE;
    unsigned zeros = (unsigned)__builtin_ctzll(hash | 1ull << (2 * DIP_LEVELS_MAX - 2));
    int ends = newest == DIP_NONE || g->nodes[newest].seq <= node->seq;
    node->levels = (uint8_t)(1 + zeros / 2);
    g->edges_count += node->levels;
    g->towers_count += node->levels;
    uint32_t *own = tower(g, issuer, ordinal);
    for (unsigned level = ends ? node->levels : DIP_LEVELS_MAX; level-- > 0;) {
        uint32_t *link = &tower(g, issuer, ends ? issuer->last[level] : at)[level];
        while (!ends && *link != DIP_NONE && g->nodes[*link].seq <= node->seq) {
            at = *link;
            link = &tower(g, issuer, at)[level];
        }
        if (level >= node->levels)
            continue;
        own[level] = *link;
        *link = ordinal;
        if (own[level] == DIP_NONE)
            issuer->last[level] = ordinal;
    }
}

static void enter_topic(dip_graph *g, uint32_t issuer, const uint8_t *topic, uint32_t ordinal) {
    uint64_t hash = hash_topic(g, issuer, topic);
    uint32_t index = find_topic(g, hash, issuer, topic);
    if (index == DIP_NONE) {
        index = g->topics_count++;
        memcpy(g->topics[index].topic, topic, 16);
        g->topics[index].issuer = issuer;
        g->topics[index].head = ordinal;
        slots_add(&g->by_topic, hash, index);
    } else if (g->nodes[ordinal].seq > g->nodes[g->topics[index].head].seq) {
        g->topics[index].head = ordinal;
    }
}

int dip_graph_nameable(const dip_graph *g, uint32_t ref_height, uint32_t final_height) {
    return ref_height <= final_height && final_height - ref_height <= g->max_parent_age;
}

/* Writes the parents' ordinals, DIP_NONE for a parent that is not in the graph. The cost is cache
 * misses, so all slots, then all nodes, are prefetched before the first is read. */
static void find_parents(const dip_graph *g, const dip_vertex *v, uint32_t *ordinals) {
    uint64_t hashes[DIP_PARENTS_MAX];
    unsigned k = v->parents_count;
    for (unsigned i = 0; i < k; i++) {
        hashes[i] = hash_id(g, v->parents + 32 * i);
        __builtin_prefetch(&g->by_id.slots[slot_first(&g->by_id, hashes[i])]);
    }
    for (unsigned i = 0; i < k; i++) {
        size_t at = slot_first(&g->by_id, hashes[i]);
        uint32_t candidate = slots_next(&g->by_id, hashes[i], &at);
        if (candidate != DIP_NONE)
            __builtin_prefetch(&g->nodes[candidate], 1);
    }
    for (unsigned i = 0; i < k; i++)
        ordinals[i] = find_id(g, hashes[i], v->parents + 32 * i);
}

static uint64_t first_word(const uint8_t id[32]) {
    uint64_t word = 0;
    for (unsigned i = 0; i < 8; i++)
        word = word << 8 | id[i];
    return word;
}

static void attach(dip_graph *g, const uint8_t id[32], uint64_t hash, const dip_vertex *v,
                   const uint32_t *parents) {
    DIP_ASSERT(dip_graph_fits(g, 1, v->parents_count));
    uint32_t ordinal = g->count++, height = 0;
    dip_node *node = &g->nodes[ordinal];
    memset(node, 0, sizeof *node);
    node->edges = g->edges_count;
    node->parents_count = v->parents_count;
    for (unsigned i = 0; i < v->parents_count; i++) {
        const dip_node *parent = &g->nodes[parents[i]];
        g->edges[g->edges_count++] = parents[i];
        if (parent->height > height)
            height = parent->height;
        tip_remove(g, parents[i]);
    }
    memcpy(node->id, id, 32);
    node->seq = v->seq;
    node->height = height + 1;
    node->ref_height = v->ref_height;
    node->issuer = enter_issuer(g, v->issuer, ordinal);
    enter_order(g, ordinal, hash);
    enter_topic(g, node->issuer, v->topic, ordinal);
    slots_add(&g->by_id, hash, ordinal);
    tip_add(g, ordinal);
    g->sum += first_word(id);
}

dip_inserted dip_graph_insert(dip_graph *g, const uint8_t id[32], const dip_vertex *v,
                              uint8_t *missing) {
    uint64_t hash = hash_id(g, id);
    uint32_t parents[DIP_PARENTS_MAX];
    *missing = 0;
    if (find_id(g, hash, id) != DIP_NONE)
        return DIP_INSERT_KNOWN;
    find_parents(g, v, parents);
    for (unsigned i = 0; i < v->parents_count; i++) {
        if (parents[i] == DIP_NONE)
            *missing |= (uint8_t)(1u << i);
        else if (!dip_graph_nameable(g, g->nodes[parents[i]].ref_height, v->ref_height))
            return DIP_INSERT_AGE;
    }
    if (*missing)
        return DIP_INSERT_MISSING;
    attach(g, id, hash, v, parents);
    return DIP_INSERT_ACCEPTED;
}

static void prefetch(const dip_graph *g, const uint8_t *wire, const dip_vertex_item *item) {
    dip_vertex v;
    if (item->verdict || dip_vertex_parse(wire + item->start, item->size, &v))
        return;
    __builtin_prefetch(&g->by_id.slots[slot_first(&g->by_id, hash_id(g, item->id))]);
    for (unsigned i = 0; i < v.parents_count; i++)
        __builtin_prefetch(
            &g->by_id.slots[slot_first(&g->by_id, hash_id(g, v.parents + 32 * i))]);
}

void dip_graph_insert_batch(dip_graph *g, const uint8_t *wire, const dip_vertex_item *items,
                            size_t count, uint8_t *statuses, uint8_t *missing) {
    for (size_t i = 0; i < count; i++) {
        dip_vertex v;
        if (i + AHEAD < count)
            prefetch(g, wire, &items[i + AHEAD]);
        missing[i] = 0;
        if (items[i].verdict || dip_vertex_parse(wire + items[i].start, items[i].size, &v))
            statuses[i] = DIP_INSERT_INVALID;
        else
            statuses[i] = (uint8_t)dip_graph_insert(g, items[i].id, &v, &missing[i]);
    }
}

uint32_t dip_graph_find(const dip_graph *g, const uint8_t id[32]) {
    return find_id(g, hash_id(g, id), id);
}

uint32_t dip_graph_latest(const dip_graph *g, const uint8_t issuer[20], const uint8_t *topic) {
    uint32_t index = find_issuer(g, hash_id(g, issuer), issuer);
    if (index == DIP_NONE || !topic)
        return index == DIP_NONE ? DIP_NONE : g->issuers[index].head;
    uint32_t found = find_topic(g, hash_topic(g, index, topic), index, topic);
    return found == DIP_NONE ? DIP_NONE : g->topics[found].head;
}

size_t dip_graph_range(const dip_graph *g, const uint8_t address[20], uint64_t seq_from,
                       uint32_t *ordinals, size_t count) {
    uint32_t index = find_issuer(g, hash_id(g, address), address), at = DIP_NONE, next = DIP_NONE;
    size_t found = 0;
    for (unsigned level = DIP_LEVELS_MAX; index != DIP_NONE && level-- > 0;)
        while ((next = tower(g, &g->issuers[index], at)[level]) != DIP_NONE &&
               g->nodes[next].seq < seq_from)
            at = next;
    for (; found < count && next != DIP_NONE; next = tower(g, NULL, next)[0])
        ordinals[found++] = next;
    return found;
}

unsigned dip_graph_select(dip_graph *g, unsigned k, uint32_t final_height, uint64_t seed,
                          uint32_t *ordinals) {
    DIP_ASSERT(k <= DIP_PARENTS_MAX);
    unsigned found = 0;
    for (unsigned draw = 0; draw < DIP_SWEEP_MAX && found < k && found < g->tips_count; draw++) {
        uint64_t random = mix(seed += 0x9e3779b97f4a7c15);
        dip_tip tip = g->tips[(size_t)((unsigned __int128)random * g->tips_count >> 64)];
        unsigned same = 0;
        if (tip.ref_height <= final_height && final_height - tip.ref_height > g->max_parent_age) {
            tip_remove(g, tip.ordinal);
            continue;
        }
        while (same < found && ordinals[same] != tip.ordinal)
            same++;
        if (same == found && tip.ref_height <= final_height)
            ordinals[found++] = tip.ordinal;
    }
    return found;
}
