/* secp256k1 through the function addresses of the libsecp256k1 that the process already holds
 * (coincurve's); this library is linked with none. */
#ifndef DIP_SECP_H
#define DIP_SECP_H

#include <stddef.h>
#include <stdint.h>

/* The opaque structs of libsecp256k1; their sizes are compared with the library's at import. */
typedef struct { uint8_t data[64]; } dip_secp_pubkey;
typedef struct { uint8_t data[64]; } dip_secp_signature;
typedef struct { uint8_t data[65]; } dip_secp_recoverable;

/* Filled once, then read-only and shared by all threads. `context` outlives the table. */
typedef struct {
    const void *context;
    int (*pubkey_parse)(const void *, dip_secp_pubkey *, const uint8_t *, size_t);
    int (*pubkey_serialize)(const void *, uint8_t *, size_t *, const dip_secp_pubkey *, unsigned);
    int (*signature_parse)(const void *, dip_secp_signature *, const uint8_t *);
    int (*signature_normalize)(const void *, dip_secp_signature *, const dip_secp_signature *);
    int (*verify)(const void *, const dip_secp_signature *, const uint8_t *,
                  const dip_secp_pubkey *);
    int (*recoverable_parse)(const void *, dip_secp_recoverable *, const uint8_t *, int);
    int (*recover)(const void *, dip_secp_pubkey *, const dip_secp_recoverable *, const uint8_t *);
} dip_secp;

/* 1 iff signature = r || s (64 bytes) has 1 <= r < n, 1 <= s <= n/2 and verifies over digest (32
 * bytes) under key; else 0. */
int dip_secp_verify(const dip_secp *secp, const uint8_t signature[64], const uint8_t digest[32],
                    const dip_secp_pubkey *key);

/* signature = r || s || recovery id (0..3). On 1, *key and its address (keccak256 of the 64-byte
 * public key, last 20 bytes) are written; s may be high when allow_high_s. On 0 nothing is. */
int dip_secp_recover(const dip_secp *secp, const uint8_t signature[65], const uint8_t digest[32],
                     int allow_high_s, dip_secp_pubkey *key, uint8_t address[20]);

/* Address of a parsed key. */
void dip_secp_address(const dip_secp *secp, const dip_secp_pubkey *key, uint8_t address[20]);

#endif
