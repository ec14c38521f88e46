/* The rules that the wrappers add to libsecp256k1: low s, recovery id, nothing written on failure. */
#undef NDEBUG
#include <assert.h>
#include <string.h>

#include "secp/fake_secp.h"
#include "hash/keccak.h"

static const uint8_t half[32] = {
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0x5d, 0x57, 0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
};

typedef struct {
    uint8_t bytes[65]; /* r || s || id */
} signature;

static int verifies(const signature *sig, const uint8_t digest[32], const dip_secp_pubkey *key) {
    return dip_secp_verify(&fake_secp, sig->bytes, digest, key);
}

static int recovers(const signature *sig, const uint8_t digest[32], int allow_high_s) {
    dip_secp_pubkey key, key_before;
    uint8_t address[20], address_before[20], expected[32];
    memset(&key_before, 0xa5, sizeof key_before);
    memset(address_before, 0x5a, sizeof address_before);
    key = key_before;
    memcpy(address, address_before, 20);
    int done = dip_secp_recover(&fake_secp, sig->bytes, digest, allow_high_s, &key, address);
    if (!done) {
        assert(!memcmp(&key, &key_before, sizeof key));
        assert(!memcmp(address, address_before, 20));
    } else {
        dip_keccak256(expected, key.data, 64);
        assert(!memcmp(address, expected + 12, 20));
    }
    return done;
}

int main(void) {
    uint8_t digest[32];
    dip_secp_pubkey key;
    signature good = {{0}}, sig;
    memset(digest, 0x11, 32);
    memset(&key, 0x22, sizeof key);
    memset(good.bytes, 0x33, 32); /* the digest xor the key */
    good.bytes[63] = 1;
    assert(verifies(&good, digest, &key) && recovers(&good, digest, 0));

    for (int id = 0; id < 256; id++) { /* above 3 the fake aborts, as the library does */
        sig = good, sig.bytes[64] = (uint8_t)id;
        assert(recovers(&sig, digest, 0) == (id <= 3));
        assert(recovers(&sig, digest, 1) == (id <= 3));
    }
    sig = good, memcpy(sig.bytes + 32, half, 32); /* the highest low s */
    assert(verifies(&sig, digest, &key) && recovers(&sig, digest, 0));
    sig.bytes[63]++;
    assert(!verifies(&sig, digest, &key) && !recovers(&sig, digest, 0));
    assert(recovers(&sig, digest, 1));
    sig = good, memcpy(sig.bytes + 32, fake_order, 32); /* s = n */
    assert(!verifies(&sig, digest, &key) && !recovers(&sig, digest, 1));
    sig = good, memcpy(sig.bytes, fake_order, 32); /* r = n */
    assert(!verifies(&sig, digest, &key) && !recovers(&sig, digest, 0));
    sig = good, memset(sig.bytes, 0, 32);
    assert(!verifies(&sig, digest, &key) && !recovers(&sig, digest, 0));
    sig = good, memset(sig.bytes + 32, 0, 32);
    assert(!verifies(&sig, digest, &key) && !recovers(&sig, digest, 0));
    sig = good, sig.bytes[7] ^= 1;
    assert(!verifies(&sig, digest, &key) && !recovers(&sig, digest, 0));
    return 0;
}
