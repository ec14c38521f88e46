"""Reports: a proposer can put proofs of offences, and nothing else, on the chain for no fee."""

from collections.abc import Sequence
from typing import Any

import pytest

from dipnet.consensus.chain import reports, rules
from dipnet.consensus.chain.block import ordered_root
from dipnet.consensus.chain.chain import Chain
from dipnet.consensus.chain.execute import Execution
from dipnet.consensus.chain.pool import Pool
from dipnet.consensus.chain.produce import BlockDraft, build, turn
from dipnet.consensus.chain.schedule import seed_key
from dipnet.consensus.finality.tally import Offence, Statement
from dipnet.consensus.finality.votes import Ballot, BallotKind, Vote
from dipnet.consensus.staking.evidence import REPORTER, REPORTER_SECRET
from dipnet.consensus.staking.idpos import DPOS_ADDRESS, METHODS
from dipnet.ledger.parameters import VOTES_MAX
from dipnet.ledger.tx import Tx, decode, sign_tx
from dipnet.node.effects import Effect, Report, Write
from dipnet.p2p import messages as m
from dipnet.primitives.crypto import address, public_key, sign
from dipnet.primitives.errors import Corrupt, Invalid
from tests.fixtures import staking
from tests.fixtures.chain_builder import (
    CHAIN_ID,
    Net,
    add,
    address_of,
    refusal,
    secret,
    sustain,
    transfer,
    with_fields,
)
from tests.fixtures.memory import Memory
from tests.fixtures.node_bench import Bench
from tests.sim.scenario import network

OFFENDER = "delegate 1"
GAS = reports.REPORT_GAS


def offence_by(name: str, epoch: int = 0) -> Offence:
    ballots = [Ballot(BallotKind.COMMIT, epoch, 9, letter * 32, 0) for letter in (b"A", b"B")]
    first, second = (Statement(b, sign(b.digest(CHAIN_ID), secret(name))) for b in ballots)
    return Offence("E2", address_of(name), first, second)


def drafted(
    net: Net, chain: Chain, slot: int, offences: Sequence[Offence], pool: Pool
) -> BlockDraft:
    next_turn = turn(chain, slot)
    assert next_turn.leader is not None
    return build(chain, pool, next_turn, seed_key(net.secrets[next_turn.leader]), offences)


def grown(**parameters: Any) -> tuple[Net, Chain, Memory]:
    net = Net.of(4, **parameters)
    chain, memory = net.chain()
    sustain(net, chain, memory, [1, 2])
    return net, chain, memory


def wei(chain: Chain, account: bytes) -> int:
    return chain.account(account).balance


def test_a_proposer_without_money_reports_first_and_is_rewarded() -> None:
    net, chain, memory = grown()
    pool, payment = Pool(net.genesis.parameters), transfer("user 0", 0)
    pool.add(payment, 0, wei(chain, payment.sender), chain.next_base_fee)
    draft = drafted(net, chain, 3, [offence_by(OFFENDER)], pool)
    report, last = draft.txs
    assert last == payment
    assert (report.sender, report.max_fee, report.to) == (REPORTER, 0, DPOS_ADDRESS)
    proposer = draft.header.proposer
    assert wei(chain, proposer) == wei(chain, REPORTER) == 0
    block = net.decoded(net.signed(draft.header, draft.txs, draft.section))
    add(chain, memory, block)
    assert chain.head == draft.header
    assert chain.is_tombstoned(address_of(OFFENDER))
    stake = net.genesis.delegates[1].stake
    reward = (
        stake
        * net.genesis.parameters.slash_bps
        // 10_000
        * net.genesis.parameters.reporter_bps
        // 10_000
    )
    assert wei(chain, proposer) == reward > 0
    assert wei(chain, REPORTER) == 0
    assert chain.account(REPORTER).nonce == 1


def test_what_is_punished_or_too_old_is_left_out() -> None:
    net, chain, memory = grown()
    known = [offence_by(OFFENDER), offence_by("nobody"), offence_by("delegate 2")]
    draft = drafted(net, chain, 3, known, Pool(net.genesis.parameters))
    assert [tx.nonce for tx in draft.txs] == [0, 1]
    add(chain, memory, net.decoded(net.signed(draft.header, draft.txs, draft.section)))
    assert chain.is_tombstoned(address_of("delegate 2"))
    again = drafted(net, chain, 4, [*known, offence_by("delegate 3")], Pool(net.genesis.parameters))
    (tx,) = again.txs
    assert tx.nonce == 2


def test_reports_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "REPORTS_MAX", 2)
    net, chain, _ = grown()
    known = [offence_by(f"delegate {n}") for n in range(4)]
    assert len(drafted(net, chain, 3, known, Pool(net.genesis.parameters)).txs) == 2


DEAREST = 200_000  # the highest gas price of a method that genesis.json may set


def test_a_delegate_with_many_votes_at_the_highest_prices_is_reported() -> None:
    """The costliest report: it withdraws the most votes possible, with rewards still to pay."""
    with pytest.raises(Invalid, match="dpos_gas_judge"):
        staking.network(dpos_gas_judge=DEAREST + 1)
    with pytest.raises(Invalid, match="votes_per_account_max"):
        staking.network(votes_per_account_max=VOTES_MAX + 1)
    world = staking.World(staking.network(
        VOTES_MAX, votes_per_account_max=VOTES_MAX, delegates_standby=0,
        dpos_gas_call=DEAREST, dpos_gas_judge=DEAREST,
    ))  # fmt: skip
    delegates = [staking.address_of(f"d{n}") for n in range(VOTES_MAX)]
    world.send("d0", "vote", delegates)
    world.send("d0", "resign")
    world.send("d0", "unstake", staking.STAKE // 2)
    for delegate in delegates:
        world.block(delegate)
    ballots = [Ballot(BallotKind.COMMIT, 0, 9, letter * 32, 0) for letter in (b"A", b"B")]
    first, second = (
        Statement(b, sign(b.digest(CHAIN_ID), staking.secret("d0"))) for b in ballots
    )  # fmt: skip
    root, puts = world.journal.commit()
    state = Memory(world.memory)
    state.apply(puts)
    execution = Execution(world.context(delegates[1]), state, root, 10**9, False)
    proof = Offence("E2", delegates[0], first, second)
    gas = min(reports.REPORT_GAS, execution.gas_left)
    execution.add(reports.transaction(proof, CHAIN_ID, 0, gas))
    assert 1_500_000 < execution.gas_used < gas // 4


def test_a_report_that_finds_no_gas_is_told(caplog: pytest.LogCaptureFixture) -> None:
    net, chain, _ = grown(gas_limit=100_000)
    known = [offence_by("nobody"), offence_by(OFFENDER)]
    with caplog.at_level("WARNING"):
        draft = drafted(net, chain, 3, known, Pool(net.genesis.parameters))
    assert draft.txs == ()
    (told,) = caplog.messages  # "nobody" is no delegate: its offence is not reported
    offender = address_of(OFFENDER).hex()
    assert told == f"E2 by the key of 0x{offender} is not reported: report runs out of gas"


def free(data: bytes, **fields: int | bytes) -> Tx:
    usual: dict[str, int | bytes] = {
        "chain_id": CHAIN_ID, "nonce": 0, "gas": GAS, "max_fee": 0, "max_priority_fee": 0,
        "to": DPOS_ADDRESS, "data": data,
    }  # fmt: skip
    return decode(sign_tx(REPORTER_SECRET, **(usual | fields)), CHAIN_ID)  # type: ignore[arg-type]


SUBMIT, STAKE = METHODS["submitEvidence"], METHODS["stake"]
PROOF = reports.transaction(offence_by(OFFENDER), CHAIN_ID, 0, GAS).data


@pytest.mark.parametrize(
    ("tx", "code"),
    [
        (free(SUBMIT.call_data(b"", b"")), "report"),
        (free(PROOF[:-40]), "report"),
        (free(PROOF, gas=60_000), "report_gas"),
        (free(PROOF, nonce=1), "nonce_high"),
        (free(PROOF, value=1), "funds"),
        (free(PROOF, to=b"\x11" * 20), "fee_cap_low"),
        (free(METHODS["claim"].call_data()), "fee_cap_low"),
        (free(METHODS["vote"].call_data([])), "fee_cap_low"),
        (free(PROOF, max_fee=1), "fee_cap_low"),
    ],
)
def test_nothing_else_is_free(tx: Tx, code: str) -> None:
    _net, chain, _ = grown()
    section = chain.section(chain.head)
    position = chain.position(chain.head, 3, section)
    leader = rules.leader(position.epoch, 3, position.links.final[1])
    assert leader is not None
    execution = chain.execution(position, leader)
    with pytest.raises(Invalid) as caught:
        execution.add(tx)
    assert caught.value.code == code
    assert execution.gas_used == 0
    execution.add(free(PROOF))  # the refused transaction left no trace


def test_a_stranger_is_not_free() -> None:
    tx = reports.transaction(offence_by(OFFENDER), CHAIN_ID, 0, GAS)
    assert reports.is_free(tx)
    stranger = decode(
        sign_tx(secret("user 0"), chain_id=CHAIN_ID, nonce=0, gas=GAS, max_fee=0,
                max_priority_fee=0, to=DPOS_ADDRESS, data=PROOF), CHAIN_ID,
    )  # fmt: skip
    assert not reports.is_free(stranger)


def test_a_block_with_a_report_that_punishes_nobody_is_refused() -> None:
    net, chain, memory = grown()
    tx = reports.transaction(offence_by(OFFENDER), CHAIN_ID, 0, GAS)
    block = net.child(chain, chain.head.hash, 3, [tx])
    add(chain, memory, block)
    again = reports.transaction(offence_by(OFFENDER), CHAIN_ID, 1, GAS)
    empty = net.child(chain, chain.head.hash, 4)
    header = with_fields(empty.header, tx_root=ordered_root([again.raw]))
    forged = net.signed(header, [again], empty.certificates)  # no honest producer makes this block
    assert refusal(chain, forged) == "block_tx"


def test_a_pool_takes_no_report() -> None:
    net, chain, _ = grown()
    pool = Pool(net.genesis.parameters)
    with pytest.raises(Invalid) as caught:
        pool.add(free(PROOF), 0, 0, chain.next_base_fee)
    assert caught.value.code == "underpriced"


# --- a node


def hears_two_commits(bench: Bench, offender: bytes) -> list[Effect]:
    """The node hears two commits of one slot by the key ``offender``."""
    members = bench.node.chain.epoch.members
    index = members.index_of_key(public_key(offender))
    assert index is not None
    ballots = [Ballot(BallotKind.COMMIT, 0, 2, letter * 32, 0) for letter in (b"A", b"B")]
    chain_id = bench.genesis.chain_id
    votes = [Vote(b, index, sign(b.digest(chain_id), offender)).raw for b in ballots]
    return bench.answered(bench.receive(m.Votes(tuple(votes))))


def test_an_offence_is_told_once_kept_over_a_restart_and_reported_by_the_leader() -> None:
    bench = Bench(delegates=4)
    _, keys, _ = network(4)
    bench.start()
    bench.greet()
    bench.at_slot(2)
    effects = hears_two_commits(bench, keys[1])
    (report,) = (effect for effect in effects if isinstance(effect, Report))
    offender = address(public_key(keys[1]))
    assert report.offence.signer == offender
    key = reports.KEY_OFFENCE + offender
    assert any(key in effect.puts for effect in effects if isinstance(effect, Write))
    assert not any(isinstance(effect, Report) for effect in bench.at_slot(3))

    again = Bench(delegates=4, disk=bench.disk, state=bench.state)
    again.now_ms = bench.now_ms
    assert not any(isinstance(effect, Report) for effect in again.start())
    again.greet()
    assert again.node.voting.tally.offences() == (report.offence,)
    again.propose(next(slot for slot in again.own_slots() if slot > 3))
    assert again.node.chain.head.height == 1
    assert again.node.chain.is_tombstoned(offender)
    again.propose(next(again.own_slots()))
    assert again.node.chain.account(REPORTER).nonce == 1


def test_a_damaged_record_of_an_offence_is_not_passed_over() -> None:
    disk = Memory({reports.KEY_OFFENCE + bytes(20): b"\x93\x01\xc4\x01A\xc4\x00"})
    with pytest.raises(Corrupt):
        list(reports.stored(disk))
