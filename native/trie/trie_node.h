/* Inside of the trie: nodes in memory, their reading and writing, the walk over them. */
#ifndef DIP_TRIE_NODE_H
#define DIP_TRIE_NODE_H

#include "trie/trie.h"

#define DIP_TRIE_INLINE_MAX 31 /* a longer node is named by its hash */

typedef struct dip_trie_node dip_trie_node;

/* Where a node hangs. `raw` is its RLP item as the parent writes it (a 32-byte string or an inline
 * list) while that is true; `live` the node once it was read or made. Neither: nothing is there.
 * `live` without `raw`: changed, not yet written. */
typedef struct {
    const uint8_t *raw;
    dip_trie_node *live;
} dip_trie_slot;

enum { DIP_TRIE_LEAF, DIP_TRIE_EXTENSION, DIP_TRIE_BRANCH };

struct dip_trie_node {
    uint8_t kind;
    uint8_t stored;         /* a record stands at this node's path */
    uint16_t nibbles_len;   /* leaf, extension */
    const uint8_t *nibbles; /* one a byte */
    const uint8_t *value;   /* leaf; branch */
    size_t value_len;       /* 0: a branch without a value */
    dip_trie_slot child[];  /* extension: 1, branch: 16 */
};

/* The caller's memory, handed out from the front and never taken back. */
typedef struct {
    uint8_t *next;
    size_t left;
} dip_trie_arena;

/* Aligned for any object; NULL when there is too little left. */
void *dip_trie_take(dip_trie_arena *arena, size_t len);

/* A zeroed node; NULL when there is too little left. */
dip_trie_node *dip_trie_node_new(dip_trie_arena *arena, uint8_t kind);

/* Reads the node whose whole RLP is [rlp, rlp + len), at `depth` nibbles below the root. The node
 * points into rlp. DIP_TRIE_CORRUPT unless rlp is the one encoding of a node that may stand there:
 * canonical RLP and hex-prefix, no empty extension, no branch with fewer than two entries, keys of
 * whole bytes and at most DIP_TRIE_KEY_BYTES_MAX. Children are checked for form, not for content. */
int dip_trie_decode(dip_trie_arena *arena, const uint8_t *rlp, size_t len, size_t depth,
                    dip_trie_node **out);

/* The whole RLP of a node all of whose children have `raw`, in the arena. */
int dip_trie_encode(dip_trie_arena *arena, const dip_trie_node *node, const uint8_t **rlp,
                    size_t *len);

/* Length of a child item, header included: 33 for a hash, else an inline list. */
size_t dip_trie_item_len(const uint8_t *raw);

/* --- the walk: trie.c down to the records, trie_change.c over the nodes */

typedef struct {
    const dip_trie_records *records;
    dip_trie_arena arena;
    uint8_t path[DIP_TRIE_NIBBLES_MAX + 1]; /* to the slot that is worked on */
} dip_trie_work;

enum { DIP_TRIE_CHANGED = 1 };

/* Applies items, whose keys begin with path[0, depth), to the slot there. DIP_TRIE_OK where the
 * slot is as it was, DIP_TRIE_CHANGED where its `raw` is gone, else an error. */
int dip_trie_change(dip_trie_work *work, dip_trie_slot *slot, size_t depth,
                    const dip_trie_item *lo, const dip_trie_item *hi);

/* Makes the node of a slot that has `raw` live. */
int dip_trie_expand(dip_trie_work *work, dip_trie_slot *slot, size_t depth);

/* Says that the record at path[0, depth) goes. */
int dip_trie_drop(dip_trie_work *work, size_t depth);

#endif
