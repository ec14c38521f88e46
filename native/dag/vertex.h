/* The vertex of the DAG: its layout, and the checks that need nothing but its bytes
 * (docs/spec/dag.md "Vertex").
 *
 * On the wire: envelope || signature (65) || payload; integers are big-endian.
 *   0 version = 1 | 1 type = 0 | 2 chain_id 4 | 6 flags 2 | 8 ref_height 4 | 12 ref_hash 8
 *   20 issuer 20 | 40 seq 8 | 48 prev 32 | 80 timestamp_ms 8 | 88 topic 16 | 104 payload_type 2
 *   106 payload_len 4 | 110 payload_hash 32 | 142 n_parents 1 | 143 parents 32 each
 *   | extra 8, only with DIP_VERTEX_HAS_EXTRA
 * id = SHA-256(envelope); signature = r || s || recovery id over the id. A vertex's bytes give its
 * length, so a batch is a plain concatenation. */
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
    DIP_VERTEX_CUT,       /* shorter than its fields say */
    DIP_VERTEX_TRAILING,  /* bytes after the only vertex of an item */
    DIP_VERTEX_COUNT,     /* beyond the number of vertices that the caller takes */
    DIP_VERTEX_VERSION,   /* version or type is unknown */
    DIP_VERTEX_FLAGS,     /* unknown flag */
    DIP_VERTEX_MANY,      /* more than DIP_PARENTS_MAX parents */
    DIP_VERTEX_LONG,      /* payload_len above DIP_PAYLOAD_BYTES_MAX */
    DIP_VERTEX_BATCH,     /* payload_hash is a Merkle root: not supported yet */
    DIP_VERTEX_SALT,      /* salted, and the payload is shorter than its salt */
    DIP_VERTEX_PARENTS,   /* parents unsorted or repeated */
    DIP_VERTEX_CHAIN,     /* another chain_id */
    DIP_VERTEX_PAYLOAD,   /* payload_hash is not the hash of the payload */
    DIP_VERTEX_SIGNATURE, /* not a signature of the issuer, or s is high */
    DIP_VERTEX_REF,       /* its reference block is not on the chain; set by the caller only */
} dip_vertex_verdict;

/* A parsed vertex. Its pointers lead into the bytes that were parsed, which must outlive it. */
typedef struct {
    size_t size;          /* of the whole vertex in bytes; 0 where its end is unknown */
    size_t envelope_len;
    uint64_t seq, timestamp_ms;
    uint32_t chain_id, ref_height, payload_len;
    uint16_t flags, payload_type;
    uint8_t parents_count;
    const uint8_t *ref_hash, *issuer, *prev, *topic, *payload_hash, *parents;
    const uint8_t *extra; /* NULL without the flag */
    const uint8_t *signature, *payload;
} dip_vertex;

/* Parses the vertex at the start of data[0, len) and checks its form; more bytes may follow it. On
 * OK every field of *out is set. On any other verdict only out->size counts: it is the length of
 * the malformed vertex, or 0 where the next vertex cannot be found. */
dip_vertex_verdict dip_vertex_parse(const uint8_t *data, size_t len, dip_vertex *out);

/* One vertex of a batch of wire bytes. */
typedef struct {
    uint8_t id[32];     /* zero where the form is wrong, and before dip_vertex_check */
    uint32_t start, size; /* bytes of the wire */
    uint8_t verdict;    /* dip_vertex_verdict */
    uint8_t corrected;  /* 1: the recovery id was wrong and was corrected in the wire bytes */
} dip_vertex_item;

/* Splits wire[0, len), len < 2^32 (asserted), into vertices and writes one item for each, with the
 * verdict on its form. Bytes that cannot be split further, and bytes after count_max vertices, are
 * one last item with its verdict. items has room for len / DIP_VERTEX_BYTES_MIN + 1 items. Returns
 * the number of items written. */
size_t dip_vertex_split(const uint8_t *wire, size_t len, size_t count_max, dip_vertex_item *items);

/* Writes the item of wire[start, start + size), which is to be exactly one vertex. */
void dip_vertex_single(const uint8_t *wire, uint32_t start, uint32_t size, dip_vertex_item *item);

/* Public keys of issuers by address: a set-associative cache with DIP_KEYS_WAYS entries a set. An
 * entry that was never found again is evicted first, so issuers that were seen once evict only each
 * other. When every entry of a set has been found again, all of them count as new. Any number of
 * threads may use one table at once. */
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
    uint64_t seed;    /* secret: peers that knew it could choose which entries they evict */
    pthread_mutex_t lock;
} dip_keys;

/* Copies the key of the address to *key and returns 1; returns 0 where it is not in the table. */
int dip_keys_find(dip_keys *keys, const uint8_t address[20], dip_secp_pubkey *key);
/* Enters a key, and evicts another key if its set is full. An address that is there stays. */
void dip_keys_add(dip_keys *keys, const uint8_t address[20], const dip_secp_pubkey *key);
/* The number of keys in the table. */
size_t dip_keys_count(dip_keys *keys);

/* Checks items whose form is right, on `threads` threads: sets id and, where the chain id, the hash
 * of the payload or the signature is wrong, the verdict. Items with another verdict are left alone.
 * The rule of the signature (docs/spec/dag.md "Vertex"): low s, and (r, s) verifies under a key
 * whose address is the issuer. The recovery id is a hint only: a wrong one is corrected in wire.
 * With keys == NULL signatures are not checked (for bytes of our own disk). */
void dip_vertex_check(uint8_t *wire, dip_vertex_item *items, size_t count, uint32_t chain_id,
                      dip_keys *keys, unsigned threads);

#endif
