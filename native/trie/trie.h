/* Merkle Patricia trie: hexary, RLP, keccak-256 (Yellow Paper, appendix D), on the caller's memory.
 *
 * Nodes are addressed by path: the record of a node stands under the nibbles that lead to it. A
 * node whose RLP is shorter than 32 bytes is part of its parent and has no record; the root has one
 * always, at the empty path; an empty trie has none. So there is one record a path and no garbage.
 *
 * Keys may have different lengths; a key that ends at a branch is the value of that branch. */
#ifndef DIP_TRIE_H
#define DIP_TRIE_H

#include <stddef.h>
#include <stdint.h>

/* Bounds the recursion: one level a nibble. */
#define DIP_TRIE_KEY_BYTES_MAX 256
#define DIP_TRIE_NIBBLES_MAX (2 * DIP_TRIE_KEY_BYTES_MAX)
/* A packed path: two nibbles a byte and the parity. */
#define DIP_TRIE_PATH_BYTES_MAX (DIP_TRIE_KEY_BYTES_MAX + 1)

enum {
    DIP_TRIE_OK = 0,
    DIP_TRIE_MEMORY = -1,   /* the memory is too small: call again with more */
    DIP_TRIE_CORRUPT = -2,  /* a stored node is missing, malformed or not what its parent names */
    DIP_TRIE_ARGUMENT = -3, /* keys not strictly ascending, or a key too long */
    DIP_TRIE_STOPPED = -4   /* a callback asked to stop */
};

/* value_len 0 deletes the key; a key that is not there may be deleted. */
typedef struct {
    const uint8_t *key;
    size_t key_len;
    const uint8_t *value;
    size_t value_len;
} dip_trie_item;

/* Where records are. Nibbles are one a byte and valid during the call only. */
typedef struct {
    void *context;
    /* 1 and the record; 0 where none stands; < 0 to stop. The record stays valid and unchanged
     * until the update returns. NULL for a trie that is known to be empty. */
    int (*load)(void *context, const uint8_t *nibbles, size_t n, const uint8_t **rlp, size_t *len);
    /* The new record of this path, rlp NULL where the old one goes; each path at most once, in no
     * order; rlp is valid during the call only. 0, or < 0 to stop. NULL where only the root is
     * asked for. */
    int (*store)(void *context, const uint8_t *nibbles, size_t n, const uint8_t *rlp, size_t len);
} dip_trie_records;

/* Applies `items`, ascending by key (bytes, then length), to the trie in `records` and writes the
 * new root. before, unless NULL, is the root that the stored trie must have. Every record that is
 * read is compared with the hash that its parent names. On any result but DIP_TRIE_OK, root is
 * untouched and what `store` was given is void. Keys and values are read in place. */
int dip_trie_update(uint8_t root[32], const uint8_t *before, const dip_trie_item *items, size_t n,
                    const dip_trie_records *records, void *memory, size_t memory_len);

/* The bytes that stand for a path in record keys, defined here only: two nibbles a byte, an odd last
 * one padded with zero, then one byte, 1 where padded, else 0. A node, its children and nothing
 * else share the prefix of whole bytes, so a subtree lies together on disk. Returns the length. */
size_t dip_trie_path(uint8_t out[DIP_TRIE_PATH_BYTES_MAX], const uint8_t *nibbles, size_t n);

#endif
