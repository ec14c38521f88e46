#include "trie/trie_records.h"

#include <string.h>

#include "assert/dip_assert.h"
#include "hash/keccak.h"

int dip_trie_load(dip_trie_work *work, size_t depth, const uint8_t **rlp, size_t *len,
                  uint8_t hash[32]) {
    DIP_ASSERT(depth <= DIP_TRIE_NIBBLES_MAX);
    const dip_trie_records *r = work->records;
    int found = r->load ? r->load(r->context, work->path, depth, rlp, len) : 0;
    if (found < 0)
        return DIP_TRIE_STOPPED;
    if (!found)
        *rlp = NULL;
    else
        dip_keccak256(hash, *rlp, *len);
    return DIP_TRIE_OK;
}

int dip_trie_expand(dip_trie_work *work, dip_trie_slot *slot, size_t depth) {
    if (slot->live)
        return DIP_TRIE_OK;
    DIP_ASSERT(slot->raw);
    if (*slot->raw != DIP_TRIE_HASH_ITEM)
        return dip_trie_decode(&work->arena, slot->raw, dip_trie_item_len(slot->raw), depth,
                               &slot->live);
    const uint8_t *rlp;
    size_t len;
    uint8_t hash[32];
    int status = dip_trie_load(work, depth, &rlp, &len, hash);
    if (status)
        return status;
    if (!rlp || len <= DIP_TRIE_INLINE_MAX || memcmp(hash, slot->raw + 1, sizeof hash))
        return DIP_TRIE_CORRUPT;
    status = dip_trie_decode(&work->arena, rlp, len, depth, &slot->live);
    if (status == DIP_TRIE_OK)
        slot->live->stored = 1;
    return status;
}

int dip_trie_drop(dip_trie_work *work, size_t depth) {
    DIP_ASSERT(depth <= DIP_TRIE_NIBBLES_MAX);
    const dip_trie_records *r = work->records;
    return r->store && r->store(r->context, work->path, depth, NULL, 0) < 0 ? DIP_TRIE_STOPPED
                                                                            : DIP_TRIE_OK;
}
