/* Keccak-256 with the original padding (0x01), as Ethereum uses it; not NIST SHA3-256. */
#ifndef DIP_KECCAK_H
#define DIP_KECCAK_H

#include <stddef.h>
#include <stdint.h>

/* Writes the digest of data[0, len) to out, which may overlap it. data may be NULL if len is 0. */
void dip_keccak256(uint8_t out[32], const uint8_t *data, size_t len);

#endif
