/* Random batches on a trie whose records are a plain list. After each batch, root and records are
 * those of a trie that is built at once. Too little memory and failing callbacks return their codes
 * and change nothing. Keys are few and short, so that nodes move in every possible way. */
#undef NDEBUG
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "trie/trie.h"

enum { KEYS = 40, RECORDS_MAX = 512, MEMORY = 1 << 16, CALLS_ANY = 1 << 30 };

typedef struct {
    uint8_t path[DIP_TRIE_NIBBLES_MAX];
    size_t path_len;
    uint8_t *rlp;
    size_t len;
} record;

typedef struct {
    record at[RECORDS_MAX];
    size_t n;
    int calls_left; /* after so many calls, callbacks fail */
} disk;

static record *find(disk *d, const uint8_t *path, size_t n) {
    for (size_t i = 0; i < d->n; i++)
        if (d->at[i].path_len == n && !memcmp(d->at[i].path, path, n))
            return &d->at[i];
    return NULL;
}

static int load(void *context, const uint8_t *path, size_t n, const uint8_t **rlp, size_t *len) {
    disk *d = context;
    record *r = find(d, path, n);
    if (d->calls_left-- == 0)
        return -1;
    if (r)
        *rlp = r->rlp, *len = r->len;
    return r != NULL;
}

/* Writes are applied after the update returns: records that it read must not change before. */
static disk written;
static uint8_t gone; /* its address marks a deletion */

static int store(void *context, const uint8_t *path, size_t n, const uint8_t *rlp, size_t len) {
    disk *d = context;
    if (d->calls_left-- == 0)
        return -1;
    assert(!find(&written, path, n)); /* each path at most once */
    assert(written.n < RECORDS_MAX);
    record *r = &written.at[written.n++];
    memcpy(r->path, path, n);
    r->path_len = n;
    r->len = len;
    r->rlp = rlp ? malloc(len) : &gone;
    if (rlp)
        memcpy(r->rlp, rlp, len);
    return 0;
}

static void discard(void) {
    for (size_t i = 0; i < written.n; i++)
        if (written.at[i].rlp != &gone)
            free(written.at[i].rlp);
    written.n = 0;
}

static void apply(disk *d) {
    for (size_t i = 0; i < written.n; i++) {
        record *new = &written.at[i], *old = find(d, new->path, new->path_len);
        if (old) {
            free(old->rlp);
            *old = d->at[--d->n];
        }
        assert(new->rlp != &gone || old); /* only an existing record is deleted */
        if (new->rlp != &gone)
            d->at[d->n++] = *new;
    }
    written.n = 0;
}

static void clear(disk *d) {
    for (size_t i = 0; i < d->n; i++)
        free(d->at[i].rlp);
    d->n = 0;
}

static uint64_t seed = 88172645463325252u;

static unsigned pick(unsigned n) { /* xorshift64 */
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (unsigned)(seed % n);
}

static int by_key(const void *a, const void *b) {
    const dip_trie_item *x = a, *y = b;
    size_t both = x->key_len < y->key_len ? x->key_len : y->key_len;
    int order = memcmp(x->key, y->key, both);
    return order ? order : (x->key_len > y->key_len) - (x->key_len < y->key_len);
}

static uint8_t keys[KEYS][8], values[KEYS][64];
static dip_trie_item all[KEYS]; /* value_len 0: the key has no value */

/* Ascending, different keys of up to 4 bytes, many with a common prefix. */
static void make_keys(void) {
    static const uint8_t bytes[] = {0x00, 0x01, 0x10, 0xff};
    for (unsigned i = 0; i < KEYS; i++) {
        int fresh;
        do {
            all[i] = (dip_trie_item){keys[i], pick(5), values[i], 0};
            for (unsigned j = 0; j < all[i].key_len; j++)
                keys[i][j] = bytes[pick(4)];
            fresh = 1;
            for (unsigned j = 0; j < i; j++)
                fresh &= by_key(&all[i], &all[j]) != 0;
        } while (!fresh);
    }
    qsort(all, KEYS, sizeof *all, by_key);
}

/* Runs the update with growing memory and with later and later failures, then to its end. */
static void update(disk *d, uint8_t root[32], const dip_trie_item *items, size_t n) {
    uint8_t before[32];
    memcpy(before, root, 32);
    const dip_trie_records records = {d, load, store};
    int status = DIP_TRIE_MEMORY;
    for (size_t len = 0; status == DIP_TRIE_MEMORY; len += 1 + len / 2) {
        uint8_t *memory = malloc(len + !len); /* the exact size, so that a write past it is seen */
        assert(memory && len < MEMORY);
        discard();
        d->calls_left = CALLS_ANY;
        status = dip_trie_update(root, before, items, n, &records, memory, len);
        assert(status == DIP_TRIE_OK || !memcmp(root, before, 32));
        free(memory);
    }
    assert(status == DIP_TRIE_OK);
    int calls = CALLS_ANY - d->calls_left;
    uint8_t again[32], *memory = malloc(MEMORY);
    for (int limit = 0; limit <= calls; limit += 1 + limit / 3) {
        discard();
        d->calls_left = limit;
        memcpy(again, before, 32);
        status = dip_trie_update(again, before, items, n, &records, memory, MEMORY);
        assert(status == (limit < calls ? DIP_TRIE_STOPPED : DIP_TRIE_OK));
    }
    discard();
    d->calls_left = CALLS_ANY;
    assert(dip_trie_update(again, before, items, n, &records, memory, MEMORY) == DIP_TRIE_OK);
    assert(!memcmp(again, root, 32));
    free(memory);
    apply(d);
}

static void compare(disk *stored, const uint8_t root[32]) {
    static disk fresh;
    static uint8_t memory[MEMORY];
    uint8_t expected[32], unread[32];
    dip_trie_records records = {&fresh, NULL, store};
    fresh.calls_left = CALLS_ANY;
    assert(!dip_trie_update(expected, NULL, all, KEYS, &records, memory, MEMORY));
    records.store = NULL;
    assert(!dip_trie_update(unread, NULL, all, KEYS, &records, memory, MEMORY));
    assert(!memcmp(expected, root, 32) && !memcmp(unread, root, 32));
    apply(&fresh);
    assert(fresh.n == stored->n);
    for (size_t i = 0; i < fresh.n; i++) {
        const record *a = &fresh.at[i], *b = find(stored, a->path, a->path_len);
        assert(b && a->len == b->len && !memcmp(a->rlp, b->rlp, a->len));
    }
    clear(&fresh);
}

static void workload(uint8_t empty_root[32]) {
    static disk stored;
    uint8_t root[32];
    memcpy(root, empty_root, 32);
    make_keys();
    for (int batch = 0; batch < 12; batch++) {
        dip_trie_item items[KEYS];
        size_t n = 0;
        unsigned share = 1 + pick(8);
        for (unsigned i = 0; i < KEYS; i++) {
            if (pick(8) >= share)
                continue;
            all[i].value_len = pick(3) ? (pick(2) ? 1 + pick(3) : 40) : 0;
            for (size_t j = 0; j < all[i].value_len; j++)
                ((uint8_t *)all[i].value)[j] = (uint8_t)pick(256);
            items[n++] = all[i];
        }
        update(&stored, root, items, n);
        compare(&stored, root);
    }
    for (unsigned i = 0; i < KEYS; i++)
        all[i].value_len = 0;
    update(&stored, root, all, KEYS);
    assert(stored.n == 0 && !memcmp(root, empty_root, 32));
}

int main(void) {
    uint8_t root[32], memory[64];
    const dip_trie_records none = {NULL, NULL, NULL};
    assert(!dip_trie_update(root, NULL, NULL, 0, &none, memory, 0));
    const dip_trie_item twice[] = {{(const uint8_t *)"k", 1, memory, 1},
                                   {(const uint8_t *)"k", 1, memory, 1}};
    assert(dip_trie_update(root, NULL, twice, 2, &none, memory, 64) == DIP_TRIE_ARGUMENT);
    static const uint8_t long_key[DIP_TRIE_KEY_BYTES_MAX + 1];
    const dip_trie_item too_long = {long_key, sizeof long_key, memory, 1};
    assert(dip_trie_update(root, NULL, &too_long, 1, &none, memory, 64) == DIP_TRIE_ARGUMENT);
    uint8_t other[32] = {1};
    assert(dip_trie_update(root, other, NULL, 0, &none, memory, 64) == DIP_TRIE_CORRUPT);
    for (int round = 0; round < 60; round++)
        workload(root);
    return 0;
}
