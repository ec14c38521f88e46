"""Networks, transactions and blocks in a line each, for the tests of the chain.

``Net`` is a genesis with known keys. ``Net.child`` makes a valid block on any block of a chain,
``forged`` the same block with fields changed and signed again by whoever leads its slot.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import pytest

from dipnet.codec import Reader
from dipnet.consensus import records, rules
from dipnet.consensus.block import (
    Block,
    cert_root,
    constant_fields,
    decode_block,
    ordered_root,
    seal,
)
from dipnet.consensus.chain import Chain
from dipnet.consensus.finality import commit, prevote
from dipnet.consensus.header import Header
from dipnet.consensus.members import Members
from dipnet.consensus.schedule import NO_SECRET, commitment, seed_key, seed_secret
from dipnet.consensus.votes import Certificate, Kind, Vote, certificate_of
from dipnet.crypto import address, keccak256, public_key, sha256, sign
from dipnet.errors import Invalid
from dipnet.genesis import Genesis
from dipnet.state import KEY_ACCOUNT, KEY_ACCOUNT_NODE, Journal
from dipnet.tx import Tx, decode, sign_tx
from tests.memory import Memory

CHAIN_ID = 2018
TIME_MS = 1_700_000_000_000
ETHER = 10**18
STAKE = 1_000 * ETHER
"""Of every delegate of genesis."""
LATE_MS = 2**52
"""A clock for which no block is from the future."""


def secret(name: str) -> bytes:
    """A private key of its own for each name."""
    return keccak256(name.encode())


def address_of(name: str) -> bytes:
    """The address of ``secret(name)``."""
    return address(public_key(secret(name)))


STATE = (KEY_ACCOUNT, KEY_ACCOUNT_NODE)
"""Where state is on disk, of accounts without code."""

USERS = tuple(f"user {index}" for index in range(8))
"""Who has money in every ``Net``."""


@dataclass(frozen=True)
class Net:
    """A genesis and the secrets that sign for its delegates, by the delegate's address."""

    genesis: Genesis
    secrets: dict[bytes, bytes]

    @staticmethod
    def of(delegates: int = 1, users: Sequence[str] = USERS, **parameters: Any) -> "Net":
        """A network of so many delegates; ``parameters`` are fields of genesis."""
        names = [f"delegate {index}" for index in range(delegates)]
        people = [
            {
                "name": name,
                "address": address_of(name),
                "public_key": public_key(secret(name)),
                "stake": STAKE,
            }
            for name in names
        ]
        chosen: dict[str, Any] = {
            "chain_id": CHAIN_ID,
            "time_ms": TIME_MS,
            "epoch_slots": 30,
            "delegates": people,
            "delegates_active": delegates,
            "delegates_standby": 0,
            "balances": {address_of(name): 1_000 * ETHER for name in users},
        }
        genesis = Genesis.checked(chosen | parameters)
        return Net(genesis, {address_of(name): secret(name) for name in names})

    def chain(self) -> tuple[Chain, Memory]:
        """A fresh chain and its disk."""
        memory = Memory()
        memory.apply(Chain.genesis_puts(self.genesis))
        return Chain(self.genesis, memory), memory

    def recruits(self, *names: str) -> Members:
        """A set of new delegates, each with a signing key that is not its owner's."""
        pairs = []
        for name in names:
            key = secret(f"hot key of {name}")
            self.secrets[address_of(name)] = key
            pairs.append((address_of(name), public_key(key)))
        return Members.of(pairs)

    def signed(
        self, header: Header, txs: Sequence[Tx] = (), section: Sequence[Certificate] = ()
    ) -> Block:
        """The block of ``header``, signed with the key of the header's proposer."""
        key = self.secrets[header.proposer]
        signature = sign(header.proposal_digest, key)
        return seal(header, txs, signature, address(public_key(key)), section)

    def child(
        self,
        chain: Chain,
        parent: bytes,
        slot: int,
        txs: Sequence[Tx] = (),
        section: Sequence[Certificate] | None = None,
        proposer: bytes | None = None,
    ) -> Block:
        """A valid block on a block of ``chain``, by the leader of ``slot``.

        It carries what the chain knows to be certified, or ``section``. Whoever else is given as
        ``proposer`` makes it without being the leader.
        """
        above = chain.need(parent)
        carried = chain.section(above) if section is None else tuple(section)
        place = chain.place(above, slot, carried)
        proposer = proposer or rules.leader(place.epoch, slot, place.links.final[1])
        assert proposer is not None, "the back-off leaves this slot empty"
        execution = chain.execution(place, proposer)
        for tx in txs:
            execution.add(tx)
        key = seed_key(self.secrets[proposer])
        committed, committed_slot = chain.committed(above, proposer)
        reveal = NO_SECRET if committed == NO_SECRET else seed_secret(key, committed_slot)
        promised = commitment(seed_secret(key, slot))
        executed = execution.finish(place.missed, promised, place.border)
        header = Header(
            **constant_fields(self.genesis),
            **place.fields,
            **executed.fields,
            proposer=proposer,
            tx_root=ordered_root([tx.raw for tx in txs]),
            cert_root=cert_root([one.raw for one in carried]),
            seed_reveal=reveal,
            seed_commitment=promised,
        )
        return self.signed(header, txs, carried)

    def forged(self, block: Block, **changes: Any) -> Block:
        """``block`` with other fields, signed again by the proposer it then names."""
        header = with_fields(block.header, **changes)
        return self.signed(header, block.txs, block.certificates)

    def votes(self, chain: Chain, header: Header, kind: Kind) -> list[Vote]:
        """The votes of all members of the set that votes on a block."""
        ballot = prevote(header, chain.epoch_of(header).border)
        members = voters(chain, header)
        if kind is Kind.COMMIT:
            ballot = commit(ballot)
        digest = ballot.digest(self.genesis.chain_id)
        return [
            Vote(ballot, index, sign(digest, self.secrets[one]))
            for index, one in enumerate(members.addresses)
        ]

    def certificate(self, chain: Chain, header: Header, kind: Kind) -> Certificate:
        """The certificate of a block by a bare quorum of its set."""
        votes = self.votes(chain, header, kind)
        members = voters(chain, header)
        return certificate_of(votes[: members.quorum], members)

    def certify(self, chain: Chain, memory: Memory, header: Header, *kinds: Kind) -> None:
        """Tell the chain that a block is certified: by prevotes and commits unless said."""
        for kind in kinds or (Kind.PREVOTE, Kind.COMMIT):
            learn(chain, memory, self.certificate(chain, header, kind))

    def decoded(self, block: Block) -> Block:
        """What a peer makes of the block's bytes."""
        return decode_block(block.raw, self.genesis)


def voters(chain: Chain, header: Header) -> Members:
    """The set that votes on a block."""
    epoch = chain.epoch_of(header)
    if prevote(header, epoch.border).epoch == epoch.number:
        return epoch.members
    return chain.epochs.get(epoch.before.epoch, epoch.before.block_id).members


def with_fields(header: Header, **changes: Any) -> Header:
    """``header`` with other fields."""
    kept = {one.name: getattr(header, one.name) for one in fields(Header) if one.init}
    return Header(**(kept | changes))


def add(chain: Chain, memory: Memory, *blocks: Block, now_ms: int = LATE_MS) -> None:
    """Import blocks and write what they give, as a node does."""
    for block in blocks:
        memory.apply(chain.on_block(block, now_ms).puts)


def learn(chain: Chain, memory: Memory, *certificates: Certificate) -> None:
    """Hear of certificates and write what they give, as a node does."""
    for certificate in certificates:
        memory.apply(chain.on_certificate(certificate).puts)


def transfer(
    sender: str,
    nonce: int,
    to: bytes = b"\x11" * 20,
    value: int = 1,
    *,
    tip: int = 10**9,
    fee: int = 10**10,
    gas: int = 21_000,
    data: bytes = b"",
) -> Tx:
    """A signed EIP-1559 payment."""
    raw = sign_tx(
        secret(sender), chain_id=CHAIN_ID, nonce=nonce, gas=gas, to=to, value=value, data=data,
        max_priority_fee=tip, max_fee=fee,
    )  # fmt: skip
    return decode(raw, CHAIN_ID)


def balance(reader: Reader, who: bytes) -> int:
    """wei of an account."""
    return Journal(reader).balance(who)


def grow(
    net: Net, chain: Chain, memory: Memory, slots: Sequence[int], parent: bytes | None = None
) -> list[Block]:
    """Empty blocks on ``parent`` (the head) in these slots, imported."""
    blocks = []
    for slot in slots:
        block = net.child(chain, parent or chain.head.hash, slot)
        add(chain, memory, block)
        blocks.append(block)
        parent = block.hash
    return blocks


def sustain(net: Net, chain: Chain, memory: Memory, slots: Sequence[int]) -> list[Block]:
    """Empty blocks on the head in these slots, each final before the next comes."""
    blocks = []
    for slot in slots:
        blocks += grow(net, chain, memory, [slot])
        net.certify(chain, memory, chain.head)
    return blocks


def stands(chain: Chain) -> tuple[Any, ...]:
    """What a node goes by."""
    head = chain.head
    return head, chain.base, chain.final, chain.safe, chain.epoch, chain.section(head)


def refusal(chain: Chain, block: Block, now_ms: int = LATE_MS) -> str:
    """The code that refuses ``block``; the chain must be as it was."""
    before = stands(chain)
    with pytest.raises(Invalid) as caught:
        chain.on_block(block, now_ms)
    assert stands(chain) == before
    assert chain.header(block.hash) is None
    return caught.value.code


def state_records(reader: Reader) -> dict[bytes, bytes]:
    """All accounts and trie nodes."""
    return {key: value for prefix in STATE for key, value in reader.scan(prefix)}


def view(chain: Chain, memory: Memory) -> tuple[Any, ...]:
    """All that must not depend on how a chain came to where it is."""
    heights = range(chain.head.height + 1)
    return (
        stands(chain),
        [chain.hash_at(height) for height in heights],
        state_records(memory),
        state_records(chain.head_state),
        dict(memory.scan(records.KEY_HEIGHT)),
        dict(memory.scan(records.KEY_TX)),
    )  # fmt: skip


def spend(net: Net, chain: Chain, memory: Memory, parent: bytes, slots: list[int], who: str,
          nonce: int = 0) -> list[Block]:  # fmt: skip
    """Blocks on ``parent``, each with a payment to an account of its own."""
    blocks = []
    for slot in slots:
        to = sha256(parent)[:20]
        block = net.child(chain, parent, slot, [transfer(who, nonce, to, 10**15)])
        add(chain, memory, block)
        blocks.append(block)
        parent, nonce = block.hash, nonce + 1
    return blocks
