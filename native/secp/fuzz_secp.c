/* Takes any 97 bytes as signature and digest. The wrappers never pass on input on which the library
 * aborts, never accept a high s, and write nothing on failure. */
#include "secp/fake_secp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    dip_secp_pubkey key = {{0}};
    uint8_t address[20] = {0}, again[20];
    if (size != 97)
        return 0;
    const uint8_t *signature = data, *digest = data + 65;
    int strict = dip_secp_recover(&fake_secp, signature, digest, 0, &key, address);
    if (!strict && memcmp(address, fake_zero, 20))
        abort();
    if (strict && (signature[32] > 0x7f || signature[64] > 3))
        abort();
    if (strict && (!dip_secp_verify(&fake_secp, signature, digest, &key) ||
                   !dip_secp_recover(&fake_secp, signature, digest, 1, &key, again) ||
                   memcmp(address, again, 20)))
        abort();
    return 0;
}
