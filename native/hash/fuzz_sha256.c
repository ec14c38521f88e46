/* The portable SHA-256 and the SHA-256 with SHA instructions agree on every message. */
#include <stdlib.h>

#define dip_sha256 dip_sha256_of_this_fuzzer
#include "hash/sha256.c"
#undef dip_sha256

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t portable[32], fast[32];
    hash(compress_portable, portable, data, size);
    hash(fastest(), fast, data, size);
    if (memcmp(portable, fast, 32))
        abort();
    return 0;
}
