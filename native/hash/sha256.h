/* SHA-256 (FIPS 180-4). Uses the processor's SHA instructions where it has them. */
#ifndef DIP_SHA256_H
#define DIP_SHA256_H

#include <stddef.h>
#include <stdint.h>

/* Writes the digest of data[0, len) to out, which may overlap it. data may be NULL if len is 0. */
void dip_sha256(uint8_t out[32], const uint8_t *data, size_t len);

#endif
