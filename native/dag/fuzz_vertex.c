/* Parses any bytes as a batch. Every vertex that is found, written from its fields, gives the bytes
 * that it was read from; the items cover the input; checking with any keys does not crash. */
#include "secp/fake_secp.h"
#include "dag/vertex.h"

static uint8_t *put(uint8_t *at, uint64_t value, unsigned bytes) {
    for (unsigned i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> 8 * (bytes - 1 - i));
    return at + bytes;
}

static uint8_t *copy(uint8_t *at, const uint8_t *from, size_t size) {
    memcpy(at, from, size);
    return at + size;
}

static size_t encode(const dip_vertex *v, uint8_t *out) {
    uint8_t *at = put(out, 0x0100, 2);
    at = put(at, v->chain_id, 4);
    at = put(at, v->flags, 2);
    at = put(at, v->ref_height, 4);
    at = copy(at, v->ref_hash, 8);
    at = copy(at, v->issuer, 20);
    at = put(at, v->seq, 8);
    at = copy(at, v->prev, 32);
    at = put(at, v->timestamp_ms, 8);
    at = copy(at, v->topic, 16);
    at = put(at, v->payload_type, 2);
    at = put(at, v->payload_len, 4);
    at = copy(at, v->payload_hash, 32);
    at = put(at, v->parents_count, 1);
    at = copy(at, v->parents, (size_t)32 * v->parents_count);
    if (v->extra)
        at = copy(at, v->extra, 8);
    at = copy(at, v->signature, 65);
    return (size_t)(copy(at, v->payload, v->payload_len) - out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t out[DIP_VERTEX_BYTES_MAX];
    static dip_key entries[DIP_KEYS_WAYS];
    static dip_keys keys = {&fake_secp, entries, 1, 1, PTHREAD_MUTEX_INITIALIZER};
    dip_vertex_item *items = malloc((size / DIP_VERTEX_BYTES_MIN + 1) * sizeof *items);
    uint8_t *wire = malloc(size ? size : 1);
    size_t end = 0;
    memcpy(wire, data, size);
    size_t count = dip_vertex_split(wire, size, 100, items);
    for (size_t i = 0; i < count; i++) {
        dip_vertex v;
        if (items[i].start != end)
            abort();
        end += items[i].size;
        if (items[i].verdict)
            continue;
        if (dip_vertex_parse(data + items[i].start, items[i].size, &v) ||
            encode(&v, out) != items[i].size || memcmp(out, data + items[i].start, v.size))
            abort();
    }
    if (end != size)
        abort();
    dip_vertex_check(wire, items, count, 2018, &keys, 1);
    free(wire);
    free(items);
    return 0;
}
