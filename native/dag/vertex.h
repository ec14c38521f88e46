/* The vertex of the DAG: its layout, and what can be judged from its bytes alone (docs/spec/dag.md "Vertex").
 *
 * On the wire: envelope || signature (65) || payload; integers are big-endian.
 *   0 version = 1 | 1 type = 0 | 2 chain_id 4 | 6 flags 2 | 8 ref_height 4 | 12 ref_hash 8
 *   20 issuer 20 | 40 seq 8 | 48 prev 32 | 80 timestamp_ms 8 | 88 topic 16 | 104 payload_type 2
 *   106 payload_len 4 | 110 payload_hash 32 | 142 n_parents 1 | 143 parents 32 each
 *   | extra 8, only with DIP_VERTEX_HAS_EXTRA
 * id = SHA-256(envelope); signature = r || s || recovery id over the id. A vertex says its own
 * length, so a batch is a concatenation. */
#ifndef DIP_VERTEX_H
#define DIP_VERTEX_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "secp/secp.h"

#define DIP_PARENTS_MAX 8
#define DIP_PAYLOAD_BYTES_MAX 32768
#define DIP_SALT_BYTES 16
#define DIP_VERTEX_BYTES_MIN (143 + 65)
#define DIP_VERTEX_BYTES_MAX (143 + 32 * DIP_PARENTS_MAX + 8 + 65 + DIP_PAYLOAD_BYTES_MAX)

enum { /* flags; any other bit is refused */
    DIP_VERTEX_BATCHED = 1,
    DIP_VERTEX_ENCRYPTED = 2,
    DIP_VERTEX_SALTED = 4,
    DIP_VERTEX_HAS_EXTRA = 8,
};

typedef enum { /* verdicts; the order is that of VERDICTS in dipnet/dag/vertex.py */
    DIP_VERTEX_OK,
    DIP_VERTEX_CUT,       /* ends before the end that it announces */
    DIP_VERTEX_TRAILING,  /* bytes after the only vertex of an item */
    DIP_VERTEX_COUNT,     /* more vertices than the caller takes */
    DIP_VERTEX_VERSION,   /* version or type is unknown */
    DIP_VERTEX_FLAGS,     /* unknown flag */
    DIP_VERTEX_MANY,      /* more than DIP_PARENTS_MAX parents */
    DIP_VERTEX_LONG,      /* payload_len above DIP_PAYLOAD_BYTES_MAX */
    DIP_VERTEX_BATCH,     /* payload_hash is a Merkle root: not supported yet */
    DIP_VERTEX_SALT,      /* salted, and the payload is shorter than its salt */
    DIP_VERTEX_PARENTS,   /* parents unsorted or repeated */
    DIP_VERTEX_CHAIN,     /* another chain_id */
    DIP_VERTEX_PAYLOAD,   /* payload_hash is not the payload's */
    DIP_VERTEX_SIGNATURE, /* not the issuer's, or s is high */
    DIP_VERTEX_REF,       /* its reference block is not the chain's; said by who knows the chain */
} dip_vertex_verdict;

/* A vertex seen in place: the pointers lead into the bytes that were parsed. */
typedef struct {
    size_t size;          /* of the whole vertex; 0 where its end cannot be told */
    size_t envelope_len;
    uint64_t seq, timestamp_ms;
    uint32_t chain_id, ref_height, payload_len;
    uint16_t flags, payload_type;
    uint8_t parents_count;
    const uint8_t *ref_hash, *issuer, *prev, *topic, *payload_hash, *parents;
    const uint8_t *extra; /* NULL without the flag */
    const uint8_t *signature, *payload;
} dip_vertex;

/* Judges the form of the vertex at the start of data[0, len); more bytes may follow it. On OK every
 * field of *out is set; else only out->size, which is not 0 where the next vertex can be found. */
dip_vertex_verdict dip_vertex_parse(const uint8_t *data, size_t len, dip_vertex *out);

/* One vertex of a batch of wire bytes. */
typedef struct {
    uint8_t id[32];     /* zero where the form is wrong */
    uint32_t start, size;
    uint8_t verdict;    /* dip_vertex_verdict */
    uint8_t corrected;  /* 1: the recovery id was wrong and has been written anew */
} dip_vertex_item;

/* Splits wire[0, len), len < 2^32, into vertices. What cannot be split any further, and what comes
 * after count_max vertices, is one last item with its verdict. items has room for
 * len / DIP_VERTEX_BYTES_MIN + 1. Returns their number. */
size_t dip_vertex_split(const uint8_t *wire, size_t len, size_t count_max, dip_vertex_item *items);

/* Judges wire[start, start + size) as exactly one vertex. */
void dip_vertex_single(const uint8_t *wire, uint32_t start, uint32_t size, dip_vertex_item *item);

/* Public keys of issuers, by address: a cache of DIP_KEYS_WAYS entries a set. One that was never
 * found again makes room first, so that issuers seen once push out one another. When all were,
 * they begin anew. Any number of threads may use one table at once. */
#define DIP_KEYS_WAYS 8
typedef struct {
    uint8_t address[20];
    uint8_t age; /* 0 empty, 1 entered, 2 found again */
    dip_secp_pubkey key;
} dip_key;

typedef struct {
    const dip_secp *secp;
    dip_key *entries; /* sets * DIP_KEYS_WAYS, the caller's, zeroed */
    size_t sets;      /* >= 1 */
    uint64_t seed;    /* unknown to peers, or they choose which entries they push out */
    pthread_mutex_t lock;
} dip_keys;

int dip_keys_find(dip_keys *keys, const uint8_t address[20], dip_secp_pubkey *key);
void dip_keys_add(dip_keys *keys, const uint8_t address[20], const dip_secp_pubkey *key);
size_t dip_keys_count(dip_keys *keys);

/* Judges items whose form was found right, on `threads` threads: id, chain, payload, signature.
 * The rule of the signature (docs/spec/dag.md "Vertex"): low s, and (r, s) verifies under a key
 * whose address is the issuer. The recovery id is a hint: where it is seen to be wrong, the right
 * one is written into wire. With keys == NULL signatures are not judged (bytes of our own disk). */
void dip_vertex_check(uint8_t *wire, dip_vertex_item *items, size_t count, uint32_t chain_id,
                      dip_keys *keys, unsigned threads);

#endif
