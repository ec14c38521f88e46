#include "hash/keccak.h"

#include <string.h>

#include "assert/dip_assert.h"

#define LANES 25
#define RATE_BYTES 136 /* 1600 bits less twice the 256 of the digest */
#define ROUNDS 24

static const uint64_t round_constants[ROUNDS] = {
    0x0000000000000001, 0x0000000000008082, 0x800000000000808a, 0x8000000080008000,
    0x000000000000808b, 0x0000000080000001, 0x8000000080008081, 0x8000000000008009,
    0x000000000000008a, 0x0000000000000088, 0x0000000080008009, 0x000000008000000a,
    0x000000008000808b, 0x800000000000008b, 0x8000000000008089, 0x8000000000008003,
    0x8000000000008002, 0x8000000000000080, 0x000000000000800a, 0x800000008000000a,
    0x8000000080008081, 0x8000000000008080, 0x0000000080000001, 0x8000000080008008,
};

static inline uint64_t rotate(uint64_t lane, unsigned by) {
    return lane << by | lane >> (-by & 63); /* `by` may be 0 */
}

/* Row y of the output: theta, rho and pi move five lanes of the input there, chi mixes them. */
#define LANE(i, by) rotate(in[i] ^ d[(i) % 5], by)
#define ROW(y, b0_, b1_, b2_, b3_, b4_)                                      \
    do {                                                                     \
        uint64_t b0 = b0_, b1 = b1_, b2 = b2_, b3 = b3_, b4 = b4_;           \
        out[5 * (y)] = b0 ^ (~b1 & b2);                                      \
        out[5 * (y) + 1] = b1 ^ (~b2 & b3);                                  \
        out[5 * (y) + 2] = b2 ^ (~b3 & b4);                                  \
        out[5 * (y) + 3] = b3 ^ (~b4 & b0);                                  \
        out[5 * (y) + 4] = b4 ^ (~b0 & b1);                                  \
    } while (0)

/* One round of Keccak-f[1600] (FIPS 202, 3.2-3.3); lane (x, y) is in[x + 5 y]. */
static inline __attribute__((always_inline)) void keccak_round(uint64_t *restrict out,
                                                               const uint64_t *restrict in,
                                                               uint64_t constant) {
    uint64_t c[5], d[5];
    for (int x = 0; x < 5; x++)
        c[x] = in[x] ^ in[x + 5] ^ in[x + 10] ^ in[x + 15] ^ in[x + 20];
    for (int x = 0; x < 5; x++)
        d[x] = c[(x + 4) % 5] ^ rotate(c[(x + 1) % 5], 1);
    ROW(0, LANE(0, 0), LANE(6, 44), LANE(12, 43), LANE(18, 21), LANE(24, 14));
    ROW(1, LANE(3, 28), LANE(9, 20), LANE(10, 3), LANE(16, 45), LANE(22, 61));
    ROW(2, LANE(1, 1), LANE(7, 6), LANE(13, 25), LANE(19, 8), LANE(20, 18));
    ROW(3, LANE(4, 27), LANE(5, 36), LANE(11, 10), LANE(17, 15), LANE(23, 56));
    ROW(4, LANE(2, 62), LANE(8, 55), LANE(14, 39), LANE(15, 41), LANE(21, 2));
    out[0] ^= constant; /* iota */
}

static void keccak_f(uint64_t state[LANES]) {
    uint64_t next[LANES];
    for (int i = 0; i < ROUNDS; i += 2) {
        keccak_round(next, state, round_constants[i]);
        keccak_round(state, next, round_constants[i + 1]);
    }
}

static inline uint64_t swap_if_big_endian(uint64_t lane) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return __builtin_bswap64(lane);
#else
    return lane;
#endif
}

static void absorb(uint64_t state[LANES], const uint8_t block[RATE_BYTES]) {
    for (int i = 0; i < RATE_BYTES / 8; i++) {
        uint64_t lane;
        memcpy(&lane, block + 8 * i, 8);
        state[i] ^= swap_if_big_endian(lane);
    }
    keccak_f(state);
}

void dip_keccak256(uint8_t out[32], const uint8_t *data, size_t len) {
    DIP_ASSERT(data || !len);
    uint64_t state[LANES] = {0};
    uint8_t last[RATE_BYTES] = {0};
    for (; len >= RATE_BYTES; data += RATE_BYTES, len -= RATE_BYTES)
        absorb(state, data);
    if (len)
        memcpy(last, data, len);
    last[len] = 0x01; /* Keccak's original padding; NIST's is 0x06 */
    last[RATE_BYTES - 1] |= 0x80;
    absorb(state, last);
    for (int i = 0; i < 4; i++) {
        uint64_t lane = swap_if_big_endian(state[i]);
        memcpy(out + 8 * i, &lane, 8);
    }
}
