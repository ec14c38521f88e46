#include "dag/vertex.h"

#include <string.h>

#include "assert/dip_assert.h"
#include "hash/sha256.h"
#include "par/parallel.h"

#define SIGNATURE_BYTES 65
#define GRAIN 16 /* vertices per take of a thread; half a ms at most */

enum { /* offsets in the envelope */
    AT_CHAIN = 2, AT_FLAGS = 6, AT_REF_HEIGHT = 8, AT_REF_HASH = 12, AT_ISSUER = 20, AT_SEQ = 40,
    AT_PREV = 48, AT_TIMESTAMP = 80, AT_TOPIC = 88, AT_PAYLOAD_TYPE = 104, AT_PAYLOAD_LEN = 106,
    AT_PAYLOAD_HASH = 110, AT_PARENTS_COUNT = 142, AT_PARENTS = 143,
};

static inline uint16_t be16(const uint8_t *at) {
    return (uint16_t)(at[0] << 8 | at[1]);
}

static inline uint32_t be32(const uint8_t *at) {
    return (uint32_t)be16(at) << 16 | be16(at + 2);
}

static inline uint64_t be64(const uint8_t *at) {
    return (uint64_t)be32(at) << 32 | be32(at + 4);
}

/* Sets out->size; returns the reason and size 0 where the end of the vertex is unknown. */
static dip_vertex_verdict measure(const uint8_t *data, size_t len, dip_vertex *out) {
    out->size = 0;
    if (len < AT_PARENTS)
        return DIP_VERTEX_CUT;
    if (data[0] != 1 || data[1] != 0)
        return DIP_VERTEX_VERSION;
    out->flags = be16(data + AT_FLAGS);
    out->payload_len = be32(data + AT_PAYLOAD_LEN);
    out->parents_count = data[AT_PARENTS_COUNT];
    if (out->flags & ~(DIP_VERTEX_BATCHED | DIP_VERTEX_ENCRYPTED | DIP_VERTEX_SALTED |
                       DIP_VERTEX_HAS_EXTRA))
        return DIP_VERTEX_FLAGS;
    if (out->parents_count > DIP_PARENTS_MAX)
        return DIP_VERTEX_MANY;
    if (out->payload_len > DIP_PAYLOAD_BYTES_MAX)
        return DIP_VERTEX_LONG;
    out->envelope_len = AT_PARENTS + (size_t)32 * out->parents_count +
                        (out->flags & DIP_VERTEX_HAS_EXTRA ? 8 : 0);
    if (len < out->envelope_len + SIGNATURE_BYTES + out->payload_len)
        return DIP_VERTEX_CUT;
    out->size = out->envelope_len + SIGNATURE_BYTES + out->payload_len;
    return DIP_VERTEX_OK;
}

dip_vertex_verdict dip_vertex_parse(const uint8_t *data, size_t len, dip_vertex *out) {
    dip_vertex_verdict verdict = measure(data, len, out);
    if (verdict)
        return verdict;
    if (out->flags & DIP_VERTEX_BATCHED)
        return DIP_VERTEX_BATCH;
    if (out->flags & DIP_VERTEX_SALTED && out->payload_len < DIP_SALT_BYTES)
        return DIP_VERTEX_SALT;
    out->parents = data + AT_PARENTS;
    for (unsigned i = 1; i < out->parents_count; i++)
        if (memcmp(out->parents + 32 * (i - 1), out->parents + 32 * i, 32) >= 0)
            return DIP_VERTEX_PARENTS;
    out->chain_id = be32(data + AT_CHAIN);
    out->ref_height = be32(data + AT_REF_HEIGHT);
    out->ref_hash = data + AT_REF_HASH;
    out->issuer = data + AT_ISSUER;
    out->seq = be64(data + AT_SEQ);
    out->prev = data + AT_PREV;
    out->timestamp_ms = be64(data + AT_TIMESTAMP);
    out->topic = data + AT_TOPIC;
    out->payload_type = be16(data + AT_PAYLOAD_TYPE);
    out->payload_hash = data + AT_PAYLOAD_HASH;
    out->extra = out->flags & DIP_VERTEX_HAS_EXTRA ? data + out->envelope_len - 8 : NULL;
    out->signature = data + out->envelope_len;
    out->payload = out->signature + SIGNATURE_BYTES;
    return DIP_VERTEX_OK;
}

static void item_at(dip_vertex_item *item, size_t start, size_t size, dip_vertex_verdict verdict) {
    memset(item, 0, sizeof *item);
    item->start = (uint32_t)start;
    item->size = (uint32_t)size;
    item->verdict = (uint8_t)verdict;
}

size_t dip_vertex_split(const uint8_t *wire, size_t len, size_t count_max, dip_vertex_item *items) {
    DIP_ASSERT(len <= UINT32_MAX);
    size_t count = 0, at = 0;
    while (at < len) {
        dip_vertex v;
        if (count == count_max) {
            item_at(&items[count++], at, len - at, DIP_VERTEX_COUNT);
            break;
        }
        dip_vertex_verdict verdict = dip_vertex_parse(wire + at, len - at, &v);
        size_t size = v.size ? v.size : len - at;
        item_at(&items[count++], at, size, verdict);
        at += size;
    }
    return count;
}

void dip_vertex_single(const uint8_t *wire, uint32_t start, uint32_t size, dip_vertex_item *item) {
    dip_vertex v;
    dip_vertex_verdict verdict = dip_vertex_parse(wire + start, size, &v);
    if (!verdict && v.size != size)
        verdict = DIP_VERTEX_TRAILING;
    item_at(item, start, size, verdict);
}

/* The finaliser of SplitMix64 (Steele, Lea, Flood 2014). */
static inline uint64_t mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

static dip_key *keys_set(const dip_keys *keys, const uint8_t address[20]) {
    DIP_ASSERT(keys->sets);
    uint64_t hash = mix(be64(address) ^ keys->seed);
    return keys->entries + DIP_KEYS_WAYS * (size_t)((unsigned __int128)hash * keys->sets >> 64);
}

static dip_key *keys_entry(const dip_keys *keys, const uint8_t address[20]) {
    dip_key *set = keys_set(keys, address);
    for (unsigned i = 0; i < DIP_KEYS_WAYS; i++)
        if (set[i].age && !memcmp(set[i].address, address, 20))
            return &set[i];
    return NULL;
}

int dip_keys_find(dip_keys *keys, const uint8_t address[20], dip_secp_pubkey *key) {
    pthread_mutex_lock(&keys->lock);
    dip_key *entry = keys_entry(keys, address);
    if (entry) {
        entry->age = 2;
        *key = entry->key;
    }
    pthread_mutex_unlock(&keys->lock);
    return entry != NULL;
}

void dip_keys_add(dip_keys *keys, const uint8_t address[20], const dip_secp_pubkey *key) {
    pthread_mutex_lock(&keys->lock);
    if (!keys_entry(keys, address)) {
        dip_key *set = keys_set(keys, address), *chosen = NULL;
        for (unsigned i = 0; i < DIP_KEYS_WAYS && !chosen; i++)
            if (!set[i].age)
                chosen = &set[i];
        for (unsigned i = 0; i < DIP_KEYS_WAYS && !chosen; i++)
            if (set[i].age == 1)
                chosen = &set[i];
        for (unsigned i = 0; i < DIP_KEYS_WAYS && !chosen; i++)
            set[i].age = 1;
        if (!chosen)
            chosen = set;
        memcpy(chosen->address, address, 20);
        chosen->key = *key;
        chosen->age = 1;
    }
    pthread_mutex_unlock(&keys->lock);
}

size_t dip_keys_count(dip_keys *keys) {
    size_t count = 0;
    pthread_mutex_lock(&keys->lock);
    for (size_t i = 0; i < keys->sets * DIP_KEYS_WAYS; i++)
        count += keys->entries[i].age != 0;
    pthread_mutex_unlock(&keys->lock);
    return count;
}

/* Tries the recovery id of the hint, then the other three. Ids 2 and 3 cost nothing unless
 * r < p - n; without them, validity would depend on whether the key is in the table. */
static int recovers(dip_keys *keys, const dip_vertex *v, const uint8_t id[32], uint8_t *hint) {
    uint8_t signature[SIGNATURE_BYTES], first = *hint <= 3 ? *hint : 0;
    memcpy(signature, v->signature, 64);
    for (uint8_t i = 0; i < 4; i++) {
        dip_secp_pubkey key;
        uint8_t address[20];
        signature[64] = first ^ i;
        if (!dip_secp_recover(keys->secp, signature, id, 0, &key, address) ||
            memcmp(address, v->issuer, 20))
            continue;
        *hint = signature[64];
        dip_keys_add(keys, address, &key);
        return 1;
    }
    return 0;
}

static void check_signature(uint8_t *wire, dip_vertex_item *item, const dip_vertex *v,
                            dip_keys *keys) {
    uint8_t *hint = wire + item->start + v->envelope_len + 64, before = *hint;
    dip_secp_pubkey key;
    int good;
    /* A hint of 2 or 3 is right for one r in 2^127, so it is checked by recovery. */
    if (before <= 1 && dip_keys_find(keys, v->issuer, &key))
        good = dip_secp_verify(keys->secp, v->signature, item->id, &key);
    else
        good = recovers(keys, v, item->id, hint);
    if (!good)
        item->verdict = DIP_VERTEX_SIGNATURE;
    item->corrected = *hint != before;
}

typedef struct {
    uint8_t *wire;
    dip_vertex_item *items;
    uint32_t chain_id;
    dip_keys *keys;
} check_context;

static void check_range(void *context, size_t from, size_t to) {
    const check_context *c = context;
    for (size_t i = from; i < to; i++) {
        dip_vertex_item *item = &c->items[i];
        uint8_t *start = c->wire + item->start, digest[32];
        dip_vertex v;
        if (item->verdict || dip_vertex_parse(start, item->size, &v))
            continue;
        dip_sha256(item->id, start, v.envelope_len);
        if (v.chain_id != c->chain_id) {
            item->verdict = DIP_VERTEX_CHAIN;
            continue;
        }
        dip_sha256(digest, v.payload, v.payload_len);
        if (memcmp(digest, v.payload_hash, 32))
            item->verdict = DIP_VERTEX_PAYLOAD;
        else if (c->keys)
            check_signature(c->wire, item, &v, c->keys);
    }
}

void dip_vertex_check(uint8_t *wire, dip_vertex_item *items, size_t count, uint32_t chain_id,
                      dip_keys *keys, unsigned threads) {
    check_context context = {wire, items, chain_id, keys};
    dip_parallel(count, GRAIN, threads, check_range, &context);
}
