/* Merkle Patricia trie: hexary, RLP, keccak-256 (Yellow Paper, appendix D), in the caller's memory.
 *
 * Nodes are addressed by path: the record of a node stands under the nibbles that lead to it. A
 * node whose RLP is shorter than 32 bytes is part of its parent's RLP and has no record. The root
 * always has a record, at the empty path; an empty trie has no record. So each path has at most one
 * record, and an update leaves no garbage.
 *
 * Keys may differ in length; a key that ends at a branch is the value of that branch. */
#ifndef DIP_TRIE_H
#define DIP_TRIE_H

#include <stddef.h>
#include <stdint.h>

/* A longer key is refused. It bounds the recursion, which is one level a nibble. */
#define DIP_TRIE_KEY_BYTES_MAX 256
#define DIP_TRIE_NIBBLES_MAX (2 * DIP_TRIE_KEY_BYTES_MAX)
/* A packed path (dip_trie_path): two nibbles a byte, then the parity. */
#define DIP_TRIE_PATH_BYTES_MAX (DIP_TRIE_KEY_BYTES_MAX + 1)

enum {
    DIP_TRIE_OK = 0,
    DIP_TRIE_MEMORY = -1,   /* the memory is too small: call again with more */
    DIP_TRIE_CORRUPT = -2,  /* a stored node is missing, malformed or of another hash */
    DIP_TRIE_ARGUMENT = -3, /* keys not strictly ascending, or a key too long */
    DIP_TRIE_STOPPED = -4   /* a callback asked to stop */
};

/* One change. value_len 0 deletes the key; deleting a key that is not there changes nothing. */
typedef struct {
    const uint8_t *key;
    size_t key_len;
    const uint8_t *value;
    size_t value_len;
} dip_trie_item;

/* The caller's records. The path of a record is n nibbles, one a byte, valid during the call. */
typedef struct {
    void *context;
    /* Returns 1 and sets *rlp, *len to the record; 0 if there is no record; < 0 to stop. The
     * record stays valid and unchanged until the update returns. load is NULL for an empty trie. */
    int (*load)(void *context, const uint8_t *nibbles, size_t n, const uint8_t **rlp, size_t *len);
    /* Receives the new record of a path; rlp is NULL if the old record is deleted. Each path comes
     * at most once, in no order; rlp is valid during the call. Returns 0, or < 0 to stop. store is
     * NULL if the caller wants the root only. */
    int (*store)(void *context, const uint8_t *nibbles, size_t n, const uint8_t *rlp, size_t len);
} dip_trie_records;

/* Applies items[0, n), strictly ascending by key (bytes, then length), to the trie in `records` and
 * writes the new root. The stored trie must have the root `before`, unless that is NULL. Every
 * record that is read is compared with the hash that its parent names. Keys and values are read in
 * place; memory[0, memory_len) is scratch, of any alignment, and may be reused after the return.
 * Returns a DIP_TRIE_ status. After any status but DIP_TRIE_OK root is unchanged, and the caller
 * forgets the records that `store` received. */
int dip_trie_update(uint8_t root[32], const uint8_t *before, const dip_trie_item *items, size_t n,
                    const dip_trie_records *records, void *memory, size_t memory_len);

/* Packs a path of n <= DIP_TRIE_NIBBLES_MAX nibbles (asserted), one a byte, for a record's key: two
 * nibbles a byte, an odd last nibble padded with zero, then one byte, 1 where padded, else 0.
 * A node and its descendants share the prefix of whole bytes, so a subtree lies together on disk.
 * Returns the number of bytes written. */
size_t dip_trie_path(uint8_t out[DIP_TRIE_PATH_BYTES_MAX], const uint8_t *nibbles, size_t n);

#endif
