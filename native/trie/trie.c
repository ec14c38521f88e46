/* The batch update: one walk down with all items at once (trie_change.c), then one walk up over the
 * changed nodes, which hashes and stores them. */
#include "trie/trie.h"

#include <string.h>

#include "assert/dip_assert.h"
#include "hash/keccak.h"
#include "trie/trie_change.h"

enum { HASH_LEN = 32 };

typedef dip_trie_node node_t;
typedef dip_trie_slot slot_t;
typedef dip_trie_item item_t;
typedef dip_trie_work work;

static int ascending(const item_t *items, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const item_t *b = items + i, *a = i ? b - 1 : NULL;
        if (b->key_len > DIP_TRIE_KEY_BYTES_MAX)
            return 0;
        if (!a)
            continue;
        size_t both = a->key_len < b->key_len ? a->key_len : b->key_len;
        int order = both ? memcmp(a->key, b->key, both) : 0;
        if (order > 0 || (order == 0 && a->key_len >= b->key_len))
            return 0;
    }
    return 1;
}

/* Encodes the node of the slot at path[0, depth) and sets the slot's `raw`; children come first. */
static int finish(work *w, slot_t *slot, size_t depth) {
    node_t *node = slot->live;
    if (slot->raw || !node)
        return DIP_TRIE_OK;
    DIP_ASSERT(depth <= DIP_TRIE_NIBBLES_MAX);
    int status = DIP_TRIE_OK;
    if (node->kind == DIP_TRIE_EXTENSION) {
        memcpy(w->path + depth, node->nibbles, node->nibbles_len);
        status = finish(w, &node->child[0], depth + node->nibbles_len);
    } else if (node->kind == DIP_TRIE_BRANCH) {
        for (uint8_t i = 0; i < 16 && !status; i++) {
            w->path[depth] = i;
            status = finish(w, &node->child[i], depth + 1);
        }
    }
    uint8_t *item = status ? NULL : dip_trie_take(&w->arena, 1 + HASH_LEN);
    if (!item)
        return status ? status : DIP_TRIE_MEMORY;
    slot->raw = item;
    dip_trie_arena before = w->arena;
    const uint8_t *rlp;
    size_t len;
    status = dip_trie_encode(&w->arena, node, &rlp, &len);
    if (status)
        return status;
    if (len <= DIP_TRIE_INLINE_MAX && depth > 0) {
        memcpy(item, rlp, len);
        if (node->stored)
            status = dip_trie_drop(w, depth);
    } else {
        const dip_trie_records *r = w->records;
        *item = DIP_TRIE_HASH_ITEM;
        dip_keccak256(item + 1, rlp, len);
        if (r->store && r->store(r->context, w->path, depth, rlp, len) < 0)
            status = DIP_TRIE_STOPPED;
    }
    w->arena = before; /* gives back the encoding, which is not needed again */
    return status;
}

int dip_trie_update(uint8_t root[32], const uint8_t *before, const dip_trie_item *items, size_t n,
                    const dip_trie_records *records, void *memory, size_t memory_len) {
    DIP_ASSERT(memory || !memory_len);
    if (!ascending(items, n))
        return DIP_TRIE_ARGUMENT;
    work w = {.records = records, .arena = {memory, memory_len}};
    slot_t top = {NULL, NULL};
    uint8_t hash[HASH_LEN];
    static const uint8_t empty = 0x80; /* RLP of an empty string */
    size_t len;
    int status = dip_trie_load(&w, 0, &top.raw, &len, hash);
    if (status)
        return status;
    if (!top.raw)
        dip_keccak256(hash, &empty, 1);
    if (before && memcmp(hash, before, HASH_LEN))
        return DIP_TRIE_CORRUPT;
    if (top.raw) {
        status = dip_trie_decode(&w.arena, top.raw, len, 0, &top.live);
        if (status)
            return status;
        top.live->stored = 1;
    }
    status = dip_trie_change(&w, &top, 0, items, items + n);
    if (status == DIP_TRIE_CHANGED) {
        status = finish(&w, &top, 0);
        if (top.live && status == DIP_TRIE_OK)
            memcpy(hash, top.raw + 1, HASH_LEN);
        else
            dip_keccak256(hash, &empty, 1);
    }
    if (status == DIP_TRIE_OK)
        memcpy(root, hash, HASH_LEN);
    return status;
}

size_t dip_trie_path(uint8_t out[DIP_TRIE_PATH_BYTES_MAX], const uint8_t *nibbles, size_t n) {
    DIP_ASSERT(n <= DIP_TRIE_NIBBLES_MAX);
    for (size_t i = 0; i < n; i += 2)
        out[i / 2] = (uint8_t)(nibbles[i] << 4 | (i + 1 < n ? nibbles[i + 1] : 0));
    size_t bytes = (n + 1) / 2;
    out[bytes] = n % 2;
    return bytes + 1;
}
