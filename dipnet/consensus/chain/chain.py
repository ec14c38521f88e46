"""The chain: judges blocks, follows certificates, keeps the states that a reorganisation needs.

``Chain`` reads through a ``Reader`` and writes nothing: ``on_block`` and ``on_certificate`` return
the writes of one batch. The caller makes the writes of a call visible through the reader before the
next call, and durable in the order of the calls. A ``Reader`` from ``state`` is good until then.

A block is executed once, on the state of its parent: on the spine, below the base, or on a branch.
Loading executes nothing. Beside the spine and caches a chain has the tree of the blocks above the
final block, which fork choice walks.
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
from dipnet.ledger.parameters import Parameters
from dipnet.ledger.state import Journal
from dipnet.ledger.tx import Tx
from dipnet.primitives.codec import Puts, Reader
from dipnet.primitives.crypto import keccak256
from dipnet.primitives.errors import RECORD_REMEDY, Corrupt, Invalid


@dataclass(frozen=True, slots=True)
class Imported:
    """The effect of a block or a certificate on the chain.

    ``applied`` are the blocks that came onto the canonical chain, lowest first; ``reverted`` the
    transactions of blocks that left it, without those in ``applied``; ``finalized`` the heights
    that became final. ``surplus``: ``SLOT_BLOCKS_MAX`` other blocks of its slot and proposer are
    here.
    """

    puts: Puts
    applied: tuple[Block, ...] = ()
    reverted: tuple[Tx, ...] = ()
    finalized: range = range(0)
    surplus: bool = False


class Chain(Canonical):
    """The chain of one network on one disk."""

    def __init__(self, genesis: Genesis, reader: Reader) -> None:
        """Load from ``reader``, which on a new disk has at least ``Chain.genesis_puts``.

        Raises ``Corrupt`` where a record is missing or damaged, ``Invalid("genesis")`` where the
        records are of another network.
        """
        head, base, final = records.unpack_head(reader.get(records.KEY_HEAD))
        super().__init__(genesis, reader, head, base)
        self.genesis_hash = self._need_at(0)
        if self.need(self.genesis_hash).seed_reveal != keccak256(genesis.encode()):
            raise Invalid("genesis", "the data directory holds the chain of another genesis.json")
        self.epochs = Epochs(genesis.parameters, reader)
        self.certificates = KnownCertificates(reader)
        self._tree = self._grown(self.need(final))
        self.sets: Mapping[int, Members] = self._sets()
        """Number of an epoch -> its set. Replaced, never changed: other threads read it."""
        self.epoch = self.epoch_at(self.head)
        """The epoch of the block after the head."""

    @staticmethod
    def genesis_puts(genesis: Genesis) -> Puts:
        """The records that an empty disk needs before a ``Chain`` can load from it."""
        block, puts = genesis_block(genesis)
        epoch = epochs.first(genesis, block.header, genesis_members(genesis))
        return puts | {
            records.KEY_BLOCK + block.hash: block.raw,
            records.KEY_RECEIPTS + block.hash: records.pack_receipts([], []),
            slot_prefix(0) + block.hash: records.pack_delta(Delta(block.hash, block.hash, {})),
            height_key(0): block.hash,
            epoch.key: epoch.encode(genesis.parameters),
            records.KEY_HEAD: records.pack_head(block.hash, block.hash, block.hash),
        }

    def _grown(self, final: Header) -> Tree:
        """The tree of all stored blocks above ``final``, found by the slots in delta keys."""
        tree = Tree(final)
        for key, _ in self._reader.scan(records.KEY_DELTA, slot_prefix(final.slot)):
            tree.add(self.need(key[-HASH_BYTES:]))
        return tree

    # --- reads

    @property
    def parameters(self) -> Parameters:
        """The parameters in force for the block after the head."""
        return self.epoch.parameters

    @property
    def final(self) -> Header:
        """The header of the highest block that is known to be final."""
        return self._tree.final

    @property
    def safe(self) -> Header:
        """The header of the block with the highest certificate, else of the final block.

        It stays canonical unless a third of the delegates breaks the rules.
        """
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
        """The schedule epoch of a block that we have."""
        return self.epoch_at(self.need(header.parent) if header.height else header)

    def _sets(self) -> dict[int, Members]:
        """The sets of the epoch above the final block, of the epoch before and of the next."""
        epoch = self.epoch_at(self.final)
        sets = {number: epoch.members_of(number) for number in (epoch.number, epoch.number + 1)}
        before = self.epochs.get(epoch.before.epoch, epoch.before.block_id)
        return {before.number: before.members} | sets

    def signer_of(self, header: Header) -> bytes:
        """The address of the key that may sign for a header's proposer; on any thread.

        The epoch of a block above the final block is in ``sets``. Raises ``Invalid``:
        ``block_epoch`` (its set is not known), ``block_leader`` (no member of the set).
        """
        members = self.sets.get(header.epoch)
        if members is None:
            raise Invalid("block_epoch", f"epoch {header.epoch}")
        index = members.index(header.proposer)
        if index is None:
            raise Invalid("block_leader", f"slot {header.slot}")
        return members.signers[index]

    def is_tombstoned(self, signer: bytes) -> bool:
        """Whether the delegate whose key has this address is slashed in the head's state."""
        return idpos.is_tombstoned(Journal(self.head_state), signer)

    # --- making a block

    def section(self, parent: Header) -> tuple[Certificate, ...]:
        """The certificates that a child of ``parent``, a block of the tree, needs to carry.

        A certificate of a block below the boundary before the last changes the links of no child.
        """
        epoch = self.epoch_at(parent)
        certified = {
            self._certified(highest, epoch): highest
            for highest in self.certificates
            if self._tree.ancestor(parent, highest.ballot.block_id)
            and self.need(highest.ballot.block_id).epoch >= epoch.before.epoch
        }
        useful = finality.useful(rules.links_of(parent), epoch.boundary, tuple(certified))
        return tuple(certified[needed] for needed in useful)

    def position(self, parent: Header, slot: int, section: Sequence[Certificate]) -> BlockPosition:
        """The position of a child of ``parent`` that carries the certificates of ``section``."""
        epoch = self.epoch_at(parent)
        certified = [self._certified(carried, epoch) for carried in section]
        links = finality.derive(rules.links_of(parent), epoch.boundary, certified)
        return BlockPosition(self.stored_delta(parent.hash), epoch, slot, links)

    def execution(self, position: BlockPosition, proposer: bytes) -> Execution:
        """An execution of the body of a block of ``proposer``, on the state of its parent."""
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
        """The commitment that the delegate's next block on ``parent`` opens, and its slot."""
        return idpos.commitment_of(Journal(self._state_after(parent)), delegate)

    # --- import

    def on_block(self, block: Block, now_ms: int, asked: bool = False) -> Imported:
        """Judge a block that ``decode_block`` or our own proposal gave, and move the head to it if
        fork choice prefers it.

        A block that is here already changes nothing. ``asked``: this node has requested the block,
        since another block may build on it, and takes it even if it is surplus. A leader that sends
        each node another block of its slot would else split the honest nodes for good.

        Raises ``Invalid``: ``block_parent`` (unknown), ``block_old`` (not above the final block),
        ``block_epoch``, ``block_future``, ``block_leader``, ``block_signature``, ``block_slot``,
        ``block_limit`` (surplus and not asked for), ``block_form``, ``block_tx``, ``block_root``,
        ``block_seed``, ``oversized``, ``rules_unknown``, and the codes of certificates.
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
        for certificate in block.certificates:  # not before the block has proved to be valid
            self.certificates.prove(certificate)
        known = [*block.certificates, *self.certificates.arrived(header.hash)]
        return replace(self._settle(known, puts), surplus=surplus)

    def on_certificate(self, certificate: Certificate) -> Imported:
        """Follow a certificate whose signatures were verified, or keep it until its block arrives.

        Raises ``Invalid("certificate_block")`` where the rules allow no such vote for its block.
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
        """The position of a block with the links that its header claims; all cheap checks."""
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
        """Whether as many blocks of this slot and proposer are here as are kept unasked."""
        of_slot = [key[-HASH_BYTES:] for key, _ in self._reader.scan(slot_prefix(header.slot))]
        own = sum(1 for hash_ in of_slot if self.need(hash_).proposer == header.proposer)
        return own >= rules.SLOT_BLOCKS_MAX

    def _check_position(self, block: Block, position: BlockPosition) -> None:
        """Compare the links and fields that a header claims with those that its certificates give.

        Signatures are verified last, and only those that were not verified before. A known quorum
        for the same ballot must not stand in for them: the certificates are part of the block,
        which would be valid for some nodes only.
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
        """The set of ``epoch`` or of the epoch before it on its branch."""
        if number == epoch.number:
            return epoch.members
        return self.epochs.get(epoch.before.epoch, epoch.before.block_id).members

    def _certified(self, certificate: Certificate, epoch: Epoch) -> Certified:
        """The ballot of a certificate with the boundary below its block.

        The block must be of ``epoch`` or of the epoch before, and the ballot must be the ballot
        that the rules allow for the block, else ``Invalid("certificate_block")``.
        """
        header = self.need(certificate.ballot.block_id)
        boundary = epoch.boundary if header.epoch == epoch.number else epoch.before
        if header.height == 0 or header.epoch != boundary.epoch:
            raise Invalid("certificate_block", "of a block below the last boundary")
        certified = Certified(certificate.ballot, boundary)
        finality.check_certified(certified, header)
        return certified

    def _above(self, header: Header, block_id: bytes) -> bool:
        """Whether ``block_id`` is ``header``, which is in the tree, or an ancestor of it."""
        if block_id in self._tree:
            return self._tree.ancestor(header, block_id)
        below = self.header(block_id)
        return below is not None and below.height < self.final.height and self._canonical(block_id)

    def _execute(
        self, block: Block, position: BlockPosition
    ) -> tuple[StoredDelta, list[bytes], Puts]:
        """Run a block on its parent's state and compare the results with its header.

        Returns its delta, its encoded receipts, and the record of the epoch that it opens.
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
            puts[epoch.key] = epoch.encode(self._genesis.parameters)
            boundary = header.hash
        return StoredDelta(header, Delta(boundary, mix, executed.puts)), executed.receipts, puts

    # --- following

    def _settle(self, learned: Sequence[Certificate], puts: Puts) -> Imported:
        """Take in new certificates, then move the final block, the head and the base.

        ``puts`` has the records of the new block, if there is a new block.
        """
        before, final = self.final, self.final
        for certificate in learned:
            header = self._tree.get(certificate.ballot.block_id)
            if header is None:
                continue  # at or below the final block
            try:
                certified = self._certified(certificate, self.epoch_of(header))
            except Invalid:
                continue  # waited for its block, and the block's fields allow no such vote
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
        """The record of ``made`` if it is a boundary, which ``certificate`` has made final.

        No commit certificate skips a boundary: the next set votes only above a block that makes the
        boundary final.
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
        """Make ``best`` the head, unless it is canonical already, and move the base."""
        head, old_head = best.header, self.head
        branch = [] if self._canonical(head.hash) else [best]
        while branch and not self._canonical(branch[-1].header.parent):
            branch.append(self.stored_delta(branch[-1].header.parent))
        branch.reverse()
        fork = branch[0].header.height - 1 if branch else head.height
        # It follows from head and final block alone, and overlays_max <= undo_blocks_max keeps it
        # in the undo window.
        target = max(self.final.height, head.height - self.parameters.overlays_max)
        spine, moves = moved(self._reader, self._spine, fork, branch, target, self.stored_delta)
        puts |= moves
        assert (spine.head.header, spine.base.header.height) == (head, target)
        applied = [self.need_block(stored.header.hash) for stored in branch]
        left = [self._need_at(height) for height in range(fork + 1, old_head.height + 1)]
        reverted = [tx for hash_ in left for tx in self.need_block(hash_).txs]
        puts |= dict.fromkeys([records.KEY_TX + tx.hash for tx in reverted])
        # The new branch may be shorter: certificates count more than height.
        puts |= dict.fromkeys(
            [height_key(at) for at in range(head.height + 1, old_head.height + 1)]
        )
        for block in applied:
            puts[height_key(block.header.height)] = block.hash
            for index, tx in enumerate(block.txs):
                puts[records.KEY_TX + tx.hash] = records.pack_tx_position(block.hash, index)
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
        """Delete the records that no reorganisation can reach: deltas, undo records, dead branches.

        The records of the final block and of all blocks above it stay, wherever the base is.
        """
        edge = min(spine.base.header.height - self.parameters.undo_blocks_max, self.final.height)
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
