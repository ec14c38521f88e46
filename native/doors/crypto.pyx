# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=False
"""Door to keccak, SHA-256 and secp256k1 in C.

libsecp256k1 is coincurve's: at import, its cffi module gives the addresses of the functions and of
the static context, which live as long as the process. Batches run on native threads with the GIL
released. A wrong length is a bug of the caller and raises ValueError. A wrong signature is a result
(0, or the zero address), never an exception.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from coincurve._libsecp256k1 import ffi, lib


cdef extern from "<unistd.h>" nogil:
    long sysconf(int name)
    int _SC_NPROCESSORS_ONLN

cdef extern from "hash/keccak.h" nogil:
    void dip_keccak256(uint8_t *out, const uint8_t *data, size_t len)

cdef extern from "hash/sha256.h" nogil:
    void dip_sha256(uint8_t *out, const uint8_t *data, size_t len)

cdef extern from "par/parallel.h" nogil:
    int DIP_THREADS_MAX
    void dip_parallel(size_t n, size_t grain, unsigned threads,
                      void (*body)(void *, size_t, size_t) noexcept nogil, void *context)

cdef extern from "secp/secp.h" nogil:
    ctypedef struct dip_secp_pubkey:
        uint8_t data[64]
    ctypedef struct dip_secp_signature:
        uint8_t data[64]
    ctypedef struct dip_secp_recoverable:
        uint8_t data[65]

ctypedef int (*parse_key_fn)(
    const void *, dip_secp_pubkey *, const uint8_t *, size_t) noexcept nogil
ctypedef int (*parse_signature_fn)(
    const void *, dip_secp_signature *, const uint8_t *) noexcept nogil
ctypedef int (*verify_fn)(
    const void *, const dip_secp_signature *, const uint8_t *,
    const dip_secp_pubkey *) noexcept nogil

cdef extern from "secp/secp.h" nogil:
    ctypedef struct dip_secp:  # functions that only C calls are void pointers here
        const void *context
        parse_key_fn pubkey_parse
        void *pubkey_serialize
        parse_signature_fn signature_parse
        void *signature_normalize
        verify_fn verify
        void *recoverable_parse
        void *recover
    int dip_secp_verify(const dip_secp *secp, const uint8_t *signature, const uint8_t *digest,
                        const dip_secp_pubkey *key)
    int dip_secp_recover(const dip_secp *secp, const uint8_t *signature, const uint8_t *digest,
                         int allow_high_s, dip_secp_pubkey *key, uint8_t *address)
    void dip_secp_address(const dip_secp *secp, const dip_secp_pubkey *key, uint8_t *address)

cdef size_t GRAIN = 16  # signatures per step, about half a millisecond
cdef size_t HASH_UNLOCKED_BYTES = 65536  # a longer hash costs more than releasing the GIL

cdef dip_secp secp
_alive = (ffi, lib)  # keeps the functions of the table loaded


cdef void *address_of(str name) except NULL:
    return <void *><uintptr_t>int(ffi.cast("uintptr_t", ffi.addressof(lib, name)))


cdef int fill() except -1:
    for name, size in (
        ("secp256k1_pubkey", sizeof(dip_secp_pubkey)),
        ("secp256k1_ecdsa_signature", sizeof(dip_secp_signature)),
        ("secp256k1_ecdsa_recoverable_signature", sizeof(dip_secp_recoverable)),
    ):
        if ffi.sizeof(name) != size:
            raise ImportError(f"{name} has {ffi.sizeof(name)} bytes, native/secp/secp.h says {size}")
    lib.secp256k1_selftest()  # required once before use of the static context
    # A pointer variable: its value, not its address. Read-only, so threads share it.
    context = int(ffi.cast("uintptr_t", lib.secp256k1_context_static))
    secp.context = <const void *><uintptr_t>context
    secp.pubkey_parse = <parse_key_fn>address_of("secp256k1_ec_pubkey_parse")
    secp.pubkey_serialize = address_of("secp256k1_ec_pubkey_serialize")
    secp.signature_parse = <parse_signature_fn>address_of("secp256k1_ecdsa_signature_parse_compact")
    secp.signature_normalize = address_of("secp256k1_ecdsa_signature_normalize")
    secp.verify = <verify_fn>address_of("secp256k1_ecdsa_verify")
    secp.recoverable_parse = address_of("secp256k1_ecdsa_recoverable_signature_parse_compact")
    secp.recover = address_of("secp256k1_ecdsa_recover")
    return 0


fill()
SECP_TABLE = <uintptr_t>&secp
THREADS = min(max(sysconf(_SC_NPROCESSORS_ONLN), 1), DIP_THREADS_MAX)


cdef class Bytes:
    """Holds the buffer of a contiguous bytes-like object while it lives."""

    cdef Py_buffer view
    cdef const uint8_t *at
    cdef size_t len

    def __cinit__(self, data not None):
        PyObject_GetBuffer(data, &self.view, PyBUF_SIMPLE)
        self.at = <const uint8_t *>self.view.buf
        self.len = <size_t>self.view.len

    def __dealloc__(self):
        PyBuffer_Release(&self.view)


cdef bytes digest_of(data, void (*digest)(uint8_t *, const uint8_t *, size_t) noexcept nogil):
    cdef bytes out = PyBytes_FromStringAndSize(NULL, 32)
    cdef uint8_t *into = <uint8_t *>PyBytes_AS_STRING(out)
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    if <size_t>view.len < HASH_UNLOCKED_BYTES:
        digest(into, <const uint8_t *>view.buf, <size_t>view.len)
    else:
        with nogil:
            digest(into, <const uint8_t *>view.buf, <size_t>view.len)
    PyBuffer_Release(&view)
    return out


def keccak256(data, /):
    """Keccak-256 of bytes, with Ethereum's padding."""
    return digest_of(data, dip_keccak256)


def sha256(data, /):
    """SHA-256 of bytes (FIPS 180-4)."""
    return digest_of(data, dip_sha256)


def address(public_key):
    """The address (20 bytes) of a public key of 33 or 65 bytes; ValueError for other bytes.

    It is the last 20 bytes of keccak256 of the key's 64-byte point.
    """
    cdef Bytes key = Bytes(public_key)
    cdef dip_secp_pubkey parsed
    cdef uint8_t out[20]
    # SEC 1 2.3.4: 33 bytes begin with 02 or 03, 65 with 04; hybrid keys (06, 07) are refused.
    if not (key.len == 33 or (key.len == 65 and key.at[0] == 4)):
        raise ValueError("a public key has 33 bytes, or 65 that begin with 04")
    if not secp.pubkey_parse(secp.context, &parsed, key.at, key.len):
        raise ValueError("these bytes are no point of secp256k1")
    dip_secp_address(&secp, &parsed, out)
    return PyBytes_FromStringAndSize(<const char *>out, 20)


cdef struct Batch:
    const uint8_t *digests
    const uint8_t *signatures
    const uint8_t *keys
    uint8_t *out


cdef size_t count(Bytes data, size_t width, str what) except? 0:
    if data.len % width:
        raise ValueError(f"{what}: {data.len} bytes are no multiple of {width}")
    return data.len // width


cdef unsigned thread_count(threads) except 0:
    if threads < 0:
        raise ValueError("threads: 0 for one a processor, or a count")
    return <unsigned>min(threads or THREADS, DIP_THREADS_MAX)


cdef void recover_range(void *context, size_t begin, size_t end) noexcept nogil:
    cdef const Batch *batch = <const Batch *>context
    cdef dip_secp_pubkey key
    cdef size_t i
    for i in range(begin, end):
        if not dip_secp_recover(&secp, batch.signatures + 65 * i, batch.digests + 32 * i, 0, &key,
                                batch.out + 20 * i):
            memset(batch.out + 20 * i, 0, 20)


def recover_batch(digests, signatures, threads=0):
    """The signers' addresses, 20 bytes each, concatenated; the zero address for a bad signature.

    ``digests`` are n x 32 bytes, ``signatures`` n x 65 (r, s, recovery id; a high s is bad).
    ``threads`` 0 means one thread for each processor.
    """
    cdef Bytes messages = Bytes(digests), signed = Bytes(signatures)
    cdef size_t n = count(messages, 32, "digests")
    cdef unsigned workers = thread_count(threads)
    if count(signed, 65, "signatures") != n:
        raise ValueError("recover_batch: as many signatures as digests")
    cdef bytes out = PyBytes_FromStringAndSize(NULL, 20 * n)
    cdef Batch batch = Batch(messages.at, signed.at, NULL, <uint8_t *>PyBytes_AS_STRING(out))
    with nogil:
        dip_parallel(n, GRAIN, workers, recover_range, &batch)
    return out


cdef void verify_range(void *context, size_t begin, size_t end) noexcept nogil:
    cdef const Batch *batch = <const Batch *>context
    cdef dip_secp_pubkey key
    cdef size_t i
    for i in range(begin, end):
        batch.out[i] = (
            secp.pubkey_parse(secp.context, &key, batch.keys + 33 * i, 33)
            and dip_secp_verify(&secp, batch.signatures + 64 * i, batch.digests + 32 * i, &key)
        )


def verify_batch(digests, signatures, public_keys, threads=0):
    """One byte for each signature: 1 if s is low and it verifies under its key, else 0.

    ``digests`` are n x 32 bytes, ``signatures`` n x 64 (r, s), ``public_keys`` n x 33.
    ``threads`` 0 means one thread for each processor.
    """
    cdef Bytes messages = Bytes(digests), signed = Bytes(signatures), keys = Bytes(public_keys)
    cdef size_t n = count(messages, 32, "digests")
    cdef unsigned workers = thread_count(threads)
    if count(signed, 64, "signatures") != n or count(keys, 33, "public_keys") != n:
        raise ValueError("verify_batch: as many signatures and public keys as digests")
    cdef bytes out = PyBytes_FromStringAndSize(NULL, n)
    cdef Batch batch = Batch(messages.at, signed.at, keys.at, <uint8_t *>PyBytes_AS_STRING(out))
    with nogil:
        dip_parallel(n, GRAIN, workers, verify_range, &batch)
    return out


cdef struct RawRow:
    dip_secp_pubkey key
    dip_secp_signature signature
    uint8_t digest[32]
    uint8_t verified


cdef void raw_range(void *context, size_t begin, size_t end) noexcept nogil:
    cdef RawRow *row = <RawRow *>context + begin
    cdef size_t i
    for i in range(begin, end):
        row.verified = secp.verify(secp.context, &row.signature, row.digest, &row.key)
        row += 1


cdef class RawVerify:
    """The limit for benchmarks: secp256k1_ecdsa_verify and nothing else.

    The constructor parses keys (33 bytes each) and signatures (64); ``run`` only verifies.
    """

    cdef RawRow *rows
    cdef size_t n

    def __cinit__(self, digests, signatures, public_keys):
        cdef Bytes messages = Bytes(digests), signed = Bytes(signatures), keys = Bytes(public_keys)
        cdef size_t i, j
        self.n = count(messages, 32, "digests")
        if count(signed, 64, "signatures") != self.n or count(keys, 33, "public_keys") != self.n:
            raise ValueError("RawVerify: as many signatures and public keys as digests")
        self.rows = <RawRow *>malloc((self.n + 1) * sizeof(RawRow))  # never of 0 bytes
        if not self.rows:
            raise MemoryError
        for i in range(self.n):
            for j in range(32):
                self.rows[i].digest[j] = messages.at[32 * i + j]
            if not secp.pubkey_parse(secp.context, &self.rows[i].key, keys.at + 33 * i, 33):
                raise ValueError(f"public key {i} is no point of secp256k1")
            if not secp.signature_parse(secp.context, &self.rows[i].signature, signed.at + 64 * i):
                raise ValueError(f"signature {i} is out of range")

    def run(self, threads=0):
        """Verify all signatures on ``threads`` threads; returns the number of valid signatures."""
        cdef unsigned workers = thread_count(threads)
        cdef size_t i, good = 0
        with nogil:
            dip_parallel(self.n, GRAIN, workers, raw_range, self.rows)
            for i in range(self.n):
                good += self.rows[i].verified
        return good

    def __dealloc__(self):
        free(self.rows)
