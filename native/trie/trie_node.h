/* Nodes of the trie in memory: their layout, and their RLP in both directions. Internal: callers
 * of the trie include trie.h. Nodes live in the caller's arena and are never freed one by one. */
#ifndef DIP_TRIE_NODE_H
#define DIP_TRIE_NODE_H

#include "trie/trie.h"

#define DIP_TRIE_INLINE_MAX 31   /* bytes; a parent names a longer node by its hash */
#define DIP_TRIE_HASH_ITEM 0xa0  /* first byte of the RLP of a 32-byte string */

typedef struct dip_trie_node dip_trie_node;

/* A parent's reference to a child. `raw`: the child's RLP item as the parent writes it (a 32-byte
 * string or an inline list), NULL once the child has changed. `live`: the decoded or new child.
 * Both NULL: no child. `live` alone: the child changed and is not encoded yet. */
typedef struct {
    const uint8_t *raw;
    dip_trie_node *live;
} dip_trie_slot;

enum { DIP_TRIE_LEAF, DIP_TRIE_EXTENSION, DIP_TRIE_BRANCH };

struct dip_trie_node {
    uint8_t kind;
    uint8_t stored;         /* 1: a record stands at this node's path */
    uint16_t nibbles_len;   /* leaf, extension: at most DIP_TRIE_NIBBLES_MAX */
    const uint8_t *nibbles; /* one nibble a byte */
    const uint8_t *value;   /* leaf; branch */
    size_t value_len;       /* 0: a branch without a value */
    dip_trie_slot child[];  /* extension: 1, branch: 16 */
};

/* The caller's memory. It is handed out from the front; nothing is given back. */
typedef struct {
    uint8_t *next;
    size_t left;
} dip_trie_arena;

/* len bytes aligned for any object, or NULL when too few are left. */
void *dip_trie_take(dip_trie_arena *arena, size_t len);

/* A zeroed node with the child slots of its kind, or NULL when too little memory is left. */
dip_trie_node *dip_trie_node_new(dip_trie_arena *arena, uint8_t kind);

/* Decodes the node whose whole RLP is [rlp, rlp + len), at `depth` nibbles below the root, to *out.
 * The node points into rlp, which must outlive it. Returns DIP_TRIE_OK, DIP_TRIE_MEMORY, or
 * DIP_TRIE_CORRUPT unless rlp is the only encoding of a node that may stand at that depth:
 * canonical RLP and hex-prefix, no empty extension, no branch with fewer than two entries, keys of
 * whole bytes and at most DIP_TRIE_KEY_BYTES_MAX. Of children only the form is checked. */
int dip_trie_decode(dip_trie_arena *arena, const uint8_t *rlp, size_t len, size_t depth,
                    dip_trie_node **out);

/* Writes the whole RLP of a node to the arena: *rlp, *len. Every child of the node has `raw`
 * (asserted). Returns DIP_TRIE_OK or DIP_TRIE_MEMORY. */
int dip_trie_encode(dip_trie_arena *arena, const dip_trie_node *node, const uint8_t **rlp,
                    size_t *len);

/* Bytes of a child item, header included: 33 for a hash, 1 to DIP_TRIE_INLINE_MAX for an inline
 * list (asserted). */
size_t dip_trie_item_len(const uint8_t *raw);

#endif
