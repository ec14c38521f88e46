"""Trees of blocks that grow at random, and delegates that vote on them by the rules.

Of n delegates, f = (n - 1) / 3 vote for everything at once; the others keep V1 and V2, so that
whatever is certified is what a network can certify. Every block and certificate that the tree's
own chain has learned stands in ``log``, in that order.
"""

from random import Random

from dipnet.consensus import finality, rules
from dipnet.consensus.block import Block
from dipnet.consensus.chain import Chain
from dipnet.consensus.forkchoice import preference
from dipnet.consensus.header import HASH_ZERO, Header
from dipnet.consensus.votes import Ballot, Certificate, Kind, Vote, VoteState, certificate_of
from dipnet.crypto import sha256, sign
from dipnet.errors import Invalid
from tests.chain_builder import LATE_MS, USERS, Net, add, address_of, learn, transfer
from tests.memory import Memory


class Grown:
    """A tree that ``grow`` grows. ``silent`` percent of votes are not cast."""

    def __init__(self, net: Net, seed: int, silent: int = 10, forks: int = 40) -> None:
        self.net = net
        self.random = Random(seed)
        self.chain, self.memory = net.chain()
        self.log: list[Block | Certificate] = []
        self.certificates: list[Certificate] = []
        self.headers = [self.chain.head]
        self._silent, self._forks = silent, forks
        self._voters: dict[bytes, VoteState] = {}
        self._votes: dict[Ballot, dict[int, Vote]] = {}
        self._hidden: list[Certificate] = []
        self._nonces = {self.chain.head.hash: (0,) * len(USERS)}

    @property
    def blocks(self) -> list[Block]:
        """Parents before children."""
        return [one for one in self.log if isinstance(one, Block)]

    def grow(self, slots: range) -> "Grown":
        """Blocks in these slots, votes on them, and in the end every certificate is known."""
        for slot in slots:
            for _ in range(self.random.choice((0, 1, 1, 1, 2))):
                self._block(slot)
            self._vote()
            shown = [one for one in self._hidden if self.random.random() < 0.6]
            self._show(shown)
        self._show(self._hidden)
        return self

    def _block(self, slot: int) -> None:
        random, chain = self.random, self.chain
        forks = random.randrange(100) < self._forks
        parent = random.choice(self.headers[-6:]) if forks else chain.head
        if parent.slot >= slot or parent.hash not in chain._tree:
            return
        place = chain.place(parent, slot, chain.section(parent))
        # Some leaders do not know what we know.
        known = random.random() < 0.8
        section = None if known else ()
        if not known:
            place = chain.place(parent, slot, ())
        if rules.leader(place.epoch, slot, place.links.final[1]) is None:
            return
        nonces, txs = list(self._nonces[parent.hash]), []
        if not rules.system_only(place.epoch, slot, place.links.final[1]):
            for _ in range(random.randrange(3)):
                who = random.randrange(len(USERS))
                to = random.choice([*map(address_of, USERS), sha256(bytes([slot % 256]))[:20]])
                txs.append(transfer(USERS[who], nonces[who], to, random.randrange(3) * 10**15))
                nonces[who] += 1
        block = self.net.child(chain, parent.hash, slot, txs, section)
        if chain.header(block.hash) is not None:
            return
        add(chain, self.memory, block)
        self.log.append(block)
        self.headers.append(block.header)
        self._nonces[block.hash] = tuple(nonces)

    def _vote(self) -> None:
        """Everybody may prevote what is new and commit what he has heard is certified."""
        for header in self.headers[-4:]:
            if header.height and header.hash in self.chain._tree:
                border = self.chain.epoch_of(header).border
                self._poll(finality.prevote(header, border))
        for certificate in self.certificates[-4:]:
            if certificate.ballot.kind is Kind.PREVOTE:
                self._poll(finality.commit(certificate.ballot))

    def _poll(self, ballot: Ballot) -> None:
        members = self.chain.sets.get(ballot.epoch)
        votes = self._votes.setdefault(ballot, {})
        if members is None or len(votes) >= members.quorum:
            return
        liars = (len(members) - 1) // 3
        for index, one in enumerate(members.addresses):
            state = self._voters.get(one, VoteState())
            if index >= liars:
                if self.random.randrange(100) < self._silent or state.refuse(ballot):
                    continue
                self._voters[one] = state.after(ballot)
            digest = ballot.digest(self.net.genesis.chain_id)
            votes[index] = Vote(ballot, index, sign(digest, self.net.secrets[one]))
        if len(votes) >= members.quorum:
            certificate = certificate_of(list(votes.values()), members)
            self.certificates.append(certificate)
            self._hidden.append(certificate)

    def _show(self, certificates: list[Certificate]) -> None:
        learn(self.chain, self.memory, *certificates)
        self.log += certificates
        self._hidden = [one for one in self._hidden if one not in certificates]


def deliver(chain: Chain, memory: Memory, log: list[Block | Certificate], random: Random) -> None:
    """All of ``log`` in another order; a block waits for its parent, nothing else for anything."""
    waiting = list(log)
    random.shuffle(waiting)
    while waiting:
        later = []
        for one in waiting:
            try:
                if isinstance(one, Block):
                    memory.apply(chain.on_block(one, LATE_MS).puts)
                elif one.ballot.epoch in chain.sets:
                    learn(chain, memory, one)
                elif one.ballot.epoch > max(chain.sets):
                    later.append(one)  # nobody could verify it yet
            except Invalid as refused:
                if refused.code == "block_parent":
                    later.append(one)
                elif refused.code != "block_old":
                    raise
        if len(later) == len(waiting):  # what is left stands on what is dead
            assert all(isinstance(one, Block) for one in later)
            return
        waiting = later


def defined(blocks: list[Block], certificates: list[Certificate], genesis: Header) -> list[Header]:
    """Head, final and safe block as the specification defines them, from nothing but what exists.

    Fails if two final blocks are not on one chain.
    """
    headers = {block.hash: block.header for block in blocks} | {genesis.hash: genesis}

    def line(header: Header) -> list[Header]:
        found = [header]
        while found[-1].height:
            found.append(headers[found[-1].parent])
        return found

    def border(header: Header) -> Header:
        return next(one for one in line(header)[1:] if one.next_set_hash != HASH_ZERO)

    final = genesis
    settled = []
    for certificate in certificates:
        if certificate.ballot.kind is Kind.COMMIT:
            header = headers[certificate.ballot.block_id]
            old = certificate.ballot.epoch < header.epoch
            settled.append(border(header) if old else header)
    for one in sorted(settled, key=lambda header: header.height):
        assert final in line(one), "two final blocks conflict"
        final = one
    alive = [header for header in headers.values() if final in line(header)]
    ranked = sorted(certificates, key=lambda one: (one.ballot.epoch, one.ballot.slot))
    safe = headers[ranked[-1].ballot.block_id] if ranked else final
    safe = safe if safe in alive else final
    head = min((one for one in alive if safe in line(one)), key=preference)
    return [head, final, safe]
