# Keys and Batch: vertices checked by dag/vertex.c. Included by dag.pyx.

cdef class Keys:
    """A cache of issuers' public keys, for all threads. ``secp`` is crypto.SECP_TABLE."""

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
    """Vertices in their order on the wire, each with its id and verdict.

    ``check_batch`` and ``check_items`` make it.
    """

    cdef uint8_t *wire_bytes
    cdef dip_vertex_item *items
    cdef size_t count

    def __dealloc__(self):
        free(self.items)

    def __len__(self):
        return self.count

    cdef int room(self, size_t count_max, size_t size) except -1:
        """Allocates one block for the items and the wire bytes after them."""
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
    """Splits and checks a concatenation of vertices; without keys, signatures are not checked."""
    cdef Batch batch = Batch.__new__(Batch)
    cdef size_t size = len(wire)
    batch.room(size // DIP_VERTEX_BYTES_MIN + 1, size)
    memcpy(batch.wire_bytes, PyBytes_AS_STRING(wire), size)
    batch.count = dip_vertex_split(batch.wire_bytes, size, count_max, batch.items)
    return judged(batch, chain_id, keys, threads)


def check_items(list items not None, uint32_t chain_id, Keys keys, unsigned threads):
    """Checks byte strings, each as exactly one vertex; keys are as in ``check_batch``."""
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
    """The fields of the only vertex in ``raw``, or (an int) the verdict on its form."""
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
