/* Each step gives the slot at `depth` the items whose keys begin with path[0, depth).
 *
 * A node that moves or is removed drops its record at once. A node that takes the place of another
 * takes over its `stored`. So each path is written, dropped or left alone exactly once. */
#include "trie/trie_change.h"

#include <string.h>

#include "assert/dip_assert.h"

enum { SAME = DIP_TRIE_OK, CHANGED = DIP_TRIE_CHANGED };

typedef dip_trie_node node_t;
typedef dip_trie_slot slot_t;
typedef dip_trie_item item_t;
typedef dip_trie_work work;

/* --- keys */

static size_t nibbles_len(const item_t *item) {
    return 2 * item->key_len;
}

static uint8_t nibble(const item_t *item, size_t i) {
    DIP_ASSERT(i < nibbles_len(item));
    uint8_t byte = item->key[i / 2];
    return i % 2 ? byte & 15 : byte >> 4;
}

/* How many of nibbles[0, n) the key has from `depth` on. */
static size_t shared(const item_t *item, size_t depth, const uint8_t *nibbles, size_t n) {
    size_t i = 0, max = nibbles_len(item) - depth;
    while (i < n && i < max && nibble(item, depth + i) == nibbles[i])
        i++;
    return i;
}

/* How many nibbles two keys share from `depth` on. */
static size_t shared_keys(const item_t *a, const item_t *b, size_t depth) {
    size_t i = depth, max = nibbles_len(a) < nibbles_len(b) ? nibbles_len(a) : nibbles_len(b);
    while (i < max && nibble(a, i) == nibble(b, i))
        i++;
    return i - depth;
}

/* The end of the run of items, from lo on, that have lo's nibble at `depth`. */
static const item_t *run_end(const item_t *lo, const item_t *hi, size_t depth) {
    uint8_t x = nibble(lo, depth);
    do
        lo++;
    while (lo < hi && nibble(lo, depth) == x);
    return lo;
}

/* --- making nodes */

static int new_leaf(work *w, slot_t *slot, size_t depth, const item_t *item) {
    size_t n = nibbles_len(item) - depth;
    node_t *leaf = dip_trie_node_new(&w->arena, DIP_TRIE_LEAF);
    uint8_t *nibbles = dip_trie_take(&w->arena, n);
    if (!leaf || !nibbles)
        return DIP_TRIE_MEMORY;
    for (size_t i = 0; i < n; i++)
        nibbles[i] = nibble(item, depth + i);
    leaf->nibbles = nibbles;
    leaf->nibbles_len = (uint16_t)n;
    leaf->value = item->value;
    leaf->value_len = item->value_len;
    slot->live = leaf;
    return CHANGED;
}

/* Moves the live node of `slot` up by n nibbles, to path[0, depth): path[depth, depth + n) is put
 * before the node's own nibbles. */
static int pull_up(work *w, slot_t *slot, size_t depth, size_t n) {
    node_t *node = slot->live;
    DIP_ASSERT(node && n);
    size_t more = node->kind == DIP_TRIE_BRANCH ? 0 : node->nibbles_len;
    uint8_t *nibbles = dip_trie_take(&w->arena, n + more);
    if (!nibbles)
        return DIP_TRIE_MEMORY;
    memcpy(nibbles, w->path + depth, n);
    if (node->kind == DIP_TRIE_BRANCH) { /* a branch stays; a new extension leads to it */
        node_t *extension = dip_trie_node_new(&w->arena, DIP_TRIE_EXTENSION);
        if (!extension)
            return DIP_TRIE_MEMORY;
        extension->child[0] = *slot;
        node = extension;
    } else {
        if (more)
            memcpy(nibbles + n, node->nibbles, more);
        if (node->stored && dip_trie_drop(w, depth + n))
            return DIP_TRIE_STOPPED;
        node->stored = 0;
    }
    node->nibbles = nibbles;
    node->nibbles_len = (uint16_t)(n + more);
    *slot = (slot_t){NULL, node};
    return CHANGED;
}

/* Fills an empty slot with the items that have a value and, unless it is NULL, the leaf `old`. No
 * item has the key of `old`; the nibbles of `old` count from `depth`. */
static int build(work *w, slot_t *slot, size_t depth, const item_t *lo, const item_t *hi,
                 node_t *old) {
    while (lo < hi && !lo->value_len)
        lo++;
    while (lo < hi && !hi[-1].value_len)
        hi--;
    *slot = (slot_t){NULL, old};
    if (lo == hi)
        return old ? CHANGED : SAME;
    if (hi - lo == 1 && !old)
        return new_leaf(w, slot, depth, lo);

    size_t common = shared_keys(lo, hi - 1, depth);
    if (old)
        common = shared(lo, depth, old->nibbles, old->nibbles_len < common ? old->nibbles_len
                                                                           : common);
    const item_t *first = lo;
    size_t at = depth + common;
    node_t *branch = dip_trie_node_new(&w->arena, DIP_TRIE_BRANCH);
    if (!branch)
        return DIP_TRIE_MEMORY;
    slot->live = branch;
    if (nibbles_len(lo) == at) {
        branch->value = lo->value;
        branch->value_len = lo->value_len;
        lo++;
    }
    if (old && old->nibbles_len == common) {
        branch->value = old->value;
        branch->value_len = old->value_len;
    } else if (old) {
        branch->child[old->nibbles[common]].live = old;
        old->nibbles += common + 1;
        old->nibbles_len -= (uint16_t)(common + 1);
    }
    for (const item_t *next; lo < hi; lo = next) {
        next = run_end(lo, hi, at);
        slot_t *child = &branch->child[nibble(lo, at)];
        int status = build(w, child, at + 1, lo, next, child->live);
        if (status < 0)
            return status;
    }
    for (size_t i = depth; i < at; i++)
        w->path[i] = nibble(first, i);
    return common ? pull_up(w, slot, depth, common) : CHANGED;
}

/* --- changing nodes */

static int update_leaf(work *w, slot_t *slot, size_t depth, const item_t *lo, const item_t *hi) {
    node_t *leaf = slot->live;
    const item_t *same = NULL;
    int others = 0; /* some other item stores a value here */
    for (const item_t *item = lo; item < hi; item++)
        if (nibbles_len(item) == depth + leaf->nibbles_len &&
            shared(item, depth, leaf->nibbles, leaf->nibbles_len) == leaf->nibbles_len)
            same = item;
        else
            others |= item->value_len != 0;
    if (others) {
        leaf->stored = 0;
        return build(w, slot, depth, lo, hi, same ? NULL : leaf);
    }
    if (!same || (same->value_len == leaf->value_len &&
                  !memcmp(same->value, leaf->value, leaf->value_len)))
        return SAME;
    leaf->value = same->value;
    leaf->value_len = same->value_len;
    if (!same->value_len)
        slot->live = NULL;
    return CHANGED;
}

/* Replaces a branch with one entry left by that entry, and removes a branch without entries. */
static int collapse(work *w, slot_t *slot, size_t depth) {
    node_t *branch = slot->live;
    unsigned children = 0;
    uint8_t last = 0;
    for (uint8_t i = 0; i < 16; i++)
        if (branch->child[i].raw || branch->child[i].live) {
            children++;
            last = i;
        }
    if (children + (branch->value_len != 0) > 1)
        return CHANGED;
    if (children == 0 && !branch->value_len) {
        slot->live = NULL;
        return CHANGED;
    }
    if (children == 0) {
        node_t *leaf = dip_trie_node_new(&w->arena, DIP_TRIE_LEAF);
        if (!leaf)
            return DIP_TRIE_MEMORY;
        leaf->value = branch->value;
        leaf->value_len = branch->value_len;
        slot->live = leaf;
        return CHANGED;
    }
    w->path[depth] = last;
    *slot = branch->child[last];
    int status = dip_trie_expand(w, slot, depth + 1);
    return status ? status : pull_up(w, slot, depth, 1);
}

static int update_branch(work *w, slot_t *slot, size_t depth, const item_t *lo, const item_t *hi) {
    node_t *branch = slot->live;
    int result = SAME;
    if (nibbles_len(lo) == depth) { /* the shortest key comes first */
        if (lo->value_len != branch->value_len ||
            (lo->value_len && memcmp(lo->value, branch->value, lo->value_len)))
            result = CHANGED;
        branch->value = lo->value;
        branch->value_len = lo->value_len;
        lo++;
    }
    for (const item_t *next; lo < hi; lo = next) {
        next = run_end(lo, hi, depth);
        uint8_t x = w->path[depth] = nibble(lo, depth);
        int status = dip_trie_change(w, &branch->child[x], depth + 1, lo, next);
        if (status < 0)
            return status;
        result |= status;
    }
    return result == CHANGED ? collapse(w, slot, depth) : SAME;
}

/* Every item has all nibbles of the extension. */
static int update_below(work *w, slot_t *slot, size_t depth, const item_t *lo, const item_t *hi) {
    node_t *extension = slot->live;
    slot_t *child = &extension->child[0];
    size_t n = extension->nibbles_len;
    int status = dip_trie_expand(w, child, depth + n);
    if (status)
        return status;
    if (child->live->kind != DIP_TRIE_BRANCH)
        return DIP_TRIE_CORRUPT;
    status = dip_trie_change(w, child, depth + n, lo, hi);
    if (status != CHANGED || (child->live && child->live->kind == DIP_TRIE_BRANCH))
        return status;
    *slot = *child;
    return slot->live ? pull_up(w, slot, depth, n) : CHANGED;
}

/* Puts a branch after the first `common` nibbles of the extension. */
static int split(work *w, slot_t *slot, size_t depth, size_t common, const item_t *lo,
                 const item_t *hi) {
    node_t *extension = slot->live;
    node_t *branch = dip_trie_node_new(&w->arena, DIP_TRIE_BRANCH);
    if (!branch)
        return DIP_TRIE_MEMORY;
    slot_t *child = &branch->child[extension->nibbles[common]];
    if (common + 1 == extension->nibbles_len) {
        *child = extension->child[0];
    } else {
        extension->nibbles += common + 1;
        extension->nibbles_len -= (uint16_t)(common + 1);
        extension->stored = 0;
        child->live = extension;
    }
    *slot = (slot_t){NULL, branch};
    int status = update_branch(w, slot, depth + common, lo, hi);
    return status == CHANGED && common ? pull_up(w, slot, depth, common) : status;
}

static int update_extension(work *w, slot_t *slot, size_t depth, const item_t *lo,
                            const item_t *hi) {
    const uint8_t *nibbles = slot->live->nibbles;
    size_t n = slot->live->nibbles_len, common = n;
    for (const item_t *item = lo; item < hi; item++)
        if (item->value_len)
            common = shared(item, depth, nibbles, common);
    /* Items that share fewer nibbles delete keys that are not there: they change nothing. */
    while (lo < hi && shared(lo, depth, nibbles, common) < common)
        lo++;
    while (lo < hi && shared(hi - 1, depth, nibbles, common) < common)
        hi--;
    if (lo == hi)
        return SAME;
    memcpy(w->path + depth, nibbles, common);
    return common == n ? update_below(w, slot, depth, lo, hi)
                       : split(w, slot, depth, common, lo, hi);
}

int dip_trie_change(work *w, slot_t *slot, size_t depth, const item_t *lo, const item_t *hi) {
    if (lo == hi)
        return SAME;
    if (!slot->raw && !slot->live)
        return build(w, slot, depth, lo, hi, NULL);
    int status = dip_trie_expand(w, slot, depth);
    if (status)
        return status;
    uint8_t stored = slot->live->stored;
    switch (slot->live->kind) {
    case DIP_TRIE_LEAF:
        status = update_leaf(w, slot, depth, lo, hi);
        break;
    case DIP_TRIE_EXTENSION:
        status = update_extension(w, slot, depth, lo, hi);
        break;
    default:
        status = update_branch(w, slot, depth, lo, hi);
    }
    if (status != CHANGED)
        return status;
    slot->raw = NULL;
    if (slot->live)
        slot->live->stored = stored;
    else if (stored && dip_trie_drop(w, depth))
        return DIP_TRIE_STOPPED;
    return CHANGED;
}
