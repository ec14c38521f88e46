/* Form, splitting, verdicts and the cache of keys, on heap blocks of the exact size, so that the
 * sanitizers see a read past the end. Signatures are those of fake_secp.h. */
#undef NDEBUG
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "secp/fake_secp.h"
#include "hash/keccak.h"
#include "hash/sha256.h"
#include "dag/vertex.h"

#define KEY_BYTE 0x5a
#define CHAIN 2018

typedef struct {
    size_t size, envelope_len;
    uint8_t bytes[DIP_VERTEX_BYTES_MAX];
} wire;

static void put32(uint8_t *at, uint32_t value) {
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> (24 - 8 * i));
}

static void issuer_of(uint8_t key_byte, uint8_t address[20]) {
    uint8_t point[64], digest[32];
    memset(point, key_byte, sizeof point);
    dip_keccak256(digest, point, sizeof point);
    memcpy(address, digest + 12, 20);
}

/* The stand-in verifies r = digest ^ key byte with any low s. */
static void sign(wire *w, uint8_t key_byte) {
    uint8_t id[32], *signature = w->bytes + w->envelope_len;
    dip_sha256(id, w->bytes, w->envelope_len);
    memset(signature, 0, 65);
    for (int i = 0; i < 32; i++)
        signature[i] = id[i] ^ key_byte;
    signature[63] = 1;
}

static wire *make(unsigned parents, uint16_t flags, uint32_t payload_len, uint8_t key_byte) {
    wire *w = calloc(1, sizeof *w);
    uint8_t *b = w->bytes;
    w->envelope_len = 143 + 32 * parents + (flags & DIP_VERTEX_HAS_EXTRA ? 8 : 0);
    w->size = w->envelope_len + 65 + payload_len;
    b[0] = 1;
    put32(b + 2, CHAIN);
    b[7] = (uint8_t)flags;
    issuer_of(key_byte, b + 20);
    put32(b + 106, payload_len);
    b[142] = (uint8_t)parents;
    for (unsigned i = 0; i < parents; i++)
        b[143 + 32 * i] = (uint8_t)(i + 1);
    memset(b + w->envelope_len + 65, 7, payload_len);
    dip_sha256(b + 110, b + w->envelope_len + 65, payload_len);
    sign(w, key_byte);
    return w;
}

/* The verdict on a copy of data in a heap block of the exact size. */
static dip_vertex_verdict parse(const uint8_t *data, size_t len) {
    dip_vertex v;
    uint8_t *block = malloc(len ? len : 1);
    memcpy(block, data, len);
    dip_vertex_verdict verdict = dip_vertex_parse(block, len, &v);
    if (!verdict) {
        assert(v.size <= len && v.payload + v.payload_len == block + v.size);
        assert(v.signature == block + v.envelope_len && v.payload == v.signature + 65);
        assert(!v.extra == !(v.flags & DIP_VERTEX_HAS_EXTRA));
    }
    free(block);
    return verdict;
}

static dip_vertex_verdict parse_with(const wire *w, size_t at, uint8_t value) {
    uint8_t block[2048];
    assert(w->size <= sizeof block);
    memcpy(block, w->bytes, w->size);
    block[at] = value;
    return parse(block, w->size);
}

static void test_form(void) {
    for (unsigned parents = 0; parents <= 8; parents++) {
        wire *w = make(parents, parents & 1 ? DIP_VERTEX_HAS_EXTRA : 0, 20 * parents, KEY_BYTE);
        assert(parse(w->bytes, w->size) == DIP_VERTEX_OK);
        for (size_t len = 0; len < w->size; len++)
            assert(parse(w->bytes, len) == DIP_VERTEX_CUT);
        free(w);
    }
    wire *w = make(2, DIP_VERTEX_SALTED, 16, KEY_BYTE);
    assert(parse_with(w, 0, 2) == DIP_VERTEX_VERSION);
    assert(parse_with(w, 1, 1) == DIP_VERTEX_VERSION);
    assert(parse_with(w, 6, 1) == DIP_VERTEX_FLAGS);
    assert(parse_with(w, 7, 16) == DIP_VERTEX_FLAGS);
    assert(parse_with(w, 7, 5) == DIP_VERTEX_BATCH);
    assert(parse_with(w, 109, 15) == DIP_VERTEX_SALT);
    assert(parse_with(w, 142, 9) == DIP_VERTEX_MANY);
    assert(parse_with(w, 142, 255) == DIP_VERTEX_MANY);
    assert(parse_with(w, 106, 255) == DIP_VERTEX_LONG);
    assert(parse_with(w, 143, 2) == DIP_VERTEX_PARENTS);
    assert(parse_with(w, 143, 3) == DIP_VERTEX_PARENTS);
    free(w);
    w = make(8, DIP_VERTEX_HAS_EXTRA, DIP_PAYLOAD_BYTES_MAX, KEY_BYTE);
    assert(w->size == DIP_VERTEX_BYTES_MAX && parse(w->bytes, w->size) == DIP_VERTEX_OK);
    put32(w->bytes + 106, DIP_PAYLOAD_BYTES_MAX + 1);
    assert(parse(w->bytes, w->size) == DIP_VERTEX_LONG);
    free(w);
}

static void keys_init(dip_keys *keys, size_t sets) {
    keys->secp = &fake_secp;
    keys->entries = calloc(sets * DIP_KEYS_WAYS, sizeof *keys->entries);
    keys->sets = sets;
    keys->seed = 3;
    pthread_mutex_init(&keys->lock, NULL);
}

static void keys_free(dip_keys *keys) {
    pthread_mutex_destroy(&keys->lock);
    free(keys->entries);
}

static void test_keys(void) {
    dip_keys keys;
    dip_secp_pubkey key, found;
    uint8_t address[20] = {0};
    keys_init(&keys, 1);
    for (unsigned i = 0; i < 100; i++) {
        address[0] = (uint8_t)i;
        memset(&key, (int)i, sizeof key);
        assert(!dip_keys_find(&keys, address, &found));
        dip_keys_add(&keys, address, &key);
        dip_keys_add(&keys, address, &key);
        assert(dip_keys_find(&keys, address, &found) && !memcmp(&key, &found, sizeof key));
        assert(dip_keys_count(&keys) == (i < DIP_KEYS_WAYS ? i + 1 : DIP_KEYS_WAYS));
    }
    keys_free(&keys);
    /* A key that is found between any two additions is never evicted. */
    keys_init(&keys, 1);
    memset(address, 0xff, sizeof address);
    dip_keys_add(&keys, address, &key);
    for (unsigned i = 0; i < 100; i++) {
        uint8_t other[20] = {0};
        other[19] = (uint8_t)(i + 1);
        dip_keys_add(&keys, other, &key);
        assert(dip_keys_find(&keys, address, &found));
    }
    keys_free(&keys);
}

#define COUNT 300

static void test_batch(unsigned threads, int known) {
    wire *good = make(2, 0, 40, KEY_BYTE), *other = make(0, 0, 0, KEY_BYTE + 1);
    size_t len = 0, capacity = COUNT * good->size;
    uint8_t *stream = malloc(capacity), expected[COUNT + 1], *exact;
    dip_keys keys;
    dip_secp_pubkey key;
    keys_init(&keys, 4);
    memset(&key, KEY_BYTE, sizeof key);
    if (known)
        dip_keys_add(&keys, good->bytes + 20, &key);
    for (unsigned i = 0; i < COUNT; i++) {
        const wire *w = i % 3 ? good : other;
        uint8_t *at = stream + len;
        memcpy(at, w->bytes, w->size);
        len += w->size;
        expected[i] = DIP_VERTEX_OK;
        if (i % 7 == 1 && w == good)
            at[w->size - 1] ^= 1, expected[i] = DIP_VERTEX_PAYLOAD;
        if (i % 11 == 5)
            at[5] ^= 1, expected[i] = DIP_VERTEX_CHAIN;
        if (i % 13 == 3 && expected[i] == DIP_VERTEX_OK)
            at[w->envelope_len + 5] ^= 1, expected[i] = DIP_VERTEX_SIGNATURE;
        if (i % 17 == 2 && expected[i] == DIP_VERTEX_OK)
            at[w->envelope_len + 64] = 99; /* an impossible recovery id, which is corrected */
    }
    len += 100; /* an incomplete vertex */
    exact = malloc(len);
    memcpy(exact, stream, len - 100);
    memcpy(exact + len - 100, good->bytes, 100);
    expected[COUNT] = DIP_VERTEX_CUT;
    dip_vertex_item *items = malloc((len / DIP_VERTEX_BYTES_MIN + 1) * sizeof *items);
    size_t count = dip_vertex_split(exact, len, 1000, items);
    assert(count == COUNT + 1);
    dip_vertex_check(exact, items, count, CHAIN, &keys, threads);
    for (size_t i = 0; i < count; i++) {
        dip_vertex v;
        assert(items[i].verdict == expected[i]);
        if (items[i].verdict)
            continue;
        assert(!dip_vertex_parse(exact + items[i].start, items[i].size, &v));
        assert(v.signature[64] == 0 || i % 17 == 2);
        assert(v.signature[64] <= 3 && items[i].corrected == (i % 17 == 2));
    }
    assert(dip_vertex_split(exact, len, 2, items) == 3 && items[2].verdict == DIP_VERTEX_COUNT);
    dip_vertex_single(exact, 0, (uint32_t)other->size, &items[0]);
    assert(items[0].verdict == DIP_VERTEX_OK);
    dip_vertex_single(exact, 0, (uint32_t)other->size + 1, &items[0]);
    assert(items[0].verdict == DIP_VERTEX_TRAILING);
    keys_free(&keys);
    free(items), free(exact), free(stream), free(good), free(other);
}

int main(void) {
    test_form();
    test_keys();
    test_batch(1, 0);
    test_batch(1, 1);
    test_batch(3, 0);
    return 0;
}
