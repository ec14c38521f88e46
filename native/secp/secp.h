/* secp256k1 through function addresses of the libsecp256k1 that coincurve has loaded into the
 * process; this code is linked with no libsecp256k1 of its own. */
#ifndef DIP_SECP_H
#define DIP_SECP_H

#include <stddef.h>
#include <stdint.h>

/* Opaque structs of libsecp256k1. The door compares their sizes with the library's at import. */
typedef struct { uint8_t data[64]; } dip_secp_pubkey;
typedef struct { uint8_t data[64]; } dip_secp_signature;
typedef struct { uint8_t data[65]; } dip_secp_recoverable;

/* Function table: filled once, then read-only and shared by all threads. `context` outlives it. */
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

/* Returns 1 if signature = r || s (64 bytes) has 1 <= r < n and 1 <= s <= n/2 and verifies over
 * digest (32 bytes) under key, else 0. */
int dip_secp_verify(const dip_secp *secp, const uint8_t signature[64], const uint8_t digest[32],
                    const dip_secp_pubkey *key);

/* Recovers the signer of digest from signature = r || s || recovery id (0..3). Returns 1 and writes
 * *key and its address, or returns 0 and writes nothing. s above n/2 is refused unless
 * allow_high_s. */
int dip_secp_recover(const dip_secp *secp, const uint8_t signature[65], const uint8_t digest[32],
                     int allow_high_s, dip_secp_pubkey *key, uint8_t address[20]);

/* Writes the address of a parsed key: the last 20 bytes of keccak256 of its 64-byte point. */
void dip_secp_address(const dip_secp *secp, const dip_secp_pubkey *key, uint8_t address[20]);

#endif
