#include "trie/trie_node.h"

#include <string.h>

#include "assert/dip_assert.h"

enum { STRING = 0x80, LIST = 0xc0, LONG = 55 }; /* Yellow Paper, appendix B */
enum { BRANCH_CHILDREN = 16 };

void *dip_trie_take(dip_trie_arena *arena, size_t len) {
    size_t pad = (size_t)(-(uintptr_t)arena->next & (_Alignof(max_align_t) - 1));
    if (arena->left < pad || arena->left - pad < len)
        return NULL;
    void *out = arena->next + pad;
    arena->next += pad + len;
    arena->left -= pad + len;
    return out;
}

dip_trie_node *dip_trie_node_new(dip_trie_arena *arena, uint8_t kind) {
    size_t children = kind == DIP_TRIE_BRANCH ? BRANCH_CHILDREN : kind == DIP_TRIE_EXTENSION;
    size_t len = sizeof(dip_trie_node) + children * sizeof(dip_trie_slot);
    dip_trie_node *node = dip_trie_take(arena, len);
    if (node) {
        memset(node, 0, len);
        node->kind = kind;
    }
    return node;
}

/* --- reading */

typedef struct {
    const uint8_t *at, *end;
} reader;

/* Takes one RLP item: *start is the first byte of its header, [*data, *data + *len) its payload. */
static int take_item(reader *in, const uint8_t **start, const uint8_t **data, size_t *len) {
    if (in->at == in->end)
        return DIP_TRIE_CORRUPT;
    const uint8_t *p = in->at;
    size_t room = (size_t)(in->end - p) - 1;
    uint8_t head = *p++;
    *start = in->at;
    if (head < STRING) { /* a byte is its own item */
        *data = in->at;
        *len = 1;
        in->at = p;
        return DIP_TRIE_OK;
    }
    size_t n = (size_t)(head - (head < LIST ? STRING : LIST));
    if (n > LONG) { /* the length follows in n - 55 bytes, as few as hold it */
        size_t width = n - LONG;
        if (width > room || width > 7 || *p == 0)
            return DIP_TRIE_CORRUPT;
        for (n = 0; width; width--, room--)
            n = n << 8 | *p++;
        if (n <= LONG)
            return DIP_TRIE_CORRUPT;
    }
    if (n > room || (head == STRING + 1 && *p < STRING))
        return DIP_TRIE_CORRUPT;
    *data = p;
    *len = n;
    in->at = p + n;
    return DIP_TRIE_OK;
}

/* Takes a child: a hash or an inline list; NULL for an empty string. */
static int take_child(reader *in, const uint8_t **raw) {
    const uint8_t *data;
    size_t len;
    if (take_item(in, raw, &data, &len))
        return DIP_TRIE_CORRUPT;
    if (**raw == STRING) {
        *raw = NULL;
        return DIP_TRIE_OK;
    }
    int is_inline = **raw >= LIST && in->at - *raw <= DIP_TRIE_INLINE_MAX;
    return **raw == DIP_TRIE_HASH_ITEM || is_inline ? DIP_TRIE_OK : DIP_TRIE_CORRUPT;
}

static int decode_branch(dip_trie_arena *arena, reader in, size_t depth, dip_trie_node **out) {
    dip_trie_node *node = dip_trie_node_new(arena, DIP_TRIE_BRANCH);
    if (!node)
        return DIP_TRIE_MEMORY;
    const uint8_t *start;
    unsigned entries = 0;
    for (unsigned i = 0; i < BRANCH_CHILDREN; i++) {
        if (take_child(&in, &node->child[i].raw))
            return DIP_TRIE_CORRUPT;
        entries += node->child[i].raw != NULL;
    }
    if (take_item(&in, &start, &node->value, &node->value_len) || *start >= LIST ||
        in.at != in.end)
        return DIP_TRIE_CORRUPT;
    entries += node->value_len != 0;
    if (entries < 2 || depth >= DIP_TRIE_NIBBLES_MAX || (node->value_len && depth % 2))
        return DIP_TRIE_CORRUPT;
    *out = node;
    return DIP_TRIE_OK;
}

static int decode_short(dip_trie_arena *arena, const uint8_t *path, size_t path_len, reader in,
                        size_t depth, dip_trie_node **out) {
    /* Hex-prefix, appendix C: flag nibble 2 for a leaf, 1 for an odd number of nibbles. */
    if (path_len == 0 || path[0] >> 4 > 3)
        return DIP_TRIE_CORRUPT;
    int leaf = path[0] >> 5 & 1, odd = path[0] >> 4 & 1;
    size_t n = 2 * (path_len - 1) + (size_t)odd;
    if ((!odd && path[0] & 15) || (!leaf && n == 0) || n + depth > DIP_TRIE_NIBBLES_MAX)
        return DIP_TRIE_CORRUPT;
    dip_trie_node *node = dip_trie_node_new(arena, leaf ? DIP_TRIE_LEAF : DIP_TRIE_EXTENSION);
    uint8_t *nibbles = dip_trie_take(arena, n);
    if (!node || !nibbles)
        return DIP_TRIE_MEMORY;
    for (size_t i = 0; i < n; i++) {
        size_t at = i + 2 - (size_t)odd; /* in nibbles from the start of path */
        nibbles[i] = at % 2 ? path[at / 2] & 15 : path[at / 2] >> 4;
    }
    node->nibbles = nibbles;
    node->nibbles_len = (uint16_t)n;
    if (leaf) {
        const uint8_t *start;
        if (take_item(&in, &start, &node->value, &node->value_len) || *start >= LIST ||
            node->value_len == 0 || (n + depth) % 2)
            return DIP_TRIE_CORRUPT;
    } else if (take_child(&in, &node->child[0].raw) || !node->child[0].raw) {
        return DIP_TRIE_CORRUPT;
    }
    if (in.at != in.end)
        return DIP_TRIE_CORRUPT;
    *out = node;
    return DIP_TRIE_OK;
}

int dip_trie_decode(dip_trie_arena *arena, const uint8_t *rlp, size_t len, size_t depth,
                    dip_trie_node **out) {
    reader whole = {rlp, rlp + len};
    const uint8_t *start, *data, *first;
    size_t size;
    if (take_item(&whole, &start, &data, &size) || *start < LIST || whole.at != whole.end)
        return DIP_TRIE_CORRUPT;
    /* A list of two items is a leaf or an extension, a list of seventeen a branch. */
    reader in = {data, data + size}, rest = in;
    const uint8_t *path, *ignored;
    size_t path_len, ignored_len;
    if (take_item(&rest, &first, &path, &path_len))
        return DIP_TRIE_CORRUPT;
    reader second = rest;
    if (take_item(&rest, &start, &ignored, &ignored_len))
        return DIP_TRIE_CORRUPT;
    if (rest.at != rest.end)
        return decode_branch(arena, in, depth, out);
    return *first < LIST ? decode_short(arena, path, path_len, second, depth, out)
                         : DIP_TRIE_CORRUPT;
}

/* --- writing */

size_t dip_trie_item_len(const uint8_t *raw) {
    DIP_ASSERT(*raw == DIP_TRIE_HASH_ITEM || (*raw >= LIST && *raw < LIST + DIP_TRIE_INLINE_MAX));
    return *raw == DIP_TRIE_HASH_ITEM ? 33 : (size_t)(*raw - LIST) + 1;
}

static size_t header_len(size_t n) {
    size_t len = 1;
    if (n > LONG)
        for (; n; n >>= 8)
            len++;
    return len;
}

static uint8_t *put_header(uint8_t *to, uint8_t kind, size_t n) {
    size_t width = header_len(n) - 1;
    *to++ = (uint8_t)(kind + (width ? LONG + width : n));
    while (width--)
        *to++ = (uint8_t)(n >> 8 * width);
    return to;
}

static int is_own_item(const uint8_t *data, size_t n) {
    return n == 1 && data[0] < STRING;
}

static size_t string_len(const uint8_t *data, size_t n) {
    return is_own_item(data, n) ? 1 : header_len(n) + n;
}

static uint8_t *put_string(uint8_t *to, const uint8_t *data, size_t n) {
    if (!is_own_item(data, n))
        to = put_header(to, STRING, n);
    if (n)
        memcpy(to, data, n);
    return to + n;
}

static uint8_t *put_child(uint8_t *to, const dip_trie_slot *slot) {
    if (!slot->raw) {
        *to = STRING;
        return to + 1;
    }
    size_t len = dip_trie_item_len(slot->raw);
    memcpy(to, slot->raw, len);
    return to + len;
}

static size_t put_hex_prefix(uint8_t *to, const dip_trie_node *node) {
    size_t n = node->nibbles_len, odd = n % 2;
    const uint8_t *nibbles = node->nibbles;
    to[0] = (uint8_t)((node->kind == DIP_TRIE_LEAF ? 0x20 : 0) | (odd ? 0x10 | nibbles[0] : 0));
    for (size_t i = odd, at = 1; i < n; i += 2)
        to[at++] = (uint8_t)(nibbles[i] << 4 | nibbles[i + 1]);
    return n / 2 + 1;
}

int dip_trie_encode(dip_trie_arena *arena, const dip_trie_node *node, const uint8_t **rlp,
                    size_t *len) {
    uint8_t path[DIP_TRIE_PATH_BYTES_MAX];
    size_t path_len = 0, size = 0;
    size_t children = node->kind == DIP_TRIE_BRANCH ? BRANCH_CHILDREN
                                                    : node->kind == DIP_TRIE_EXTENSION;
    if (node->kind != DIP_TRIE_BRANCH) {
        path_len = put_hex_prefix(path, node);
        size += string_len(path, path_len);
    }
    for (size_t i = 0; i < children; i++) {
        DIP_ASSERT(node->child[i].raw || !node->child[i].live);
        size += node->child[i].raw ? dip_trie_item_len(node->child[i].raw) : 1;
    }
    if (node->kind != DIP_TRIE_EXTENSION)
        size += string_len(node->value, node->value_len);

    uint8_t *out = dip_trie_take(arena, header_len(size) + size), *to = out;
    if (!out)
        return DIP_TRIE_MEMORY;
    to = put_header(to, LIST, size);
    if (node->kind != DIP_TRIE_BRANCH)
        to = put_string(to, path, path_len);
    for (size_t i = 0; i < children; i++)
        to = put_child(to, &node->child[i]);
    if (node->kind != DIP_TRIE_EXTENSION)
        to = put_string(to, node->value, node->value_len);
    *rlp = out;
    *len = (size_t)(to - out);
    DIP_ASSERT(*len == header_len(size) + size);
    return DIP_TRIE_OK;
}
