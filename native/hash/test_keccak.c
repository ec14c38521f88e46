/* keccak256: known digests, lengths around its block of 136 bytes, output over its input. */
#undef NDEBUG
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "hash/keccak.h"

static void expect(const char *hex, const void *data, size_t len) {
    uint8_t out[32];
    char text[65];
    static const char digits[] = "0123456789abcdef";
    dip_keccak256(out, data, len);
    for (int i = 0; i < 32; i++)
        text[2 * i] = digits[out[i] >> 4], text[2 * i + 1] = digits[out[i] & 15];
    text[64] = 0;
    assert(!strcmp(text, hex));
}

int main(void) {
    /* The Keccak team's ShortMsgKAT_256 (Len 0 and 8), Ethereum's Transfer topic, the empty trie. */
    expect("c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470", NULL, 0);
    expect("eead6dbfc7340a56caedc044696a168870549a6a7f6f56961e84a54bd9970b8a", "\xcc", 1);
    expect("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef",
           "Transfer(address,address,uint256)", 33);
    expect("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421", "\x80", 1);
    /* A message ends where its allocation ends, so that the sanitizers see a read past it. */
    for (size_t len = 0; len <= 420; len++) {
        uint8_t *exact = malloc(len + !len), apart[32], in_place[452] = {0};
        assert(exact);
        for (size_t i = 0; i < len; i++)
            exact[i] = in_place[i] = (uint8_t)(i * 7 + len);
        dip_keccak256(apart, exact, len);
        dip_keccak256(in_place, in_place, len);
        assert(!memcmp(apart, in_place, 32));
        if (len) { /* a bit flipped at either end changes the digest */
            exact[len - 1] ^= 0x80;
            dip_keccak256(in_place, exact, len);
            assert(memcmp(apart, in_place, 32));
        }
        free(exact);
    }
    return 0;
}
