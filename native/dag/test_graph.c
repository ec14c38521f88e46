/* Random graphs are compared with a slow model of the rules: heights, tips, newest vertices,
 * selection. */
#undef NDEBUG
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "dag/graph.h"

#define VERTICES 3000
#define ISSUERS 40
#define AGE 60

static uint64_t state = 1;

static uint32_t below(uint32_t n) { /* Knuth's MMIX generator */
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % n);
}

typedef struct {
    uint8_t id[32], issuer[20], topic[16], parents_bytes[DIP_PARENTS_MAX * 32];
    uint32_t parents[DIP_PARENTS_MAX], k, ref_height, height, ordinal;
    uint64_t seq;
    int stands, is_tip;
} model;

static model world[VERTICES];

static void table(dip_slots *slots, unsigned bits) {
    dip_slots old = *slots;
    slots->bits = bits;
    slots->slots = malloc(sizeof(uint64_t) << bits);
    dip_slots_clear(slots);
    if (old.slots)
        dip_slots_move(slots, &old);
    free(old.slots);
}

/* Arrays of exactly the needed size, so that the sanitizers see an entry too many. */
static void room(dip_graph *g, uint32_t capacity, unsigned bits) {
    g->nodes = realloc(g->nodes, capacity * sizeof *g->nodes);
    g->tips = realloc(g->tips, capacity * sizeof *g->tips);
    g->edges_capacity = capacity * (DIP_PARENTS_MAX + DIP_LEVELS_MAX);
    g->edges = realloc(g->edges, g->edges_capacity * sizeof *g->edges);
    g->issuers = realloc(g->issuers, capacity * sizeof *g->issuers);
    g->topics = realloc(g->topics, capacity * sizeof *g->topics);
    g->capacity = g->issuers_capacity = g->topics_capacity = capacity;
    table(&g->by_id, bits), table(&g->by_issuer, bits), table(&g->by_topic, bits);
}

static void release(dip_graph *g) {
    free(g->nodes), free(g->tips), free(g->edges), free(g->issuers), free(g->topics);
    free(g->by_id.slots), free(g->by_issuer.slots), free(g->by_topic.slots);
}

/* A quarter of the ids share their first eight bytes, and so their slot, with others. */
static void invent(uint32_t i) {
    model *m = &world[i];
    for (int j = 0; j < 32; j++)
        m->id[j] = (uint8_t)below(256);
    memcpy(m->id + 8, &i, sizeof i);
    if (!below(4))
        memset(m->id, 0xcc, 8);
    memset(m->issuer, (int)below(ISSUERS), 20);
    memset(m->topic, (int)below(5), 16);
    m->seq = below(2) ? i / 8 : below(500); /* counting up as a device does, or in random order */
    m->k = i ? below(DIP_PARENTS_MAX + 1) : 0;
    m->ref_height = i / 10;
    for (uint32_t p = 0; p < m->k; p++) {
        const model *parent = &world[m->parents[p] = i - 1 - below(i < 200 ? i : 200)];
        memcpy(m->parents_bytes + 32 * p, parent->id, 32);
        if (parent->ref_height > m->ref_height)
            m->ref_height = parent->ref_height;
    }
    if (!below(30)) /* random: may be below a parent's, or far above it */
        m->ref_height += below(2 * AGE) - (m->ref_height > AGE ? AGE : 0);
}

static void judge(uint32_t i) {
    model *m = &world[i];
    m->stands = 1;
    for (uint32_t p = 0; p < m->k; p++) {
        const model *parent = &world[m->parents[p]];
        m->stands &= parent->stands && parent->ref_height <= m->ref_height &&
                     m->ref_height - parent->ref_height <= AGE;
        if (parent->height > m->height)
            m->height = parent->height;
    }
    m->height++;
    m->is_tip = m->stands;
    for (uint32_t p = 0; p < m->k && m->stands; p++)
        world[m->parents[p]].is_tip = 0;
}

static dip_inserted insert(dip_graph *g, uint32_t i, uint8_t *missing) {
    const model *m = &world[i];
    dip_vertex v = {.seq = m->seq, .ref_height = m->ref_height, .parents_count = (uint8_t)m->k,
                    .issuer = m->issuer, .topic = m->topic, .parents = m->parents_bytes};
    return dip_graph_insert(g, m->id, &v, missing);
}

static void test_newest(const dip_graph *g, const uint8_t *topic) {
    for (int issuer = 0; issuer <= ISSUERS; issuer++) {
        uint8_t address[20];
        uint32_t best = DIP_NONE;
        memset(address, issuer, 20);
        for (uint32_t i = 0; i < VERTICES; i++)
            if (world[i].stands && world[i].issuer[0] == issuer &&
                (!topic || world[i].topic[0] == topic[0]) &&
                (best == DIP_NONE || world[i].seq > world[best].seq))
                best = i;
        uint32_t found = dip_graph_latest(g, address, topic);
        assert(found == (best == DIP_NONE ? DIP_NONE : world[best].ordinal));
    }
}

static int by_seq(const void *one, const void *other) {
    const model *a = *(model *const *)one, *b = *(model *const *)other;
    return a->seq != b->seq ? (a->seq < b->seq ? -1 : 1) : (a < b ? -1 : a > b);
}

static void test_range(const dip_graph *g) {
    static model *mine[VERTICES];
    uint32_t ordinals[VERTICES];
    for (int round = 0; round < 1000; round++) {
        uint64_t from = below(2) ? below(500) : 0;
        size_t most = below(2) ? below(5) : VERTICES, count = 0;
        uint8_t address[20];
        memset(address, (int)below(ISSUERS + 1), 20);
        for (uint32_t i = 0; i < VERTICES; i++)
            if (world[i].stands && world[i].issuer[0] == address[0] && world[i].seq >= from)
                mine[count++] = &world[i];
        qsort(mine, count, sizeof *mine, by_seq);
        size_t found = dip_graph_range(g, address, from, ordinals, most);
        assert(found == (count < most ? count : most));
        for (size_t at = 0; at < found; at++)
            assert(ordinals[at] == mine[at]->ordinal);
    }
}

static void test_select(dip_graph *g, uint32_t final_height) {
    uint32_t eligible = 0, chosen[DIP_PARENTS_MAX];
    for (uint32_t i = 0; i < VERTICES; i++)
        eligible += world[i].is_tip && world[i].ref_height <= final_height &&
                    final_height - world[i].ref_height <= AGE;
    for (uint64_t seed = 0; seed < 200; seed++) {
        unsigned k = 1 + below(DIP_PARENTS_MAX);
        unsigned found = dip_graph_select(g, k, final_height, seed, chosen);
        assert(found <= eligible && (found == k || found == eligible || g->tips_count > 50));
        assert(found == k || eligible < g->tips_count / 4 + k);
        for (unsigned i = 0; i < found; i++) {
            assert(g->nodes[chosen[i]].tip != DIP_NONE);
            assert(dip_graph_nameable(g, g->nodes[chosen[i]].ref_height, final_height));
            for (unsigned j = 0; j < i; j++)
                assert(chosen[i] != chosen[j]);
        }
    }
    for (uint32_t at = 0; at < g->tips_count; at++)
        assert(g->nodes[g->tips[at].ordinal].tip == at);
}

int main(void) {
    dip_graph g = {.max_parent_age = AGE, .seed = 77};
    unsigned bits = 3;
    uint8_t missing;
    room(&g, 6, bits);
    assert(dip_graph_fits(&g, 6, 48) && !dip_graph_fits(&g, 7, 0) && !dip_graph_fits(&g, 6, 49));
    for (uint32_t i = 0; i < VERTICES; i++) {
        invent(i);
        judge(i);
        if (!dip_graph_fits(&g, 1, world[i].k)) {
            bits++;
            room(&g, (uint32_t)dip_slots_limit(bits), bits);
        }
        uint32_t before = g.count;
        dip_inserted done = insert(&g, i, &missing);
        assert((done == DIP_INSERT_ACCEPTED) == world[i].stands);
        assert(g.count == before + (uint32_t)world[i].stands);
        for (uint32_t p = 0; p < world[i].k && done == DIP_INSERT_MISSING; p++)
            assert((missing >> p & 1) == !world[world[i].parents[p]].stands);
        if (!world[i].stands)
            continue;
        world[i].ordinal = before;
        assert(g.nodes[before].height == world[i].height);
        assert(insert(&g, i, &missing) == DIP_INSERT_KNOWN && g.count == before + 1);
    }
    uint32_t tips = 0;
    for (uint32_t i = 0; i < VERTICES; i++) {
        tips += (uint32_t)world[i].is_tip;
        assert(dip_graph_find(&g, world[i].id) == (world[i].stands ? world[i].ordinal : DIP_NONE));
    }
    assert(tips == g.tips_count && tips > 10 && g.count > 100);
    test_range(&g);
    test_newest(&g, NULL);
    for (uint8_t topic = 0; topic < 6; topic++)
        test_newest(&g, (uint8_t[16]){topic, topic, topic, topic, topic, topic, topic, topic, topic,
                                      topic, topic, topic, topic, topic, topic, topic});
    for (uint32_t final_height = 10; final_height < 500; final_height += 35)
        test_select(&g, final_height);
    assert(dip_graph_select(&g, 4, 1000, 1, (uint32_t[8]){0}) == 0);
    release(&g);
    return 0;
}
