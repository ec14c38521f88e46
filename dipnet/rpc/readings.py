"""The numbers of ``/metrics`` that are read when it is scraped.

Labels are delegates of the current sets and fixed words; no caller can add a label.
"""

from collections.abc import Iterator

from dipnet.consensus.staking import candidates
from dipnet.host.metrics import Distribution, Sample
from dipnet.primitives.crypto import checksum
from dipnet.rpc import dpos, lookup
from dipnet.rpc.backend import Backend


def all_of(backend: Backend) -> Iterator[Sample | Distribution]:
    """Every reading of a node, without its prefix ``dipnet_``."""
    yield from _node(backend)
    yield from _finality(backend)
    yield from _delegates(backend)
    yield from _votes(backend)


def _node(backend: Backend) -> Iterator[Sample]:
    chain = backend.chain
    pending, queued = backend.pool.counts()
    behind_ms = max(backend.now_ms() - chain.head.timestamp_ms, 0)
    for name, text, value in (
        ("head_height", "Height of the head", chain.head.height),
        ("head_slot", "Slot of the head", chain.head.slot),
        ("head_age_seconds", "Age of the head's slot", behind_ms / 1000),
        ("head_gas_used", "Gas used in the head", chain.head.gas_used),
        ("head_base_fee_wei", "Base fee of the head", chain.head.base_fee),
        ("peers", "Connected peers", len(backend.peers())),
        ("syncing", "1 while catching up", int(backend.syncing() is not None)),
        ("uptime_seconds", "Since start", (backend.now_ms() - backend.started_ms()) / 1000),
    ):
        yield Sample(name, text, value)
    pool = "Waiting transactions"
    yield Sample("pool_txs", pool, pending, (("state", "pending"),))
    yield Sample("pool_txs", pool, queued, (("state", "queued"),))
    for name, count in backend.dag.stats().items():
        yield Sample("dag", "Counts of the DAG", count, (("of", name),))
    for component, complaint in backend.health().items():
        text = "1 while the component is fine"
        yield Sample("healthy", text, int(complaint is None), (("component", component),))


def _finality(backend: Backend) -> Iterator[Sample | Distribution]:
    chain, slot = backend.chain, dpos.slot_now(backend)
    for name, text, value in (
        ("epoch", "Epoch of the block after the head", chain.epoch.number),
        ("safe_height", "Height of the highest certified block", chain.safe.height),
        ("finalized_height", "Height of the final block", chain.final.height),
        (
            "finality_lag_slots",
            "Slots since that of the final block",
            max(slot - chain.final.slot, 0),
        ),
        ("unfinal_blocks", "Blocks above the final block", chain.head.height - chain.final.height),
        (
            "backoff_step",
            "A block may stand in every slot that is a multiple of this",
            dpos.backoff_step(backend),
        ),
    ):
        yield Sample(name, text, value)
    yield Distribution(
        "certificate_latency_seconds",
        "From the start of a block's slot to its commit certificate",
        backend.finality.histogram,
    )
    offset_ms = backend.clock_offset_ms()
    if offset_ms is not None:
        yield Sample(
            "clock_offset_seconds",
            "How far the clocks of peers are ahead of ours",
            offset_ms / 1000,
        )


def _delegates(backend: Backend) -> Iterator[Sample]:
    """Delegates with a seat now or in the next epoch, as the contract records them."""
    root, epoch = lookup.contract(backend, "latest"), backend.chain.epoch
    registered = candidates.roll(root)
    cast = sum(candidates.record_of(root, address)[candidates.VOTES] for address in registered)
    for delegate in dict.fromkeys((*epoch.members.addresses, *epoch.next_members.addresses)):
        stored, label = candidates.record_of(root, delegate), (("delegate", checksum(delegate)),)
        votes, jailed = stored[candidates.VOTES], stored[candidates.JAILED_UNTIL] > epoch.number
        yield Sample("delegate_votes_wei", "Stake that votes for the delegate", votes, label)
        text = "The delegate's share of the votes for all candidates"
        yield Sample("delegate_share", text, votes / cast if cast else 0.0, label)
        produced, missed = stored[candidates.PRODUCED_EVER], stored[candidates.MISSED_EVER]
        yield Sample("delegate_produced", "Slots with its block", produced, label, "counter")
        yield Sample("delegate_missed", "Its slots without a block", missed, label, "counter")
        yield Sample("delegate_jailed", "1 while it is jailed", int(jailed), label)
    yield Sample("candidates", "Registered candidates", len(registered))


def _votes(backend: Backend) -> Iterator[Sample]:
    voting = backend.voting
    for delegate, seen in voting.tally.participation().items():
        label = (("delegate", checksum(delegate)),)
        slots = "Recent certified slots in which the delegate could vote"
        yield Sample("delegate_slots", slots, seen.slots, label)
        yield Sample("delegate_prevotes", "In how many of them it prevoted", seen.prevotes, label)
        yield Sample("delegate_commits", "In how many of them it committed", seen.commits, label)
    for code, count in voting.results.items():
        text = "Votes by the code that refused them, empty when counted"
        yield Sample("votes", text, count, (("error", code),), "counter")
    offenders = len(voting.tally.offences())
    yield Sample("offenders", "Delegates whose offence this node can prove", offenders)
    if voting.voter is not None:
        yield from _own(backend)


def _own(backend: Backend) -> Iterator[Sample]:
    """This node's delegate; the contract counts its produced and missed slots."""
    voting, address = backend.voting, dpos.own_address(backend)
    active = int(not voting.paused and voting.idle is None)
    yield Sample("own_active", "1 while this node's delegate takes part", active)
    text = "Ballots that the signer refused"
    yield Sample("own_unsigned", text, voting.unsigned, sort="counter")
    if address is not None:
        candidate = candidates.read(lookup.contract(backend, "latest"), address)
        yield Sample("own_produced", "Slots with its block", candidate.produced, sort="counter")
        yield Sample("own_missed", "Its slots without a block", candidate.missed, sort="counter")
        yield Sample("own_jailed_until", "Epoch to which it is jailed", candidate.jailed_until)
