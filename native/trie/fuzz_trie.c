/* Takes any bytes as stored nodes. A decoded node encodes to the same bytes, and an update over it
 * ends in a code, or in a trie on which the opposite update works. */
#include <stdlib.h>
#include <string.h>

#include "trie/trie.h"
#include "trie/trie_node.h"

static struct {
    const uint8_t *rlp;
    size_t len;
} node; /* the record at every path */

static int load(void *context, const uint8_t *nibbles, size_t n, const uint8_t **rlp,
                size_t *len) {
    (void)context, (void)nibbles, (void)n;
    *rlp = node.rlp;
    *len = node.len;
    return 1;
}

static struct {
    uint8_t root[4096];
    size_t len;
} written;

static int store(void *context, const uint8_t *nibbles, size_t n, const uint8_t *rlp, size_t len) {
    (void)context, (void)nibbles;
    if (n == 0 && rlp && len <= sizeof written.root) {
        memcpy(written.root, rlp, len);
        written.len = len;
    }
    return 0;
}

static void same_bytes(const uint8_t *data, size_t size, size_t depth) {
    static _Alignas(16) uint8_t memory[1 << 16];
    dip_trie_arena arena = {memory, sizeof memory};
    dip_trie_node *read;
    const uint8_t *rlp;
    size_t len;
    if (dip_trie_decode(&arena, data, size, depth, &read))
        return;
    if (dip_trie_encode(&arena, read, &rlp, &len) || len != size || memcmp(rlp, data, len))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || size > 2048)
        return 0;
    same_bytes(data + 1, size - 1, data[0] * 2u + (data[0] & 1));

    static uint8_t memory[1 << 18];
    const uint8_t keys[] = {0x00, 0x00, 0x01, 0x12, 0x34, 0xff};
    const uint8_t *value = (const uint8_t *)"a value of more than thirty-two bytes";
    unsigned bits = data[0];
    const dip_trie_item items[] = {{keys, 0, value, bits & 1 ? 2 : 0},
                                   {keys, 2, value, bits & 2 ? 37 : 0},
                                   {keys + 1, 2, value, bits & 4 ? 1 : 0},
                                   {keys + 3, 2, value, bits & 8 ? 37 : 0},
                                   {keys + 5, 1, value, bits & 16 ? 5 : 0}};
    dip_trie_item gone[5];
    for (int i = 0; i < 5; i++)
        gone[i] = (dip_trie_item){items[i].key, items[i].key_len, NULL, 0};
    const dip_trie_records records = {NULL, load, store};
    uint8_t root[32], after[32];
    node.rlp = data + 1;
    node.len = size - 1;
    written.len = 0;
    if (dip_trie_update(root, NULL, items, 5, &records, memory, sizeof memory) || !written.len)
        return 0;
    /* Children with records cannot be read here: they are absent or have another hash. */
    uint8_t copy[sizeof written.root];
    memcpy(copy, written.root, written.len);
    node.rlp = copy;
    node.len = written.len;
    int status = dip_trie_update(after, root, gone, 5, &records, memory, sizeof memory);
    if (status != DIP_TRIE_OK && status != DIP_TRIE_CORRUPT)
        abort();
    return 0;
}
