#include "secp/secp.h"

#include <string.h>

#include "assert/dip_assert.h"
#include "hash/keccak.h"

#define UNCOMPRESSED 2u /* SECP256K1_EC_UNCOMPRESSED */

static const uint8_t half_order[32] = {
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0x5d, 0x57, 0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
};

/* BIP 146, EIP-2: of (r, s) and (r, n - s) only the lower s is valid. The library checks r and
 * s = 0. */
static int is_low(const uint8_t s[32]) {
    return memcmp(s, half_order, 32) <= 0;
}

int dip_secp_verify(const dip_secp *secp, const uint8_t signature[64], const uint8_t digest[32],
                    const dip_secp_pubkey *key) {
    dip_secp_signature parsed;
    return is_low(signature + 32) && secp->signature_parse(secp->context, &parsed, signature) &&
           secp->verify(secp->context, &parsed, digest, key);
}

int dip_secp_recover(const dip_secp *secp, const uint8_t signature[65], const uint8_t digest[32],
                     int allow_high_s, dip_secp_pubkey *key, uint8_t address[20]) {
    dip_secp_recoverable parsed;
    dip_secp_pubkey recovered;
    if (signature[64] > 3) /* the library would abort */
        return 0;
    if (!allow_high_s && !is_low(signature + 32))
        return 0;
    if (!secp->recoverable_parse(secp->context, &parsed, signature, signature[64]) ||
        !secp->recover(secp->context, &recovered, &parsed, digest))
        return 0;
    *key = recovered;
    dip_secp_address(secp, key, address);
    return 1;
}

void dip_secp_address(const dip_secp *secp, const dip_secp_pubkey *key, uint8_t address[20]) {
    uint8_t point[65], digest[32];
    size_t len = sizeof point;
    secp->pubkey_serialize(secp->context, point, &len, key, UNCOMPRESSED);
    DIP_ASSERT(len == sizeof point);
    dip_keccak256(digest, point + 1, 64);
    memcpy(address, digest + 12, 20);
}
