"""The chain: validates blocks, follows certificates, keeps state in reach of a reorg.

``Chain`` reads through a ``Reader`` and writes nothing: ``on_block`` and ``on_certificate`` return
the writes of one batch. Its contract with the caller: the writes of a call are visible through the
reader before the next call, and durable in the order of the calls. A ``Reader`` that ``state``
gives is good until the next of them.

A block is executed once, on the state of its parent, wherever that is: on the spine, below the
base, or on a branch. Loading executes nothing. What is remembered here beside the spine are caches,
and the tree of the blocks above the final one, which fork choice walks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dipnet.consensus.chain import epochs, records, rules, schedule
from dipnet.consensus.chain.block import Block, check_fields, genesis_block, genesis_members
from dipnet.consensus.chain.canonical import HASH_BYTES, Canonical
from dipnet.consensus.chain.epochs import Epoch, Epochs
from dipnet.consensus.chain.execute import Execution
from dipnet.consensus.chain.fees import next_base_fee
from dipnet.consensus.chain.overlays import Spine, StoredDelta, moved
from dipnet.consensus.chain.records import Delta, height_key, slot_prefix
from dipnet.consensus.chain.rules import BlockPosition
from dipnet.consensus.finality import boundaries, finality
from dipnet.consensus.finality.boundaries import BoundaryProof
from dipnet.consensus.finality.certified import KnownCertificates
from dipnet.consensus.finality.finality import Certified, HeaderLinks
from dipnet.consensus.finality.forkchoice import Tree
from dipnet.consensus.finality.header import HASH_ZERO, Header
from dipnet.consensus.finality.members import Members
from dipnet.consensus.finality.votes import BallotKind, Certificate, check_certificate
from dipnet.consensus.staking import idpos
from dipnet.consensus.staking.idpos import BlockContext
from dipnet.ledger.genesis import Genesis
from dipnet.ledger.state import Journal
from dipnet.ledger.tx import Tx
from dipnet.primitives.codec import Puts, Reader
from dipnet.primitives.crypto import keccak256
from dipnet.primitives.errors import RECORD_REMEDY, Corrupt, Invalid


@dataclass(frozen=True, slots=True)
class Imported:
    """What a block or a certificate did. ``applied`` came onto the canonical chain, lowest first.

    ``reverted`` are the transactions of blocks that left it and are not in ``applied``;
    ``finalized`` the heights that became final. ``surplus``: of its leader and slot there were
    SLOT_BLOCKS_MAX blocks without it.
    """

    puts: Puts
    applied: tuple[Block, ...] = ()
    reverted: tuple[Tx, ...] = ()
    finalized: range = range(0)
    surplus: bool = False


class Chain(Canonical):
    """The chain of one network on one disk."""

    def __init__(self, genesis: Genesis, reader: Reader) -> None:
        """Load from ``reader``, which on a new disk holds at least ``Chain.genesis_puts``.

        Raises ``Corrupt`` when what it holds is not whole, ``Invalid("genesis")`` when it is
        another network's chain.
        """
        head, base, final = records.unpack_head(reader.get(records.KEY_HEAD))
        super().__init__(genesis, reader, head, base)
        self.genesis_hash = self._need_at(0)
        if self.need(self.genesis_hash).seed_reveal != keccak256(genesis.encode()):
            raise Invalid("genesis", "the data directory holds the chain of another genesis.json")
        self.epochs = Epochs(genesis, reader)
        self.certificates = KnownCertificates(reader)
        self._tree = self._grown(self.need(final))
        self.sets: Mapping[int, Members] = self._sets()
        """Who votes in which epoch. Replaced, never changed: other threads read it."""
        self.epoch = self.epoch_at(self.head)
        """The epoch of the block after the head."""

    @staticmethod
    def genesis_puts(genesis: Genesis) -> Puts:
        """What an empty disk must hold before a ``Chain`` can stand on it."""
        block, puts = genesis_block(genesis)
        epoch = epochs.first(genesis, block.header, genesis_members(genesis))
        return puts | {
            records.KEY_BLOCK + block.hash: block.raw,
            records.KEY_RECEIPTS + block.hash: records.pack_receipts([], []),
            slot_prefix(0) + block.hash: records.pack_delta(Delta(block.hash, block.hash, {})),
            height_key(0): block.hash,
            epoch.key: epoch.encode(genesis),
            records.KEY_HEAD: records.pack_head(block.hash, block.hash, block.hash),
        }

    def _grown(self, final: Header) -> Tree:
        """The tree of all stored blocks above ``final``, which lie on disk by their slots."""
        tree = Tree(final)
        for key, _ in self._reader.scan(records.KEY_DELTA, slot_prefix(final.slot)):
            tree.add(self.need(key[-HASH_BYTES:]))
        return tree

    # --- reads

    @property
    def parameters(self) -> Genesis:
        """The parameters in force for the block after the head."""
        return self.epoch.parameters

    @property
    def final(self) -> Header:
        """Header of the highest block that is known to be final."""
        return self._tree.final

    @property
    def safe(self) -> Header:
        """Header of the block with the highest certificate: it stands unless a third lies."""
        return self._tree.get(self.certificates.top()) or self.final

    @property
    def next_base_fee(self) -> int:
        """Base fee (wei for a unit of gas) of the block after the head."""
        return next_base_fee(self.parameters, self.head.base_fee, self.head.gas_used)

    def epoch_at(self, header: Header) -> Epoch:
        """The epoch of the children of a block that we have."""
        if header.height == 0 or header.next_set_hash != HASH_ZERO:  # a boundary opens it
            return self.epochs.get(header.epoch + (header.height > 0), header.hash)
        if header.height > self._floor.height or header.hash in self._tree:
            return self.epochs.get(header.epoch, self.stored_delta(header.hash).delta.boundary)
        for epoch in self.epochs.numbered(header.epoch):
            if self._canonical(epoch.boundary.block_id):
                return epoch
        raise Corrupt(f"epoch {header.epoch} is missing: {RECORD_REMEDY}")

    def epoch_of(self, header: Header) -> Epoch:
        """The epoch that a block itself belongs to."""
        return self.epoch_at(self.need(header.parent) if header.height else header)

    def _sets(self) -> dict[int, Members]:
        """The sets that everybody knows: of the epoch above the final block and its neighbours."""
        epoch = self.epoch_at(self.final)
        sets = {number: epoch.members_of(number) for number in (epoch.number, epoch.number + 1)}
        before = self.epochs.get(epoch.before.epoch, epoch.before.block_id)
        return {before.number: before.members} | sets

    def signer_of(self, header: Header) -> bytes:
        """The address of the key that may sign for the header's proposer; any thread.

        All that stands above the final block is of an epoch that ``sets`` has. Raises ``Invalid``:
        ``block_epoch`` (nothing is known of its epoch), ``block_leader``.
        """
        members = self.sets.get(header.epoch)
        if members is None:
            raise Invalid("block_epoch", f"epoch {header.epoch}")
        index = members.index(header.proposer)
        if index is None:
            raise Invalid("block_leader", f"slot {header.slot}")
        return members.signers[index]

    def is_tombstoned(self, signer: bytes) -> bool:
        """Whether the delegate with this key, named by its address, was slashed at the head."""
        return idpos.is_tombstoned(Journal(self.head_state), signer)

    # --- making a block

    def section(self, parent: Header) -> tuple[Certificate, ...]:
        """The certificates that a child of a block of the tree carries: those it needs.

        What is certified below the boundary before the last is final on the branch of any child.
        """
        epoch = self.epoch_at(parent)
        certified = {
            self._certified(one, epoch): one
            for one in self.certificates
            if self._tree.ancestor(parent, one.ballot.block_id)
            and self.need(one.ballot.block_id).epoch >= epoch.before.epoch
        }
        useful = finality.useful(rules.links_of(parent), epoch.boundary, tuple(certified))
        return tuple(certified[one] for one in useful)

    def position(self, parent: Header, slot: int, section: Sequence[Certificate]) -> BlockPosition:
        """Where a child of a block stands that carries these certificates."""
        epoch = self.epoch_at(parent)
        certified = [self._certified(one, epoch) for one in section]
        links = finality.derive(rules.links_of(parent), epoch.boundary, certified)
        return BlockPosition(self.stored_delta(parent.hash), epoch, slot, links)

    def execution(self, position: BlockPosition, proposer: bytes) -> Execution:
        """To run what a block of ``proposer`` holds, on the state of its parent."""
        parent, epoch = position.parent.header, position.epoch
        context = BlockContext(
            epoch.parameters,
            epoch.number,
            position.slot,
            parent.height + 1,
            proposer,
            epoch.members,
        )
        system_only = rules.system_only(epoch, position.slot, position.links.final[1])
        return Execution(
            context,
            self._state_after(parent),
            parent.state_root,
            position.fields["base_fee"],
            system_only,
        )

    def committed(self, parent: Header, delegate: bytes) -> tuple[bytes, int]:
        """The commitment that the delegate's next block on ``parent`` opens, and of which slot."""
        return idpos.commitment_of(Journal(self._state_after(parent)), delegate)

    # --- import

    def on_block(self, block: Block, now_ms: int, asked: bool = False) -> Imported:
        """Judge a block that ``decode_block`` gave, and follow it if it is the best.

        The same function for own and foreign blocks. A block that is known does nothing. ``asked``:
        others may build on it, so it is taken even as ``surplus``: a leader who gives everybody
        other blocks of his slot would else part the honest for good. Raises ``Invalid``:
        ``block_parent`` (unknown), ``block_old`` (not above the final block), ``block_epoch``,
        ``block_future``, ``block_leader``, ``block_signature``, ``block_slot``, ``block_limit``
        (surplus, and unasked), ``block_form``, ``block_tx``, ``block_root``, ``block_seed``,
        ``oversized``, ``rules_unknown`` and those of certificates.
        """
        header = block.header
        if self.header(header.hash) is not None:
            return Imported({})
        position = self._admit(block, now_ms)
        surplus = self._crowded(header)
        if surplus and not asked:
            raise Invalid("block_limit", f"slot {header.slot}")
        self._check_position(block, position)
        stored, receipts, puts = self._execute(block, position)
        senders = [tx.sender for tx in block.txs]
        puts |= {
            records.KEY_BLOCK + header.hash: block.raw,
            records.KEY_RECEIPTS + header.hash: records.pack_receipts(receipts, senders),
            slot_prefix(header.slot) + header.hash: records.pack_delta(stored.delta),
        }
        self.remember(block, stored)
        self._tree.add(header)
        for certificate in block.certificates:  # not before: what is proven is followed
            self.certificates.prove(certificate)
        known = [*block.certificates, *self.certificates.arrived(header.hash)]
        return replace(self._settle(known, puts), surplus=surplus)

    def on_certificate(self, certificate: Certificate) -> Imported:
        """Follow a certificate whose signatures were verified, or keep it for its block.

        Raises ``Invalid("certificate_block")`` where it is of nothing that may be voted.
        """
        block_id = certificate.ballot.block_id
        header = self._tree.get(block_id)
        if header is not None:
            self._certified(certificate, self.epoch_of(header))
        elif self.header(block_id) is None:
            self.certificates.wait(certificate)
        self.certificates.prove(certificate)
        return self._settle([certificate], {})

    def _admit(self, block: Block, now_ms: int) -> BlockPosition:
        """The position of a block, at little cost, with the links that its header claims."""
        header = block.header
        if header.height <= self.final.height:
            raise Invalid("block_old", f"height {header.height} is settled")
        parent = self.header(header.parent)
        if parent is None:
            raise Invalid("block_parent", header.parent.hex())
        if parent.hash not in self._tree:
            raise Invalid("block_old", "does not descend from the final block")
        epoch = self.epoch_at(parent)
        rules.check_known(epoch)
        if header.epoch != epoch.number:
            raise Invalid("block_epoch", f"{header.epoch} where {epoch.number} runs")
        if len(block.raw) > epoch.parameters.block_bytes_max:
            raise Invalid("oversized", f"{len(block.raw)} bytes")
        if header.slot <= parent.slot:
            raise Invalid("block_slot", f"{header.slot} after {parent.slot}")
        start_ms = schedule.slot_start_ms(epoch.parameters, header.slot)
        if start_ms > now_ms + rules.CLOCK_SKEW_MS:
            raise Invalid("block_future", f"slot {header.slot} is {start_ms - now_ms} ms ahead")
        if rules.leader(epoch, header.slot, header.final[1]) != header.proposer:
            raise Invalid("block_leader", f"slot {header.slot}")
        index = epoch.members.index(header.proposer)
        if index is None or epoch.members.signers[index] != block.signer:
            raise Invalid("block_signature", "not by the proposer's key")
        links = HeaderLinks(header.justify, header.final)
        return BlockPosition(self.stored_delta(parent.hash), epoch, header.slot, links)

    def _crowded(self, header: Header) -> bool:
        """Whether all blocks of its leader and slot are here that are kept unasked."""
        of_slot = [key[-HASH_BYTES:] for key, _ in self._reader.scan(slot_prefix(header.slot))]
        own = sum(1 for one in of_slot if self.need(one).proposer == header.proposer)
        return own >= rules.SLOT_BLOCKS_MAX

    def _check_position(self, block: Block, position: BlockPosition) -> None:
        """The links that a header claims are those that its certificates give, and so its fields.

        Signatures are verified last, and not again where they were. They are part of the block: a
        known quorum for the same ballot must not stand in for them, else the block would be valid
        for some nodes only.
        """
        parent, epoch = position.parent.header, position.epoch
        before = rules.links_of(parent)
        section = []
        for certificate in block.certificates:
            if not self._above(parent, certificate.ballot.block_id):
                raise Invalid("certificate_block", "not of an ancestor")
            section.append(self._certified(certificate, epoch))
        finality.check_section(before, epoch.boundary, section)
        links = finality.derive(before, epoch.boundary, section)
        check_fields(block.header, replace(position, links=links).fields)
        committed, _ = self.committed(parent, block.header.proposer)
        if not schedule.opens(block.header.seed_reveal, committed):
            raise Invalid("block_seed")
        for certificate in block.certificates:
            if not self.certificates.verified(certificate):
                number = certificate.ballot.epoch
                members = self._members_below(epoch, number)
                check_certificate(certificate, members, self._genesis.chain_id)

    def _members_below(self, epoch: Epoch, number: int) -> Members:
        """The set of this epoch or of the one before on its branch."""
        if number == epoch.number:
            return epoch.members
        return self.epochs.get(epoch.before.epoch, epoch.before.block_id).members

    def _certified(self, certificate: Certificate, epoch: Epoch) -> Certified:
        """A certificate of a block that is below a block of ``epoch`` or of its child's.

        Raises ``Invalid("certificate_block")`` where the ballot is not what may be voted on it.
        """
        header = self.need(certificate.ballot.block_id)
        boundary = epoch.boundary if header.epoch == epoch.number else epoch.before
        if header.height == 0 or header.epoch != boundary.epoch:
            raise Invalid("certificate_block", "of a block below the last boundary")
        certified = Certified(certificate.ballot, boundary)
        finality.check_certified(certified, header)
        return certified

    def _above(self, header: Header, block_id: bytes) -> bool:
        """Whether a block is ``header``, which is in the tree, or an ancestor of it."""
        if block_id in self._tree:
            return self._tree.ancestor(header, block_id)
        below = self.header(block_id)
        return below is not None and below.height < self.final.height and self._canonical(block_id)

    def _execute(
        self, block: Block, position: BlockPosition
    ) -> tuple[StoredDelta, list[bytes], Puts]:
        """Run a block on its parent's state and compare all that its header claims.

        Gives its header with its delta, its encoded receipts, and the record of the epoch that it
        opens.
        """
        header = block.header
        execution = self.execution(position, header.proposer)
        for index, tx in enumerate(block.txs):
            try:
                execution.add(tx)
            except Invalid as refused:
                raise Invalid("block_tx", f"transaction {index}: {refused}") from None
        executed = execution.finish(position.missed, header.seed_commitment, position.boundary)
        for name, value in executed.fields.items():
            if getattr(header, name) != value:
                raise Invalid("block_root", name)
        mix = schedule.mixed(position.parent.delta.mix, header.seed_reveal)
        boundary, puts = position.parent.delta.boundary, Puts()
        if executed.elected is not None:
            elected = executed.elected
            epoch = epochs.following(
                position.epoch, header, mix, elected.members, elected.parameters
            )
            self.epochs.remember(epoch)
            puts[epoch.key] = epoch.encode(self._genesis)
            boundary = header.hash
        return StoredDelta(header, Delta(boundary, mix, executed.puts)), executed.receipts, puts

    # --- following

    def _settle(self, learned: Sequence[Certificate], puts: Puts) -> Imported:
        """Take in what is newly certified, then move the final block, the head and the base.

        ``puts`` already holds the block, if a new one is the reason.
        """
        before, final = self.final, self.final
        for certificate in learned:
            header = self._tree.get(certificate.ballot.block_id)
            if header is None:
                continue  # at or below the final block
            try:
                certified = self._certified(certificate, self.epoch_of(header))
            except Invalid:
                continue  # waited for a block for which it is not
            puts |= self.certificates.raise_to(certificate)
            if certificate.ballot.kind is BallotKind.COMMIT:
                made = self._tree.get(finality.made_final(certified)[0])
                if made is not None and made.height > final.height:
                    final = made
                    puts |= self._boundary_puts(made, certificate)
        if not puts:
            return Imported(puts)
        assert final.height >= before.height, "a final block is never left"
        if final is not before:
            self._tree.finalize(final)
            self.sets = self._sets()
        head = self._tree.head(self.certificates.top())
        if head.hash == self.head.hash and final is before:
            return Imported(puts)
        return self._follow(
            self.stored_delta(head.hash), puts, range(before.height + 1, final.height + 1)
        )

    def _boundary_puts(self, made: Header, certificate: Certificate) -> Puts:
        """The record of a boundary that ``certificate`` has made final; nothing for other blocks.

        No boundary is passed over: a block that the next set may vote on carries the certificate.
        """
        if made.next_set_hash == HASH_ZERO:
            return {}
        path = [self.need(certificate.ballot.block_id)]
        while path[-1].height > made.height and len(path) <= boundaries.PATH_HEADERS_MAX:
            path.append(self.need(path[-1].parent))
        if path.pop() != made:
            return {}  # longer than a light client takes
        epoch = self.epoch_at(made)
        proof = BoundaryProof(made, tuple(reversed(path)), certificate, epoch.members)
        return boundaries.record(proof, self.epoch_of(made).members)

    def _follow(self, best: StoredDelta, puts: Puts, finalized: range) -> Imported:
        """Make ``best`` the head, if it is not, and move the base."""
        head, old_head = best.header, self.head
        branch = [] if self._canonical(head.hash) else [best]
        while branch and not self._canonical(branch[-1].header.parent):
            branch.append(self.stored_delta(branch[-1].header.parent))
        branch.reverse()
        fork = branch[0].header.height - 1 if branch else head.height
        # A function of head and final block alone. In the window: overlays_max <= undo_blocks_max.
        target = max(self.final.height, head.height - self._genesis.overlays_max)
        spine, moves = moved(self._reader, self._spine, fork, branch, target, self.stored_delta)
        puts |= moves
        assert (spine.head.header, spine.base.header.height) == (head, target)
        applied = [self.need_block(one.header.hash) for one in branch]
        left = [self._need_at(height) for height in range(fork + 1, old_head.height + 1)]
        reverted = [tx for one in left for tx in self.need_block(one).txs]
        puts |= dict.fromkeys([records.KEY_TX + tx.hash for tx in reverted])
        # A certificate may make a shorter branch the best one.
        puts |= dict.fromkeys(
            [height_key(at) for at in range(head.height + 1, old_head.height + 1)]
        )
        for one in applied:
            puts[height_key(one.header.height)] = one.hash
            for index, tx in enumerate(one.txs):
                puts[records.KEY_TX + tx.hash] = records.pack_tx_position(one.hash, index)
        self._prune(spine, puts)
        base = spine.base.header.hash
        puts[records.KEY_HEAD] = records.pack_head(head.hash, base, self.final.hash)
        if left:
            self._sides.clear()
        if spine.base is not self._spine.base:
            self._olds.clear()
        self._spine = spine
        self.epoch = self.epoch_at(head)
        lost = tuple(tx for tx in reverted if puts[records.KEY_TX + tx.hash] is None)
        return Imported(puts, tuple(applied), lost, finalized)

    def _prune(self, spine: Spine, puts: Puts) -> None:
        """Delete what no reorg can reach any more: deltas, undo records, dead branches.

        Those of the final block and of all above it stay, however far above it the base may be.
        """
        edge = min(spine.base.header.height - self._genesis.undo_blocks_max, self.final.height)
        if edge <= self._floor.height:
            return
        floor = self.need(self._canonical_with(puts, edge) or HASH_ZERO)
        for key, _ in self._reader.scan(records.KEY_DELTA, slot_prefix(self._floor.slot)):
            if key >= slot_prefix(floor.slot):
                break
            block_hash = key[-HASH_BYTES:]
            puts[key] = puts[records.KEY_UNDO + block_hash] = None
            header = self.need(block_hash)
            if self._canonical_with(puts, header.height) != block_hash:
                puts[records.KEY_BLOCK + block_hash] = None
                puts[records.KEY_RECEIPTS + block_hash] = None
                puts[epochs.key_of(header.epoch + 1) + block_hash] = None  # if it is a boundary
                self.forget(block_hash)
        self._floor = floor
