# cython: language_level=3, boundscheck=False, wraparound=False, binding=False
"""The door to vertex.c and graph.c: memory for them, bytes in and out, the GIL released around C.

A Batch is judged on any thread and then belongs to one; a Graph belongs to one thread for ever.
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


cdef extern from "vertex.h" nogil:
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


cdef extern from "graph.h" nogil:
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


cdef class Keys:
    """Known public keys of issuers. ``secp`` is crypto.SECP_TABLE. Shared by threads."""

    cdef dip_keys table

    def __cinit__(self, uintptr_t secp, size_t capacity, uint64_t seed):
        self.table.secp = <const dip_secp *>secp
        self.table.sets = max(capacity // <size_t>DIP_KEYS_WAYS, <size_t>1)
        self.table.seed = seed
        self.table.entries = <dip_key *>calloc(self.table.sets * DIP_KEYS_WAYS, sizeof(dip_key))
        if self.table.entries == NULL:
            raise MemoryError
        pthread_mutex_init(&self.table.lock, NULL)

    def __dealloc__(self):
        if self.table.entries != NULL:
            pthread_mutex_destroy(&self.table.lock)
            free(self.table.entries)

    def __len__(self):
        return dip_keys_count(&self.table)


cdef class Batch:
    """Vertices as they came, each with its id and its verdict. Made by the functions below."""

    cdef uint8_t *wire_bytes
    cdef dip_vertex_item *items
    cdef size_t count

    def __dealloc__(self):
        free(self.items)

    def __len__(self):
        return self.count

    cdef int room(self, size_t count_max, size_t size) except -1:
        """One block: the items, then the wire bytes."""
        if size > WIRE_BYTES_MAX:
            raise ValueError("a batch is smaller than 4 GiB")
        self.items = <dip_vertex_item *>malloc(count_max * sizeof(dip_vertex_item) + size + 1)
        if self.items == NULL:
            raise MemoryError
        self.wire_bytes = <uint8_t *>(self.items + count_max)
        return 0

    cdef dip_vertex_item *item(self, Py_ssize_t i) except NULL:
        if not 0 <= i < <Py_ssize_t>self.count:
            raise IndexError(i)
        return &self.items[i]

    def id(self, Py_ssize_t i):
        return take(self.item(i).id, 32)

    def wire(self, Py_ssize_t i):
        return take(self.wire_bytes + self.item(i).start, self.item(i).size)

    def verdict(self, Py_ssize_t i):
        return self.item(i).verdict

    def corrected(self, Py_ssize_t i):
        return bool(self.item(i).corrected)

    def issuer(self, Py_ssize_t i):
        cdef dip_vertex v
        cdef dip_vertex_item *item = self.item(i)
        if dip_vertex_parse(self.wire_bytes + item.start, item.size, &v):
            return b""
        return take(v.issuer, 20)

    def verdicts(self):
        cdef bytes out = PyBytes_FromStringAndSize(NULL, self.count)
        cdef uint8_t *at = <uint8_t *>PyBytes_AS_STRING(out)
        cdef size_t i
        for i in range(self.count):
            at[i] = self.items[i].verdict
        return out

    def corrections(self):
        return [i for i in range(self.count) if self.items[i].corrected]

    def refs(self):
        cdef dip_vertex v
        cdef dip_vertex_item *item
        cdef size_t i
        cdef dict seen = {}
        for i in range(self.count):
            item = &self.items[i]
            if item.verdict:
                continue
            dip_vertex_parse(self.wire_bytes + item.start, item.size, &v)
            seen[(v.ref_height, take(v.ref_hash, 8))] = None
        return list(seen)

    def refuse_ref(self, uint32_t ref_height, bytes ref_hash):
        cdef const uint8_t *hash8 = sized(ref_hash, 8)
        cdef dip_vertex v
        cdef dip_vertex_item *item
        cdef size_t i
        for i in range(self.count):
            item = &self.items[i]
            if item.verdict:
                continue
            dip_vertex_parse(self.wire_bytes + item.start, item.size, &v)
            if v.ref_height == ref_height and not memcmp(v.ref_hash, hash8, 8):
                item.verdict = DIP_VERTEX_REF


cdef Batch judged(Batch batch, uint32_t chain_id, Keys keys, unsigned threads):
    cdef dip_keys *table = NULL if keys is None else &keys.table
    with nogil:
        dip_vertex_check(batch.wire_bytes, batch.items, batch.count, chain_id, table, threads)
    return batch


def check_batch(bytes wire not None, size_t count_max, uint32_t chain_id, Keys keys,
                unsigned threads):
    """A concatenation of vertices, split and judged; without keys, signatures are not."""
    cdef Batch batch = Batch.__new__(Batch)
    cdef size_t size = len(wire)
    batch.room(size // DIP_VERTEX_BYTES_MIN + 1, size)
    memcpy(batch.wire_bytes, PyBytes_AS_STRING(wire), size)
    batch.count = dip_vertex_split(batch.wire_bytes, size, count_max, batch.items)
    return judged(batch, chain_id, keys, threads)


def check_items(list items not None, uint32_t chain_id, Keys keys, unsigned threads):
    """Byte strings, each judged as exactly one vertex."""
    cdef Batch batch = Batch.__new__(Batch)
    cdef size_t size = sum([len(item) for item in items]), at = 0
    cdef bytes item
    batch.room(len(items), size)
    for item in items:
        memcpy(batch.wire_bytes + at, PyBytes_AS_STRING(item), len(item))
        dip_vertex_single(batch.wire_bytes, at, len(item), &batch.items[batch.count])
        at += len(item)
        batch.count += 1
    return judged(batch, chain_id, keys, threads)


def parse(bytes raw not None):
    """The fields of exactly one vertex, or the verdict on its form."""
    cdef dip_vertex v
    cdef int i
    cdef int verdict = dip_vertex_parse(<const uint8_t *>PyBytes_AS_STRING(raw), len(raw), &v)
    if verdict:
        return verdict
    if v.size != <size_t>len(raw):
        return <int>DIP_VERTEX_TRAILING
    return (
        v.chain_id, v.flags, v.ref_height, take(v.ref_hash, 8), take(v.issuer, 20), v.seq,
        take(v.prev, 32), v.timestamp_ms, take(v.topic, 16), v.payload_type,
        take(v.payload_hash, 32),
        tuple([take(v.parents + 32 * i, 32) for i in range(v.parents_count)]),
        b"" if v.extra == NULL else take(v.extra, 8),
        take(v.signature, 65), take(v.payload, v.payload_len),
    )


cdef class Graph:
    """graph.h with memory that grows by doubling. One thread owns it."""

    cdef dip_graph g
    cdef void *nodes_block
    cdef size_t nodes_gap

    def __cinit__(self, uint32_t max_parent_age, uint64_t seed):
        self.g.max_parent_age = max_parent_age
        self.g.seed = seed
        self.table(&self.g.by_id, 0)
        self.table(&self.g.by_issuer, 0)
        self.table(&self.g.by_topic, 0)

    def __dealloc__(self):
        free(self.nodes_block)
        free(self.g.tips)
        free(self.g.edges)
        free(self.g.issuers)
        free(self.g.topics)
        free(self.g.by_id.slots)
        free(self.g.by_issuer.slots)
        free(self.g.by_topic.slots)

    def __len__(self):
        return self.g.count

    cdef int table(self, dip_slots *table, size_t entries) except -1:
        """Makes the table take so many entries."""
        cdef dip_slots old = table[0], new
        new.bits = old.bits if old.slots != NULL else 10
        while dip_slots_limit(new.bits) < entries:
            new.bits += 1
        if old.slots != NULL and new.bits == old.bits:
            return 0
        new.slots = <uint64_t *>malloc(sizeof(uint64_t) << new.bits)
        if new.slots == NULL:
            raise MemoryError
        dip_slots_clear(&new)
        if old.slots != NULL:
            dip_slots_move(&new, &old)
            free(old.slots)
        table[0] = new
        return 0

    cdef int grow_nodes(self, uint32_t capacity) except -1:
        """realloc moves pages and copies nothing when it is large; a node stays on one line."""
        cdef uint8_t *block = <uint8_t *>more(
            self.nodes_block, capacity * sizeof(dip_node) + CACHE_LINE)
        cdef size_t gap = CACHE_LINE - <uintptr_t>block % CACHE_LINE
        if gap != self.nodes_gap:
            memmove(block + gap, block + self.nodes_gap, self.g.count * sizeof(dip_node))
        self.nodes_block = block
        self.nodes_gap = gap
        self.g.nodes = <dip_node *>(block + gap)
        self.g.tips = <dip_tip *>more(self.g.tips, capacity * sizeof(dip_tip))
        self.g.capacity = capacity
        return 0

    cdef int reserve(self, size_t count) except -1:
        cdef size_t edges = count * (DIP_PARENTS_MAX + DIP_LEVELS_MAX)
        cdef dip_graph *g = &self.g
        if dip_graph_fits(g, count, count * DIP_PARENTS_MAX):
            return 0
        if g.count + count >= DIP_NONE or g.edges_count + edges >= DIP_NONE:
            raise MemoryError
        if g.count + count > g.capacity:
            self.grow_nodes(doubled(g.capacity, g.count + count))
        if g.edges_count + edges > g.edges_capacity:
            size = doubled(g.edges_capacity, g.edges_count + edges)
            g.edges = <uint32_t *>more(g.edges, size * sizeof(uint32_t))
            g.edges_capacity = size
        if g.issuers_count + count > g.issuers_capacity:
            size = doubled(g.issuers_capacity, g.issuers_count + count)
            g.issuers = <dip_issuer *>more(g.issuers, size * sizeof(dip_issuer))
            g.issuers_capacity = size
        if g.topics_count + count > g.topics_capacity:
            size = doubled(g.topics_capacity, g.topics_count + count)
            g.topics = <dip_topic *>more(g.topics, size * sizeof(dip_topic))
            g.topics_capacity = size
        self.table(&g.by_id, g.count + count)
        self.table(&g.by_issuer, g.issuers_count + count)
        self.table(&g.by_topic, g.topics_count + count)
        return 0

    cdef bytes inserted(self, Batch batch, uint8_t *missing):
        """Statuses of the whole batch; missing takes a byte a vertex."""
        cdef bytes statuses = PyBytes_FromStringAndSize(NULL, batch.count)
        cdef uint8_t *status = <uint8_t *>PyBytes_AS_STRING(statuses)
        self.reserve(batch.count)
        with nogil:
            dip_graph_insert_batch(&self.g, batch.wire_bytes, batch.items, batch.count, status,
                                   missing)
        return statuses

    def attach(self, Batch batch not None):
        """Inserts what is on disk already: statuses only."""
        cdef uint8_t *missing = <uint8_t *>malloc(batch.count + 1)
        if missing == NULL:
            raise MemoryError
        try:
            return self.inserted(batch, missing)
        finally:
            free(missing)

    def insert_batch(self, Batch batch not None, bytes key_vertex not None):
        """Statuses, ids of the accepted in order, (index, missing parents) and store records."""
        cdef uint8_t *missing = <uint8_t *>malloc(batch.count + 1)
        cdef uint64_t ordinal = self.g.count
        cdef list accepted = [], waiting = []
        cdef dict puts = {}
        cdef dip_vertex v
        cdef dip_vertex_item *item
        cdef size_t i
        cdef bytes statuses
        cdef const uint8_t *status
        if missing == NULL:
            raise MemoryError
        try:
            statuses = self.inserted(batch, missing)
            status = <const uint8_t *>PyBytes_AS_STRING(statuses)
            for i in range(batch.count):
                if status[i] != DIP_INSERT_ACCEPTED and status[i] != DIP_INSERT_MISSING:
                    continue
                item = &batch.items[i]
                dip_vertex_parse(batch.wire_bytes + item.start, item.size, &v)
                if status[i] == DIP_INSERT_ACCEPTED:
                    accepted.append(take(item.id, 32))
                    add_record(puts, batch.wire_bytes + item.start, &v, ordinal, key_vertex)
                    ordinal += 1
                else:
                    waiting.append((i, [take(v.parents + 32 * j, 32)
                                        for j in range(v.parents_count) if missing[i] >> j & 1]))
        finally:
            free(missing)
        return statuses, accepted, waiting, puts

    cdef dip_node *node(self, Py_ssize_t ordinal) except NULL:
        if not 0 <= ordinal < self.g.count:
            raise IndexError(ordinal)
        return &self.g.nodes[ordinal]

    def find(self, bytes id not None):
        return signed(dip_graph_find(&self.g, sized(id, 32)))

    def id(self, Py_ssize_t ordinal):
        return take(self.node(ordinal).id, 32)

    def issuer(self, Py_ssize_t ordinal):
        return take(self.g.issuers[self.node(ordinal).issuer].address, 20)

    def seq(self, Py_ssize_t ordinal):
        return self.node(ordinal).seq

    def height(self, Py_ssize_t ordinal):
        return self.node(ordinal).height

    def parents(self, Py_ssize_t ordinal):
        cdef dip_node *node = self.node(ordinal)
        return [self.g.edges[node.edges + i] for i in range(node.parents_count)]

    def latest(self, bytes issuer not None, bytes topic):
        cdef const uint8_t *on = NULL
        if topic is not None:
            on = sized(topic, 16)
        return signed(dip_graph_latest(&self.g, sized(issuer, 20), on))

    def range(self, bytes issuer not None, uint64_t seq_from, size_t count):
        """Ordinals of up to 256 vertices of the issuer from a seq on, by seq, then by arrival."""
        cdef uint32_t found[256]
        if count > 256:
            raise ValueError(count)
        count = dip_graph_range(&self.g, sized(issuer, 20), seq_from, found, count)
        return [found[i] for i in range(count)]

    def nameable(self, Py_ssize_t ordinal, uint32_t final_height):
        return bool(dip_graph_nameable(&self.g, self.node(ordinal).ref_height, final_height))

    def select(self, unsigned k, uint32_t final_height, uint64_t seed):
        cdef uint32_t chosen[8]
        cdef unsigned found
        if k > <unsigned>DIP_PARENTS_MAX:
            raise ValueError(k)
        found = dip_graph_select(&self.g, k, final_height, seed, chosen)
        return [chosen[i] for i in range(found)]

    def select_many(self, uint64_t n, unsigned k, uint32_t final_height, uint64_t seed):
        """n selections in C, for measuring: the exclusive or of the ordinals chosen."""
        cdef uint32_t chosen[8]
        cdef uint32_t check = 0
        cdef unsigned found, j
        cdef uint64_t i
        if k > <unsigned>DIP_PARENTS_MAX:
            raise ValueError(k)
        with nogil:
            for i in range(n):
                found = dip_graph_select(&self.g, k, final_height, seed + i, chosen)
                for j in range(found):
                    check ^= chosen[j]
        return check

    def tips(self, size_t start, size_t count):
        """Ordinals of up to ``count`` tips from position ``start``, going round once."""
        cdef size_t all_of_them = self.g.tips_count
        return [self.g.tips[(start + i) % all_of_them].ordinal
                for i in range(min(count, all_of_them))]

    def sum(self):
        """Of the first 8 bytes of every id, modulo 2^64."""
        return self.g.sum

    def counts(self):
        """Vertices, tips, edges, issuers, pairs of issuer and topic, bytes in use."""
        cdef dip_graph *g = &self.g
        size = (g.count * (sizeof(dip_node)) + g.tips_count * sizeof(dip_tip)
                + g.edges_count * sizeof(uint32_t) + g.issuers_count * sizeof(dip_issuer)
                + g.topics_count * 24 + (sizeof(uint64_t) << g.by_id.bits)
                + (sizeof(uint64_t) << g.by_issuer.bits) + (sizeof(uint64_t) << g.by_topic.bits))
        edges = g.edges_count - g.towers_count
        return g.count, g.tips_count, edges, g.issuers_count, g.topics_count, size


cdef class Chase:
    """The limit that look-ups are held against: reads of memory that each wait for the one before.

    A random cycle through all cache lines of ``size`` bytes (Sattolo 1986).
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
        """Where so many steps lead."""
        cdef size_t at = self.at, each = CACHE_LINE // sizeof(uint64_t)
        with nogil:
            for _ in range(reads):
                at = self.lines[at * each]
        self.at = at
        return at

    def __dealloc__(self):
        free(self.lines)


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
    """key_vertex + ordinal 8 -> wire."""
    cdef uint8_t key[9]
    key[0] = <uint8_t>key_vertex[0]
    put_be64(key + 1, ordinal)
    puts[take(key, 9)] = take(wire, v.size)
    return 0
