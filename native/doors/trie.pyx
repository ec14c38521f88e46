# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=False
"""Door to the Merkle Patricia trie in C.

Each record is read by one Python call, and once only. Written records are returned as a value.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from operator import itemgetter

from dipnet.primitives.errors import Corrupt


cdef extern from "trie/trie.h" nogil:
    enum:
        DIP_TRIE_OK
        DIP_TRIE_MEMORY
        DIP_TRIE_CORRUPT
        DIP_TRIE_ARGUMENT
        DIP_TRIE_STOPPED
        DIP_TRIE_PATH_BYTES_MAX
        DIP_TRIE_NIBBLES_MAX
    ctypedef struct dip_trie_item:
        const uint8_t *key
        size_t key_len
        const uint8_t *value
        size_t value_len
    ctypedef int (*load_fn)(void *, const uint8_t *, size_t, const uint8_t **,
                            size_t *) noexcept nogil
    ctypedef int (*store_fn)(void *, const uint8_t *, size_t, const uint8_t *,
                             size_t) noexcept nogil
    ctypedef struct dip_trie_records:
        void *context
        load_fn load
        store_fn store
    int dip_trie_update(uint8_t *root, const uint8_t *before, const dip_trie_item *items, size_t n,
                        const dip_trie_records *records, void *memory, size_t memory_len)
    size_t dip_trie_path(uint8_t *out, const uint8_t *nibbles, size_t n)

# Enough for an item in a usual trie; a retry gets more. Unused pages cost nothing.
cdef size_t MEMORY_PER_ITEM = 4096
cdef size_t MEMORY_LEAST = 1 << 16


cdef class Records:
    """State of the callbacks: reads by ``get``, keeps read records alive, collects writes."""

    cdef object get
    cdef bytes prefix
    cdef dict loaded
    cdef dict puts
    cdef object error

    cdef bytes key(self, const uint8_t *nibbles, size_t n):
        cdef uint8_t path[DIP_TRIE_PATH_BYTES_MAX]
        cdef size_t size = dip_trie_path(path, nibbles, n)
        cdef size_t head = <size_t>PyBytes_GET_SIZE(self.prefix)
        cdef bytes out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(head + size))
        cdef char *to = PyBytes_AS_STRING(out)
        memcpy(to, PyBytes_AS_STRING(self.prefix), head)
        memcpy(to + head, path, size)
        return out


cdef int load(void *context, const uint8_t *nibbles, size_t n, const uint8_t **rlp,
              size_t *size) noexcept with gil:
    cdef Records records = <Records>context
    cdef object record
    try:
        key = records.key(nibbles, n)
        record = records.loaded.get(key)
        if record is None:
            record = records.get(key)
            if record is None:
                return 0
            if type(record) is not bytes:
                raise TypeError(f"a record is bytes, not {type(record).__name__}")
            records.loaded[key] = record
        rlp[0] = <const uint8_t *>PyBytes_AS_STRING(record)
        size[0] = <size_t>PyBytes_GET_SIZE(record)
        return 1
    except BaseException as error:
        records.error = error
        return -1


cdef int store(void *context, const uint8_t *nibbles, size_t n, const uint8_t *rlp,
               size_t size) noexcept with gil:
    cdef Records records = <Records>context
    try:
        records.puts[records.key(nibbles, n)] = (
            None if rlp == NULL else PyBytes_FromStringAndSize(<const char *>rlp, <Py_ssize_t>size)
        )
        return 0
    except BaseException as error:
        records.error = error
        return -1


cdef bytes run(list items, bytes before, Records records):
    """The root after ``items``: ascending pairs of bytes, which the caller keeps alive."""
    cdef size_t n = <size_t>len(items), i, memory_len = MEMORY_LEAST + n * MEMORY_PER_ITEM
    cdef const uint8_t *old = <const uint8_t *>PyBytes_AS_STRING(before) if before else NULL
    cdef uint8_t root[32]
    cdef dip_trie_records callbacks
    cdef void *memory
    cdef int status = DIP_TRIE_MEMORY
    cdef bytes key, value
    cdef dip_trie_item *native = <dip_trie_item *>malloc((n + 1) * sizeof(dip_trie_item))
    if native == NULL:
        raise MemoryError
    try:
        for i in range(n):
            key, value = items[i]
            native[i].key = <const uint8_t *>PyBytes_AS_STRING(key)
            native[i].key_len = <size_t>PyBytes_GET_SIZE(key)
            native[i].value = <const uint8_t *>PyBytes_AS_STRING(value)
            native[i].value_len = <size_t>PyBytes_GET_SIZE(value)
        callbacks.context = <void *>records
        callbacks.load = NULL
        callbacks.store = NULL
        if records is not None:
            callbacks.load = load
            callbacks.store = store
        while status == DIP_TRIE_MEMORY:
            memory = malloc(memory_len)
            if memory == NULL:
                raise MemoryError
            if records is None:
                with nogil:
                    status = dip_trie_update(root, old, native, n, &callbacks, memory, memory_len)
            else:  # with the GIL: taking it again for each record would cost more
                records.puts = {}
                status = dip_trie_update(root, old, native, n, &callbacks, memory, memory_len)
            free(memory)
            memory_len *= 4
    finally:
        free(native)
    if status == DIP_TRIE_STOPPED:
        raise records.error
    if status == DIP_TRIE_CORRUPT:
        raise Corrupt("a node of the state trie is missing or is not what its parent names")
    if status == DIP_TRIE_ARGUMENT:
        raise ValueError("a key occurs twice or is too long")
    return PyBytes_FromStringAndSize(<const char *>root, 32)


def update(object get, bytes prefix, object items, bytes before=None):
    """Applies ``items``, pairs (key, value) where ``b""`` deletes, to the trie under ``prefix``.

    Returns the new root and the changed records by key, None for a deleted record. The keys of
    the trie's records begin with ``prefix``.

    ``get(key)`` returns a record or None; it is called once for each stored node in use. The trie
    must have the root ``before``, unless that is None. Raises Corrupt where a node is missing,
    malformed, or does not have the hash in its parent; ValueError for a repeated key or a key of
    more than 256 bytes.
    """
    if before is not None and len(before) != 32:
        raise ValueError(f"a root has 32 bytes, not {len(before)}")
    cdef Records records = Records()
    records.get = get
    records.prefix = prefix
    records.loaded = {}
    records.puts = {}
    root = run(sorted(items, key=itemgetter(0)), before, records)
    return root, records.puts


def root(object items):
    """The root (32 bytes) of the trie of ``items``, pairs (key, value). Reads no records."""
    return run(sorted(items, key=itemgetter(0)), None, None)


def record_path(bytes nibbles):
    """The part of a record's key after its prefix, for a path with one nibble a byte."""
    cdef uint8_t path[DIP_TRIE_PATH_BYTES_MAX]
    if len(nibbles) > DIP_TRIE_NIBBLES_MAX or (nibbles and max(nibbles) > 15):
        raise ValueError("a path is at most 512 nibbles, one a byte")
    cdef size_t n = dip_trie_path(path, <const uint8_t *>PyBytes_AS_STRING(nibbles),
                                  <size_t>PyBytes_GET_SIZE(nibbles))
    return PyBytes_FromStringAndSize(<const char *>path, <Py_ssize_t>n)
