# cython: language_level=3, boundscheck=False, wraparound=False, binding=False
"""Door to dag/vertex.c and dag/graph.c: gives them memory, and releases the GIL around batches.

Any thread may check a Batch; after that it belongs to one thread at a time. A Graph belongs to one
thread for ever.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memmove


cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *, const void *)
    int pthread_mutex_destroy(pthread_mutex_t *)


cdef extern from "dag/vertex.h" nogil:
    ctypedef struct dip_secp:
        pass
    ctypedef enum dip_vertex_verdict:
        DIP_VERTEX_OK
        DIP_VERTEX_TRAILING
        DIP_VERTEX_REF
    ctypedef struct dip_vertex:
        size_t size
        uint64_t seq
        uint64_t timestamp_ms
        uint32_t chain_id
        uint32_t ref_height
        uint32_t payload_len
        uint16_t flags
        uint16_t payload_type
        uint8_t parents_count
        const uint8_t *ref_hash
        const uint8_t *issuer
        const uint8_t *prev
        const uint8_t *topic
        const uint8_t *payload_hash
        const uint8_t *parents
        const uint8_t *extra
        const uint8_t *signature
        const uint8_t *payload
    ctypedef struct dip_vertex_item:
        uint8_t id[32]
        uint32_t start
        uint32_t size
        uint8_t verdict
        uint8_t corrected
    ctypedef struct dip_key:
        pass
    ctypedef struct dip_keys:
        const dip_secp *secp
        dip_key *entries
        size_t sets
        uint64_t seed
        pthread_mutex_t lock
    int DIP_KEYS_WAYS
    int DIP_PARENTS_MAX
    int DIP_VERTEX_BYTES_MIN
    dip_vertex_verdict dip_vertex_parse(const uint8_t *, size_t, dip_vertex *)
    size_t dip_vertex_split(const uint8_t *, size_t, size_t, dip_vertex_item *)
    void dip_vertex_single(const uint8_t *, uint32_t, uint32_t, dip_vertex_item *)
    void dip_vertex_check(uint8_t *, dip_vertex_item *, size_t, uint32_t, dip_keys *, unsigned)
    size_t dip_keys_count(dip_keys *)


cdef extern from "dag/graph.h" nogil:
    ctypedef struct dip_node:
        uint8_t id[32]
        uint64_t seq
        uint32_t height
        uint32_t ref_height
        uint32_t issuer
        uint32_t edges
        uint8_t parents_count
    ctypedef struct dip_tip:
        uint32_t ordinal
        uint32_t ref_height
    ctypedef struct dip_issuer:
        uint8_t address[20]
        uint32_t head
    ctypedef struct dip_topic:
        pass
    ctypedef struct dip_slots:
        uint64_t *slots
        unsigned bits
    ctypedef struct dip_graph:
        dip_node *nodes
        dip_tip *tips
        uint32_t *edges
        dip_issuer *issuers
        dip_topic *topics
        uint32_t count, tips_count, edges_count, issuers_count, topics_count
        uint32_t towers_count
        uint32_t capacity, edges_capacity, issuers_capacity, topics_capacity
        dip_slots by_id, by_issuer, by_topic
        uint64_t seed
        uint32_t max_parent_age
        uint64_t sum
    ctypedef enum dip_inserted:
        DIP_INSERT_ACCEPTED
        DIP_INSERT_MISSING
    uint32_t DIP_NONE
    int DIP_LEVELS_MAX
    void dip_slots_clear(dip_slots *)
    void dip_slots_move(dip_slots *, const dip_slots *)
    size_t dip_slots_limit(unsigned)
    int dip_graph_fits(const dip_graph *, size_t, size_t)
    void dip_graph_insert_batch(dip_graph *, const uint8_t *, const dip_vertex_item *, size_t,
                                uint8_t *, uint8_t *)
    uint32_t dip_graph_find(const dip_graph *, const uint8_t *)
    uint32_t dip_graph_latest(const dip_graph *, const uint8_t *, const uint8_t *)
    size_t dip_graph_range(const dip_graph *, const uint8_t *, uint64_t, uint32_t *, size_t)
    int dip_graph_nameable(const dip_graph *, uint32_t, uint32_t)
    unsigned dip_graph_select(dip_graph *, unsigned, uint32_t, uint64_t, uint32_t *)

cdef size_t WIRE_BYTES_MAX = 0xffffffff
cdef size_t CACHE_LINE = 64


cdef inline bytes take(const uint8_t *at, Py_ssize_t size):
    return PyBytes_FromStringAndSize(<const char *>at, size)


cdef inline void put_be64(uint8_t *at, uint64_t value) noexcept:
    cdef int i
    for i in range(8):
        at[i] = <uint8_t>(value >> (56 - 8 * i))


cdef const uint8_t *sized(bytes data, Py_ssize_t size) except NULL:
    if len(data) != size:
        raise ValueError(f"{len(data)} bytes where {size} are expected")
    return <const uint8_t *>PyBytes_AS_STRING(data)


cdef void *more(void *block, size_t size) except NULL:
    cdef void *grown = realloc(block, size)
    if grown == NULL:
        raise MemoryError
    return grown


cdef uint32_t doubled(uint32_t capacity, size_t least):
    return <uint32_t>min(max(<size_t>capacity * 2, least, <size_t>1024), <size_t>DIP_NONE)


cdef object signed(uint32_t ordinal):
    return -1 if ordinal == DIP_NONE else ordinal


cdef int add_record(dict puts, const uint8_t *wire, const dip_vertex *v, uint64_t ordinal,
                    bytes key_vertex) except -1:
    """Adds the record of a vertex: key_vertex (1 byte) + ordinal (8) -> wire bytes."""
    cdef uint8_t key[9]
    key[0] = <uint8_t>key_vertex[0]
    put_be64(key + 1, ordinal)
    puts[take(key, 9)] = take(wire, v.size)
    return 0


include "dag_batch.pxi"
include "dag_graph.pxi"


cdef class Chase:
    """The limit for look-ups in benchmarks: memory reads, each of which waits for the read before.

    They follow a random cycle through all cache lines of ``size`` bytes (Sattolo 1986).
    """

    cdef uint64_t *lines
    cdef size_t count, at

    def __cinit__(self, size_t size, uint64_t seed):
        cdef size_t i, j, each = CACHE_LINE // sizeof(uint64_t)
        cdef uint64_t held
        self.count = max(size // CACHE_LINE, <size_t>2)
        self.lines = <uint64_t *>malloc(self.count * CACHE_LINE)
        if self.lines == NULL:
            raise MemoryError
        for i in range(self.count):
            self.lines[i * each] = i
        for i in range(self.count - 1, 0, -1):
            seed = seed * <uint64_t>6364136223846793005 + <uint64_t>1442695040888963407
            j = (seed >> 33) % i
            held = self.lines[i * each]
            self.lines[i * each] = self.lines[j * each]
            self.lines[j * each] = held

    def run(self, uint64_t reads):
        """The cache line at which ``reads`` further steps end."""
        cdef size_t at = self.at, each = CACHE_LINE // sizeof(uint64_t)
        with nogil:
            for _ in range(reads):
                at = self.lines[at * each]
        self.at = at
        return at

    def __dealloc__(self):
        free(self.lines)
