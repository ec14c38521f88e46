# Graph: dag/graph.c with memory that grows. Included by dag.pyx.

cdef class Graph:
    """dag/graph.h with arrays that double when they are full. One thread owns it."""

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
        """Grows the table until it may hold ``entries`` entries."""
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
        """Grows the nodes, each of which stays on one cache line.

        realloc of a large block moves its pages and copies nothing.
        """
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
        """Inserts a batch; returns its statuses, and writes one byte a vertex to missing."""
        cdef bytes statuses = PyBytes_FromStringAndSize(NULL, batch.count)
        cdef uint8_t *status = <uint8_t *>PyBytes_AS_STRING(statuses)
        self.reserve(batch.count)
        with nogil:
            dip_graph_insert_batch(&self.g, batch.wire_bytes, batch.items, batch.count, status,
                                   missing)
        return statuses

    def attach(self, Batch batch not None):
        """Inserts vertices that are on disk already; returns the statuses."""
        cdef uint8_t *missing = <uint8_t *>malloc(batch.count + 1)
        if missing == NULL:
            raise MemoryError
        try:
            return self.inserted(batch, missing)
        finally:
            free(missing)

    def insert_batch(self, Batch batch not None, bytes key_vertex not None):
        """Inserts a batch. Returns a status byte for each vertex, the ids of the accepted vertices in
        order, (index, missing parents) of vertices with missing parents, and records to write."""
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
        """Ordinals of up to ``count`` (<= 256) vertices of the issuer from a seq on, by seq, then
        by arrival."""
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
        """n selections without Python between them, for benchmarks; the XOR of all ordinals."""
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
        """Ordinals of up to ``count`` tips from position ``start`` on, wrapping, none twice."""
        cdef size_t all_of_them = self.g.tips_count
        return [self.g.tips[(start + i) % all_of_them].ordinal
                for i in range(min(count, all_of_them))]

    def sum(self):
        """The sum of the first 8 bytes of all ids, modulo 2^64."""
        return self.g.sum

    def counts(self):
        """Numbers of vertices, tips, edges, issuers, (issuer, topic) pairs, and bytes in use."""
        cdef dip_graph *g = &self.g
        size = (g.count * (sizeof(dip_node)) + g.tips_count * sizeof(dip_tip)
                + g.edges_count * sizeof(uint32_t) + g.issuers_count * sizeof(dip_issuer)
                + g.topics_count * 24 + (sizeof(uint64_t) << g.by_id.bits)
                + (sizeof(uint64_t) << g.by_issuer.bits) + (sizeof(uint64_t) << g.by_topic.bits))
        edges = g.edges_count - g.towers_count
        return g.count, g.tips_count, edges, g.issuers_count, g.topics_count, size
