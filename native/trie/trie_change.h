/* The walk down: applies items to the nodes in memory. Hashes and stores nothing (trie.c does). */
#ifndef DIP_TRIE_CHANGE_H
#define DIP_TRIE_CHANGE_H

#include "trie/trie_records.h"

enum { DIP_TRIE_CHANGED = 1 };

/* Applies items [lo, hi), ascending, whose keys all begin with path[0, depth), to the slot there.
 * Returns DIP_TRIE_OK where the slot is unchanged, DIP_TRIE_CHANGED where it changed and its `raw`
 * is NULL, else an error (< 0); the nodes are then unusable. Keys and values are
 * not copied: they outlive the work. */
int dip_trie_change(dip_trie_work *work, dip_trie_slot *slot, size_t depth,
                    const dip_trie_item *lo, const dip_trie_item *hi);

#endif
