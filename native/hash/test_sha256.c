/* SHA-256: NIST's digests, and its two implementations compared with each other. */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* The implementations are static, so the file is included; its public name is renamed. */
#define dip_sha256 dip_sha256_of_this_test
#include "hash/sha256.c"
#undef dip_sha256

void dip_sha256(uint8_t out[32], const uint8_t *data, size_t len);

static void expect(const char *hex, const void *data, size_t len) {
    compress_fn *engines[] = {compress_portable, fastest()};
    for (int e = 0; e < 2; e++) {
        uint8_t out[32];
        char text[65];
        hash(engines[e], out, data, len);
        for (int i = 0; i < 32; i++)
            sprintf(text + 2 * i, "%02x", out[i]);
        assert(!strcmp(text, hex));
    }
}

int main(void) {
    static uint8_t million[1000000];
    memset(million, 'a', sizeof million);
    /* FIPS 180-4 examples; CAVP SHA256ShortMsg (8, 64 bits). */
    expect("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", NULL, 0);
    expect("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "abc", 3);
    expect("248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
           "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56);
    expect("cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", million,
           sizeof million);
    expect("28969cdfa74a12c82f3bad960b0b000aca2ac329deea5c2328ebc6f2ba9802c1", "\xd3", 1);
    expect("963bb88f27f512777aab6c8b1a02c70ec0ad651d428f870036e1917120fb48bf",
           "\x57\x38\xc9\x29\xc4\xf4\xcc\xb6", 8);
    for (size_t len = 0; len <= 300; len++) {
        uint8_t *exact = malloc(len + !len), portable[32], fast[32], in_place[332] = {0};
        assert(exact);
        for (size_t i = 0; i < len; i++)
            exact[i] = in_place[i] = (uint8_t)(i * 31 + len);
        hash(compress_portable, portable, exact, len);
        hash(fastest(), fast, exact, len);
        dip_sha256(in_place, in_place, len);
        assert(!memcmp(portable, fast, 32) && !memcmp(portable, in_place, 32));
        free(exact);
    }
    if (fastest() == compress_portable)
        puts("   no SHA instructions here: one engine tested");
    return 0;
}
