"""A delegate that signs twice: the shipping node and, in front of its network, a key without rules.

    python -m tests.processes.equivocator E0 run --config FILE

does what ``dipnetd run`` does, and once, in a slot of its own when the chain is final, commits one
offence: two blocks of a slot (E0), two prevotes (E1), two commits (E2), or a prevote that goes back
on a commit (E3). Every other peer is told the second statement instead of the first. No program of
the release can do this: here the key signs ballots that every ``Signer`` refuses.
"""

import sys
from dataclasses import replace

from dipnet.consensus.chain import schedule
from dipnet.consensus.chain.block import cert_root, constant_fields, decode_block, ordered_root
from dipnet.consensus.chain.produce import BlockDraft
from dipnet.consensus.finality.header import Header
from dipnet.consensus.finality.votes import Ballot, BallotKind, Vote, decode_vote
from dipnet.daemon.daemon import Daemon
from dipnet.dipnetd import main as dipnetd
from dipnet.host.config import Config
from dipnet.node.effects import Send, Sign
from dipnet.p2p import messages as m
from dipnet.p2p.messages import Topic
from dipnet.primitives import crypto
from dipnet.sdk import keys

OFFENCES = ("E0", "E1", "E2", "E3")
FINAL_MIN = 3
"""Blocks that are final before the offence: all peers are there and vote."""


class Equivocator(Daemon):
    """A node whose key commits the offence ``which`` once."""

    which = "E0"

    def __init__(self, config: Config, *args: object, **kwargs: object) -> None:
        super().__init__(config, *args, **kwargs)  # type: ignore[arg-type]
        assert config.delegate_keystore is not None
        assert config.delegate_password is not None
        password = keys.read_password(config.delegate_password)
        self._secret = keys.read_keystore(config.delegate_keystore, password)
        self._account = crypto.address(crypto.public_key(self._secret))
        self._instead: dict[Ballot, bytes] = {}
        """Our statement -> the block or vote that every other peer gets in its place."""
        self._committed = (0, 0)  # epoch and slot
        self._peers: dict[str, int] = {}
        self._perform |= {Sign: self._sign_twice, Send: self._send_other}

    # --- the second signature

    def _sign_twice(self, effect: Sign) -> None:
        if not self._instead and self.chain.final.height >= FINAL_MIN:
            self._offend(effect.ballot)
        if effect.ballot.kind is BallotKind.COMMIT:
            self._committed = (effect.ballot.epoch, effect.ballot.slot)
        self._duty.sign(effect)

    def _offend(self, ballot: Ballot) -> None:
        match self.which, ballot.kind:
            case "E0", BallotKind.PROPOSAL:
                twin = self._twin(ballot.slot)
                signature = self._signed(twin.header.proposal)
                self._instead[ballot] = twin.sealed(signature, self._public_key).raw
            case ("E1", BallotKind.PREVOTE) | ("E2", BallotKind.COMMIT):
                other = replace(ballot, block_id=crypto.keccak256(ballot.block_id))
                self._instead[ballot] = self._vote(other)
            case "E3", BallotKind.PREVOTE if (ballot.epoch, ballot.justify_slot) == self._committed:
                self._instead[ballot] = self._vote(replace(ballot, justify_slot=0))
        if self._instead:
            print(f"offence {self.which} in slot {ballot.slot}", flush=True)
            print(f"{ballot} after commit {self._committed}", flush=True)

    @property
    def _public_key(self) -> bytes:
        return crypto.public_key(self._secret)

    def _signed(self, ballot: Ballot) -> bytes:
        return crypto.sign(ballot.digest(self.genesis.chain_id), self._secret)

    def _vote(self, ballot: Ballot) -> bytes:
        index = self.chain.sets[ballot.epoch].index_of_key(self._public_key)
        assert index is not None
        return Vote(ballot, index, self._signed(ballot)).raw

    def _twin(self, slot: int) -> BlockDraft:
        """Another valid block of ours on the head, without transactions: its commitment differs."""
        chain = self.chain
        section = chain.section(chain.head)
        position = chain.position(chain.head, slot, section)
        committed, committed_slot = chain.committed(chain.head, self._account)
        reveal = schedule.NO_SECRET
        if committed != reveal:
            reveal = schedule.seed_secret(schedule.seed_key(self._secret), committed_slot)
        commitment = crypto.keccak256(b"another secret")
        executed = chain.execution(position, self._account).finish(
            position.missed, commitment, position.boundary
        )
        header = Header(
            **constant_fields(chain.genesis),
            **position.fields,
            **executed.fields,
            proposer=self._account,
            tx_root=ordered_root([]),
            cert_root=cert_root([one.raw for one in section]),
            seed_reveal=reveal,
            seed_commitment=commitment,
        )
        return BlockDraft(header, (), section, ())

    # --- every other peer is told the second

    def _send_other(self, effect: Send) -> None:
        other = self._peers.setdefault(effect.peer, len(self._peers)) % 2 or self.which == "E3"
        self._send(self._rewritten(effect) if other and self._instead else effect)

    def _rewritten(self, effect: Send) -> Send:
        message = m.decode(effect.protocol, effect.data)
        match message:
            case m.Items(topic=Topic.BLOCK, raws=raws):
                told = tuple(self._block(raw) for raw in raws)
                return replace(effect, data=m.encode(m.Items(Topic.BLOCK, told)))
            case m.Votes(raws):
                told = tuple(self._instead.get(decode_vote(raw).ballot, raw) for raw in raws)
                return replace(effect, data=m.encode(m.Votes(told)))
        return effect

    def _block(self, raw: bytes) -> bytes:
        return self._instead.get(decode_block(raw, self.genesis).header.proposal, raw)


def main() -> None:
    which = sys.argv.pop(1)
    if which not in OFFENCES:
        raise SystemExit(f"which offence? {' '.join(OFFENCES)}")
    Equivocator.which = which
    dipnetd.Daemon = Equivocator  # type: ignore[attr-defined]
    dipnetd.app()


if __name__ == "__main__":
    main()
