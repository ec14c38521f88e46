/* A stand-in for libsecp256k1 in test_*.c and fuzz_*.c, which link no library. Its calls fail and
 * abort where the library's do, so that the rules of the wrappers can be tested. A key is one byte
 * repeated; (r, s) verifies and recovers if r is the digest xor the key's byte. */
#ifndef DIP_FAKE_SECP_H
#define DIP_FAKE_SECP_H

#include <stdlib.h>
#include <string.h>

#include "secp/secp.h"

static const uint8_t fake_order[32] = {
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe,
    0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
};
static const uint8_t fake_zero[32];

static int fake_in_range(const uint8_t *signature) {
    return memcmp(signature, fake_order, 32) < 0 && memcmp(signature + 32, fake_order, 32) < 0;
}

static int fake_pubkey_parse(const void *context, dip_secp_pubkey *key, const uint8_t *in,
                             size_t len) {
    (void)context;
    if (len != 33 || (in[0] != 2 && in[0] != 3))
        return 0;
    memset(key, in[1], sizeof *key);
    return 1;
}

static int fake_pubkey_serialize(const void *context, uint8_t *out, size_t *len,
                                 const dip_secp_pubkey *key, unsigned flags) {
    (void)context;
    if (*len < 65 || flags != 2)
        abort();
    out[0] = 4;
    memcpy(out + 1, key->data, 64);
    *len = 65;
    return 1;
}

static int fake_signature_parse(const void *context, dip_secp_signature *out, const uint8_t *in) {
    (void)context;
    memset(out, 0, sizeof *out);
    if (!fake_in_range(in))
        return 0;
    memcpy(out, in, 64);
    return 1;
}

static int fake_signature_normalize(const void *context, dip_secp_signature *out,
                                    const dip_secp_signature *in) {
    (void)context;
    if (out)
        *out = *in;
    return 0;
}

static int fake_matches(const uint8_t *signature, const uint8_t *digest, uint8_t key) {
    if (!memcmp(signature, fake_zero, 32) || !memcmp(signature + 32, fake_zero, 32))
        return 0;
    for (int i = 0; i < 32; i++)
        if ((signature[i] ^ digest[i]) != key)
            return 0;
    return 1;
}

static int fake_verify(const void *context, const dip_secp_signature *signature,
                       const uint8_t *digest, const dip_secp_pubkey *key) {
    (void)context;
    return fake_matches(signature->data, digest, key->data[0]);
}

static int fake_recoverable_parse(const void *context, dip_secp_recoverable *out, const uint8_t *in,
                                  int id) {
    (void)context;
    if (id < 0 || id > 3)
        abort(); /* as libsecp256k1's illegal-argument callback does */
    memset(out, 0, sizeof *out);
    if (!fake_in_range(in))
        return 0;
    memcpy(out, in, 64);
    out->data[64] = (uint8_t)id;
    return 1;
}

static int fake_recover(const void *context, dip_secp_pubkey *key,
                        const dip_secp_recoverable *signature, const uint8_t *digest) {
    (void)context;
    uint8_t byte = signature->data[0] ^ digest[0];
    memset(key, 0, sizeof *key);
    if (!fake_matches(signature->data, digest, byte))
        return 0;
    memset(key, byte, sizeof *key);
    return 1;
}

static const dip_secp fake_secp = {
    NULL, fake_pubkey_parse, fake_pubkey_serialize, fake_signature_parse,
    fake_signature_normalize, fake_verify, fake_recoverable_parse, fake_recover,
};

#endif
