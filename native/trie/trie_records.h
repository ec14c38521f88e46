/* One update under way: the records it reads and drops, its memory, and its position in the trie.
 * trie_change.c walks down on it, trie.c walks up; this file calls neither. */
#ifndef DIP_TRIE_RECORDS_H
#define DIP_TRIE_RECORDS_H

#include "trie/trie_node.h"

typedef struct {
    const dip_trie_records *records; /* the caller's callbacks */
    dip_trie_arena arena;            /* the caller's memory */
    uint8_t path[DIP_TRIE_NIBBLES_MAX + 1]; /* nibbles from the root to the slot in work */
} dip_trie_work;

/* Reads the record at path[0, depth) and writes its keccak-256 to hash. *rlp is NULL (and hash is
 * unchanged) if there is no record. Returns DIP_TRIE_OK or DIP_TRIE_STOPPED. */
int dip_trie_load(dip_trie_work *work, size_t depth, const uint8_t **rlp, size_t *len,
                  uint8_t hash[32]);

/* Decodes the node of a slot that has `raw`, reading its record where `raw` is a hash, and sets
 * `live`. A slot that is live already is left alone. Returns DIP_TRIE_OK, _MEMORY, _STOPPED, or
 * _CORRUPT where the record is missing, malformed, or does not have the hash in `raw`. */
int dip_trie_expand(dip_trie_work *work, dip_trie_slot *slot, size_t depth);

/* Tells the caller to delete the record at path[0, depth). Returns DIP_TRIE_OK or _STOPPED. */
int dip_trie_drop(dip_trie_work *work, size_t depth);

#endif
