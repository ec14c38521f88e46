"""Rules of IDpos broken on purpose: a line of the shipping code each, and the test that fails.

A line is found by its text, so that a mutant whose line is gone fails. Most are caught by random
walks beside the naive model; the others by a test of their own.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from textwrap import dedent
from types import FunctionType
from typing import Any

from _pytest.monkeypatch import MonkeyPatch

from dipnet.consensus.finality import votes
from dipnet.consensus.staking import (
    actions,
    candidates,
    election,
    evidence,
    idpos,
    parameters,
    rewards,
    stakes,
)
from dipnet.ledger.parameters import Parameters
from dipnet.vm import abi, system, transaction
from tests.fixtures.staking import World, network
from tests.fixtures.staking_machine import Machine, walk
from tests.unit.consensus.staking import test_actions as of_actions
from tests.unit.consensus.staking import test_commission as of_commissions
from tests.unit.consensus.staking import test_evidence as of_evidence
from tests.unit.consensus.staking import test_interface as of_calls
from tests.unit.consensus.staking import test_parameter_limits as of_limits
from tests.unit.consensus.staking import test_parameters as of_parameters
from tests.unit.ledger import test_parameters as of_rows
from tests.unit.vm import test_abi as of_abi

WALK_SEEDS = range(16)
Find = Callable[[], str]


@dataclass(frozen=True)
class Mutant:
    """``old`` in the function ``where`` becomes ``new``; ``find`` says where that showed."""

    name: str
    where: Any
    old: str
    new: str
    find: Find

    def put(self, patch: MonkeyPatch) -> None:
        """Plants it, wherever the function is referred to."""
        text = dedent(inspect.getsource(self.where))
        assert text.count(self.old) == 1, f"{self.name}: the line is another one now"
        space: dict[str, FunctionType] = {}
        text = f"from __future__ import annotations\n{text.replace(self.old, self.new)}"
        exec(text, {}, space)
        patch.setattr(self.where, "__code__", space[self.where.__name__].__code__)


def in_walks() -> str:
    """The first walk on which contract and model part."""
    for seed in WALK_SEEDS:
        machine = Machine()
        try:
            walk(machine, seed)
        except Exception as error:
            return f"seed {seed}, {machine.step}: {type(error).__name__} {error}"
    return ""


def by(test: Callable[..., None], *arguments: Any) -> Find:
    """The test, if it fails."""

    def find() -> str:
        world = [World(network())] if "world" in inspect.signature(test).parameters else []
        try:
            test(*world, *arguments)
        except BaseException as error:  # pytest's own failures are no Exception
            return f"{test.__name__}: {type(error).__name__} {error}"
        return ""

    return find


OF_STAKES = (
    Mutant("a stake counts anew for each delegate", stakes.cast,
           "record[STAKE] // len(delegates)", "record[STAKE]", in_walks),
    Mutant("a late vote earns from the beginning", stakes.cast,
           "entry[PAID] = candidates.record_of(root, delegate)[ACCRUED]", "entry[PAID] = 0",
           in_walks),
    Mutant("votes for a stranger", stakes.cast, "not candidates.is_open(root, delegate)", "False",
           by(of_actions.test_a_vote_for_an_unknown_delegate)),
    Mutant("votes that lapsed go on earning", stakes._unsettled, "if closed else", "if 0 else",
           in_walks),
    Mutant("votes that lapsed are taken off again", stakes._forget, "if not lapsed and", "if",
           in_walks),
    Mutant("what is settled is earned again", stakes.settle, "vote[PAID] = until", "pass",
           in_walks),
    Mutant("votes do not follow the stake", stakes.change_stake, "if record[VOTES]:", "if False:",
           in_walks),
    Mutant("votes lapse an epoch early", election.expire_votes, "candidate, epoch)",
           "candidate, epoch + 1)", in_walks),
    Mutant("votes never lapse", election.expire_votes, "stakes.expire(root, candidate, epoch)",
           "pass", in_walks),
    Mutant("stake is released an epoch early", stakes.matured, "<= epoch", "<= epoch + 1",
           in_walks),
    Mutant("two releases at a time", actions.unstake, "if record[UNBONDING]:", "if False:",
           in_walks),
    Mutant("a release of more than is staked", actions.unstake, "0 < amount <= held", "0 < amount",
           in_walks),
    Mutant("a delegate takes back its least stake", actions.unstake, "held - amount < least",
           "held < least", in_walks),
    Mutant("stake leaves before its delegate", actions.unstake, "(SETS_AHEAD if status else 0)",
           "0", in_walks),
    Mutant("more delegates than allowed", actions.vote, "len(delegates) > most", "False",
           by(of_actions.test_votes_beyond_the_limit)),
    Mutant("a delegate named twice", actions.vote, "len({*delegates}) != len(delegates)", "False",
           by(of_actions.test_votes_beyond_the_limit)),
    Mutant("votes follow the leaders", actions.vote,
           "if delegates and record[FREE] > context.epoch:", "if False:", in_walks),
    Mutant("a vote expires an epoch late", actions.vote,
           "context.epoch + context.parameters.vote_expiry_epochs",
           "context.epoch + 1 + context.parameters.vote_expiry_epochs", in_walks),
    Mutant("claims again", actions.claim, "record[REWARDS] = 0", "pass", in_walks),
    Mutant("claims what is released again", actions.claim,
           "record[UNBONDING] = record[RELEASE] = 0", "pass", in_walks),
)  # fmt: skip

OF_REWARDS = (
    Mutant("no commission", rewards.share_out, "amount * kept // BPS_ALL", "0",
           in_walks),
    Mutant("leaving pays", rewards.share_out, "REGISTERED:\n        return own",
           "REGISTERED:\n        return amount", in_walks),
    Mutant("rewards are rounded up", rewards.earned, "// SCALE", "// SCALE + 1", in_walks),
    Mutant("tips are lost", idpos.end_block, "context, reward + tips)", "context, reward)",
           in_walks),
    Mutant("the reward is minted and not booked", idpos.end_block,
           "+= rewards.share_out(root, context, reward + tips)", "+= 0", in_walks),
    Mutant("a reward that nobody minted", idpos.end_block,
           "journal.add_balance(DPOS_ADDRESS, reward)", "pass", in_walks),
)  # fmt: skip

OF_COMMISSIONS = (
    Mutant("a commission is raised at once", actions.register, "epoch + SETS_AHEAD", "epoch",
           by(of_commissions.test_a_commission_is_not_raised_for_own_blocks_only)),
    Mutant("a commission is raised before votes act", actions.register, "epoch + SETS_AHEAD",
           "epoch + 1", by(of_commissions.test_a_raise_waits_as_long_as_a_vote)),
    Mutant("a lower commission waits", candidates.Commission.changed, "if bps <= now:",
           "if bps == now:", by(of_commissions.test_a_lower_commission_acts_at_once)),
    Mutant("a raise that is said again waits again", candidates.Commission.changed,
           "if self.starts > epoch and", "if False and",
           by(of_commissions.test_the_same_raise_again_changes_nothing)),
    Mutant("another raise inherits the date", candidates.Commission.changed,
           "Commission(now, bps, starts)", "Commission(now, bps, self.starts or starts)",
           by(of_commissions.test_another_raise_has_a_date_of_its_own, 4_000)),
    Mutant("a raise in force is forgotten", candidates.Commission.changed, "Commission(now, bps,",
           "Commission(self.bps, bps,", by(of_commissions.test_a_raise_upon_a_raise)),
    Mutant("a limit for newcomers alone", rewards.share_out,
           "context.parameters.commission_bps_max", "BPS_ALL",
           by(of_commissions.test_a_limit_that_was_lowered_binds_all)),
)  # fmt: skip

RANKED = (
    "(record[JAILED_UNTIL] > epoch, -record[VOTES], owner) for owner, record in _registered(root)"
)
OF_ELECTIONS = (
    Mutant("fewest votes first", election.elect, "-record[VOTES]", "record[VOTES]", in_walks),
    Mutant("ties by time of registration", election.elect, RANKED,
           f"({RANKED}), key=lambda one: one[:2]", in_walks),
    Mutant("an organisation of any size", election._fill, "== cap", "== -1", in_walks),
    Mutant("a seat too few", election.elect, "parameters.delegates_active,",
           "parameters.delegates_active - 1,", in_walks),
    Mutant("a half is not missed", candidates.is_absent, ">= record[PRODUCED]",
           "> record[PRODUCED]", in_walks),
    Mutant("slots of all epochs count", candidates._tally, "record[COUNTED] != epoch", "False",
           in_walks),
    Mutant("jail ends an epoch early", election.jail_absent, "SETS_AHEAD +", "1 +", in_walks),
    Mutant("jail empties seats", election.elect, "for owner, record in _registered(root)",
           "for owner, record in _registered(root) if record[JAILED_UNTIL] <= epoch", in_walks),
    Mutant("a resigned delegate may be elected", candidates.close,
           "if record[STATUS] == REGISTERED:",
           "if record[STATUS] != REGISTERED:", in_walks),
    Mutant("nobody is a set", election.elect, "chosen or seated(root, epoch - 1)", "chosen",
           by(of_actions.test_the_last_to_resign_leaves_the_roll_empty)),
)  # fmt: skip

OF_CANDIDATES = (
    Mutant("a key that its owner never showed", candidates.check_key, "if not valid:", "if False:",
           by(of_actions.test_a_key_shows_itself_to_one_sender_on_one_chain)),
    Mutant("a key in another form", candidates.check_key, "len(key) == KEY_BYTES and", "",
           by(of_actions.test_a_key_in_its_long_form)),
    Mutant("a key serves two delegates", candidates.enter, "if owner[WORD]:", "if False:",
           by(of_actions.test_a_key_serves_one_delegate_for_ever)),
    Mutant("another key for a delegate", actions.register, "candidates.public_key(record) != key",
           "False", by(of_actions.test_registering_again_changes_the_profile_alone)),
    Mutant("a delegate without stake", actions.register, "held < in_force.delegate_stake_min",
           "False", in_walks),
    Mutant("back after leaving", actions.register, "elif status != NONE:", "elif False:",
           by(of_actions.test_resigning_is_for_good)),
    Mutant("a roll without end", candidates.enter, "at >= most", "False",
           by(of_actions.test_the_roll_is_bounded)),
    Mutant("any commission", candidates.Profile.check,
           "self.commission_bps > parameters.commission_bps_max", "False",
           by(of_actions.test_what_is_no_registration, {"commission": 5_001}, "dpos_profile")),
)  # fmt: skip

E1 = of_evidence.PAIRS["E1"]
OF_EVIDENCE = (
    Mutant("evidence is replayed", actions.submit_evidence, "record[STATUS] == TOMBSTONED", "False",
           in_walks),
    Mutant("evidence of any age", actions.submit_evidence,
           "context.epoch > offence.epoch + in_force.evidence_epochs", "False", in_walks),
    Mutant("evidence expires an epoch early", actions.submit_evidence,
           "context.epoch > offence", "context.epoch >= offence", in_walks),
    Mutant("what is on its way out escapes", actions._slash, "(held + leaving)", "held", in_walks),
    Mutant("more is burned than lost", actions.submit_evidence, "burn(lost - reward)",
           "burn(lost)", in_walks),
    Mutant("the offender stays", actions.submit_evidence,
           "candidates.close(root, delegate, TOMBSTONED)", "pass", in_walks),
    Mutant("signatures of two keys", evidence.prove, "if not same:", "if False:",
           by(of_evidence.test_signatures_of_two_keys)),
    Mutant("a lock that was kept", votes.offence, "first.slot > second.justify_slot",
           "first.slot >= second.justify_slot",
           by(of_evidence.test_ballots_that_a_vote_state_allows_are_never_an_offence)),
    Mutant("the same ballot twice", votes.offence, "and first != second", "",
           by(of_evidence.test_what_is_no_offence, (of_evidence.signed(E1[0]),) * 2)),
    Mutant("ballots of two epochs", votes.offence, "first.epoch != second.epoch and", "False and",
           by(of_evidence.test_what_is_no_offence, of_evidence.OF_TWO_EPOCHS)),
)  # fmt: skip

OF_PARAMETERS = (
    Mutant("one less than a quorum decides", parameters._pass, "context.members.quorum",
           "context.members.quorum - 1", by(of_parameters.test_two_of_four_are_no_quorum)),
    Mutant("strangers decide", parameters._need_member, "context.members.index(account) is None",
           "False", by(of_parameters.test_members_alone_propose_and_vote)),
    Mutant("a member votes twice", parameters.vote, "if voter[WORD]:", "if False:",
           by(of_parameters.test_members_alone_propose_and_vote)),
    Mutant("at once", parameters._pass, "following + context.parameters.parameter_delay_epochs",
           "following", by(of_parameters.test_a_quorum_changes_a_parameter_after_the_delay)),
    Mutant("proposals never expire", parameters._pass, "proposal[STATE] = EXPIRED", "pass",
           by(of_parameters.test_two_of_four_are_no_quorum)),
    Mutant("values are judged once", parameters._start,
           "parameters.amended(context.slot, name, value)",
           "__import__('dataclasses').replace(parameters, **{name: value})",
           by(of_parameters.test_two_that_fit_but_not_together)),
    Mutant("rules that nobody has", parameters.decide_rules, "if all(", "if any((True,)) or all(",
           by(of_parameters.test_a_new_version_of_the_rules_waits_for_readiness)),
    Mutant("rules that the next set has not", parameters.decide_rules, "in running)",
           "in running[:1])",
           by(of_parameters.test_readiness_counts_in_the_set_that_will_run_the_rules)),
    Mutant("rules above an unfinal boundary", parameters.decide_rules, "proposal[STARTS] <= starts",
           "proposal[STARTS] <= starts + 1",
           by(of_parameters.test_members_that_are_ready_in_time_wait_for_the_delay_alone)),
    Mutant("rules that went down", parameters._start, "value <= parameters.rules", "False",
           by(of_parameters.test_the_lower_of_two_versions_comes_too_late)),
    Mutant("proposals outlive their proposer", parameters.close,
           "if proposal[STATE] == OPEN and not _stays(root, proposer, running):", "if False:",
           by(of_parameters.test_an_open_proposal_goes_with_its_proposer)),
    Mutant("what has passed goes with its proposer", parameters.close,
           "proposal[STATE] == OPEN and not", "not",
           by(of_parameters.test_a_delegate_that_left_proposes_nothing_more, candidates.RESIGNED)),
    Mutant("a resigned delegate goes on proposing", parameters._stays, "registered and", "",
           by(of_parameters.test_a_delegate_that_left_proposes_nothing_more, candidates.RESIGNED)),
    Mutant("a proposal goes while its proposer is still here", parameters._stays, "in running)",
           "in running[1:])", by(of_parameters.test_an_open_proposal_goes_with_its_proposer)),
    Mutant("a proposal goes though its proposer comes back", parameters._stays, "in running)",
           "in running[:1])", by(of_parameters.test_a_delegate_that_comes_back_keeps_its_proposal)),
    Mutant("a parameter of later rules", Parameters.is_amendable, "and row.rules <= self.rules",
           "", by(of_rows.test_votes_change_a_parameter_only_under_its_rules)),
    Mutant("a time before 1970", Parameters._agree, "0 <= self.slot_zero_ms <= TIME_MS_MAX",
           "True", by(of_rows.test_slot_zero_stays_a_time)),
    Mutant("a value for ever", Parameters.amended, "if not low <= value <= high:", "if False:",
           by(of_limits.test_what_is_just_beyond_is_refused, "gas_limit")),
    Mutant("epochs too short to vote in", Parameters._leaves_a_way_back,
           "min(EPOCH_MS_MIN, before.epoch_ms)", "0",
           by(of_limits.test_epochs_are_long_enough_to_vote_in, {"epoch_slots": 50}, "slot_ms",
              200)),
    Mutant("a change that takes a year", Parameters._leaves_a_way_back, "self.change_ms <=", "0 <=",
           by(of_limits.test_two_that_leave_no_way_back_together)),
    Mutant("a price that nobody can pay", Parameters._leaves_a_way_back, "self.base_fee_floor <=",
           "0 <=", by(of_limits.test_a_floor_is_no_wall, 5, 0, 5_000)),
    Mutant("an early choice binds for ever", Parameters._leaves_a_way_back,
           "min(EPOCH_MS_MIN, before.epoch_ms)", "EPOCH_MS_MIN",
           by(of_limits.test_a_network_that_began_beyond_the_limits_is_governed_too)),
)  # fmt: skip

OF_CALLS = (
    Mutant("words after the end", abi._decoded, "_need(end == len(data))", "pass",
           by(of_calls.test_arguments_have_one_encoding, lambda data: data + bytes(32))),
    Mutant("an offset to anywhere", abi._decoded, '_need(_word("uint256", data, at) == end)',
           "pass", by(of_abi.test_every_byte_counts, ("address[]",), ([bytes(20)],))),
    Mutant("dirty addresses", abi._word, "_need(_integer(word) >> bits == 0)", "pass",
           by(of_abi.test_every_byte_counts, ("address[]",), ([bytes(20)],))),
    Mutant("dirty padding", abi._dynamic, "_need(not any(data[begin + count : end]))", "pass",
           by(of_abi.test_every_byte_counts, ("bytes",), (b"\1",))),
    Mutant("more is promised than is there", abi._dynamic, "_need(end <= len(data))", "pass",
           by(of_abi.test_what_is_promised_and_not_there_costs_nothing, "address[]")),
    Mutant("any number of bytes", idpos._run, "or len(call.input) > INPUT_BYTES_MAX", "",
           by(of_abi.test_more_delegates_than_any_rule_allows_are_not_read)),
    Mutant("value for a method that takes none", idpos._run, "call.value and not", "False and not",
           by(of_actions.test_only_stake_takes_value, idpos.METHODS["vote"])),
    Mutant("what is refused stays done", transaction.call,
           "except Revert as refused:\n        journal.rollback(mark)",
           "except Revert as refused:\n        pass", in_walks),
    Mutant("a call that is free", system.Call.charge, "self.gas -= gas", "pass",
           by(of_calls.test_genesis_prices_every_method)),
)  # fmt: skip

MUTANTS = (
    *OF_STAKES, *OF_REWARDS, *OF_COMMISSIONS, *OF_ELECTIONS, *OF_CANDIDATES, *OF_EVIDENCE,
    *OF_PARAMETERS, *OF_CALLS,
)  # fmt: skip
