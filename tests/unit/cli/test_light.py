"""``dipnet verify-header``: its proofs, its state file, its output, and lying nodes."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from dipnet.cli import light as cli_light
from dipnet.cli.main import app
from dipnet.primitives.codec import to_hex
from dipnet.primitives.errors import Invalid
from dipnet.sdk import light, trust
from tests.fixtures.light_chain import LightChain, certificate, commit, rotating, with_fields
from tests.fixtures.light_peer import Liar, Peer, Shown
from tests.fixtures.processes import ask, dev_url, running, until
from tests.fixtures.rpc_node import Node

SLOTS = 4
DAY_MS = 86_400_000


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["verify-header", *(str(argument) for argument in arguments)])


class Place:
    """A directory with a client's state file, and the node that the client asks."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.state = path, path / "state" / "light.json"
        self.peer: Any = nullcontext()
        self.now_ms = 0
        monkeypatch.setattr(cli_light, "Client", lambda url: self.peer)
        monkeypatch.setattr(cli_light, "now_ms", lambda: self.now_ms)

    def told(self, *arguments: object) -> Any:
        result = run("--json", "--state", self.state, *arguments)
        assert result.exit_code == 0, (result.output, result.exception)
        return json.loads(result.stdout)

    def refused(self, *arguments: object) -> str:
        before = self.state.read_bytes() if self.state.exists() else None
        result = run("--state", self.state, *arguments)
        assert result.exit_code == 2, (result.output, result.exception)
        assert not result.stdout
        assert before is None or self.state.read_bytes() == before
        line = result.stderr.splitlines()[-1]
        assert line.startswith("error: ")
        return line


@pytest.fixture(name="place")
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


def real(place: Place, epochs: int = 3) -> Node:
    """A client of a real node with its genesis.json, and a clock that agrees with the node."""
    node = Node(delegates=4, epoch_slots=SLOTS, unbonding_epochs=60, evidence_epochs=2)
    while node.chain.epoch.number < epochs:
        node.produce()
    node.produce()
    (place.path / "genesis.json").write_bytes(node.genesis.encode())
    place.peer, place.now_ms = Peer(node), node.now_ms()
    return node


def generated(place: Place, epochs: int = 9) -> LightChain:
    """A client of a generated chain, with a state file that trusts the chain's beginning."""
    chain = LightChain(rotating(epochs + 8, 4, 3))
    for _ in range(epochs):
        chain.boundary()
    show(place, chain)
    known = trust.Known(chain.genesis.hash, DAY_MS, chain.start, None)
    trust.save(place.state, known)
    return chain


def show(place: Place, chain: LightChain) -> light.FinalProof:
    proof = chain.finality(above=1)
    place.peer, place.now_ms = Shown(chain, proof), chain.head.timestamp_ms + 500
    return proof


# --- what it does


def test_from_genesis_to_the_newest_final_header_and_on_from_there(place: Place) -> None:
    node = real(place)
    told = place.told("--trusted", place.path / "genesis.json")
    assert told["final"]["hash"] == to_hex(node.chain.final.hash)
    assert told["final"]["stateRoot"] == to_hex(node.chain.final.state_root)
    assert (told["fromEpoch"], told["epoch"], told["borders"]) == (0, 3, 1)
    assert (told["signatures"], told["members"], told["ageMs"]) == (6, 4, 100)
    assert told["trusted"] == to_hex(node.chain.genesis_hash)
    assert told["checkpoint"] == f"3:{to_hex(node.chain.epoch.boundary.block_id)}"
    again = place.told()
    assert (again["fromEpoch"], again["borders"], again["signatures"]) == (3, 0, 3)
    while node.chain.epoch.number < 5:
        node.produce()
    node.produce()
    further = place.told("--trusted", place.path / "genesis.json")
    assert (further["fromEpoch"], further["epoch"], further["borders"]) == (3, 5, 1)
    assert further["final"]["height"] > told["final"]["height"]


def test_over_http(tmp_path: Path) -> None:
    data, begin = tmp_path / "data", ("--force", "--trusted", tmp_path / "data" / "genesis.json")
    options = ("--data", str(data), "--rpc-port", "0", "--slot-ms", "100")
    with running(tmp_path / "log", "dipnetd", "dev", *options) as process:
        url = dev_url(process)
        until(lambda: ask(url, "dpos_borders", 1), "border", process)
        result = run("--state", tmp_path / "light.json", "--json", "--url", url, *begin)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["final"]["epoch"] == told["epoch"]
    assert told["signatures"] == told["borders"] + 1


def test_it_says_so_to_people(place: Place) -> None:
    node = real(place)
    shown = run("--state", place.state, "--trusted", place.path / "genesis.json").stdout
    assert to_hex(node.chain.final.hash) in shown
    assert "0 to 3, over 1 boundaries" in shown
    assert "3 signatures" in shown
    assert str(place.state) in shown


def test_a_header_by_its_hash(place: Place) -> None:
    node = real(place)
    first, last = node.chain.hash_at(2), node.chain.final.hash
    assert first is not None
    begin = ("--trusted", place.path / "genesis.json")
    told = place.told(*begin, "--header", to_hex(first))
    assert (told["header"]["hash"], told["header"]["height"]) == (to_hex(first), 2)
    assert told["final"]["hash"] == to_hex(last)
    assert "begin lower with --trusted" in place.refused("--header", to_hex(first))
    shown = run("--state", place.state, "--header", to_hex(last)).stdout
    assert shown.count(to_hex(last)) == 2
    assert "64 hex digits" in place.refused("--header", "0x12")
    assert "not found" in place.refused("--header", to_hex(bytes(32)))


def test_a_chain_with_nothing_final_yet(place: Place) -> None:
    node = Node(delegates=4)
    (place.path / "genesis.json").write_bytes(node.genesis.encode())
    place.peer, place.now_ms = Peer(node), node.now_ms()
    begin = ("--trusted", place.path / "genesis.json")
    assert place.told(*begin)["final"] is None
    assert "nothing above what is trusted" in run("--state", place.state, *begin).stdout


def test_every_boundary(place: Place) -> None:
    chain = generated(place)
    start = place.state.read_bytes()
    assert place.told("--every")["borders"] == len(chain.boundaries) == 9
    place.state.write_bytes(start)
    assert place.told()["borders"] == 3
    place.state.write_bytes(start)
    line = lies(place, lambda _, answer: answer[1:] if isinstance(answer, list) else answer,
                "--every")  # fmt: skip
    assert "the boundary of epoch 0 is left out" in line


def test_the_way_is_kept_when_it_is_interrupted(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_light, "BOUNDARIES_MAX", 2)
    generated(place)
    honest, asked = place.peer, []

    def breaks(method: str, params: tuple[Any, ...], answer: Any) -> Any:
        asked.append(method)
        if len(asked) == 4:
            raise Invalid("unreachable", "gone")
        return answer

    place.peer = Liar(honest, breaks)
    assert run("--every", "--state", place.state).exit_code == 2
    known = trust.load(place.state)
    assert known is not None
    assert (known.state.epoch, known.final) == (4, None)
    place.peer = honest
    told = place.told("--every")
    assert (told["fromEpoch"], told["borders"]) == (4, 5)


# --- where trust begins


def test_a_boundary_that_somebody_told(place: Place) -> None:
    chain = generated(place)
    place.state.unlink()
    boundary = chain.boundaries[6].header
    begin = ("--trusted", f"7:{to_hex(boundary.hash)}")
    told = place.told(*begin)
    assert told["checkpoint"] == f"9:{to_hex(chain.boundaries[8].header.hash)}"
    assert (told["trusted"], told["fromEpoch"]) == (to_hex(boundary.hash), 7)
    assert place.told(*begin)["fromEpoch"] == 9
    place.state.unlink()
    assert "no boundary" in place.refused("--trusted", f"6:{to_hex(boundary.hash)}")
    assert "no boundary" in place.refused("--trusted", f"99:{to_hex(boundary.hash)}")
    place.now_ms = boundary.timestamp_ms + 7 * DAY_MS + 1
    assert "trusted header too old: 7 days" in place.refused(*begin)
    assert place.told(*begin, "--period-days", 8)["final"] is not None


def test_a_set_that_the_trusted_boundary_does_not_name(place: Place) -> None:
    chain = generated(place)
    place.state.unlink()
    honest, boundary = place.peer, chain.boundaries[6]

    def lie(method: str, params: tuple[Any, ...], answer: Any) -> Any:
        forged = replace(boundary, members=chain.sets[1])
        return [to_hex(forged.raw)] if method == "dpos_borders" else answer

    place.peer = Liar(honest, lie)
    begin = ("--trusted", f"7:{to_hex(boundary.header.hash)}")
    assert "set of delegates does not match" in place.refused(*begin)


def test_old_trust_needs_force(place: Place) -> None:
    chain = generated(place)
    place.now_ms = chain.genesis.timestamp_ms + DAY_MS + 1
    line = place.refused()
    assert "trusted header too old" in line
    assert "--force" in line
    assert place.told("--force")["epoch"] == 9
    assert place.told()["epoch"] == 9, "what was followed is newer"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "genesis.json of the network"),
        (b"{", "is not JSON"),
        (b"[]", "no file of verify-header"),
        (b"7", "no file of verify-header"),
        (b"{}", "no file of verify-header"),
        (b'{"format": 2}', "of format 2"),
        (b'{"delegates": []}', "no file of verify-header"),
    ],
)
def test_no_trust(place: Place, content: bytes | None, why: str) -> None:
    if content is not None:
        place.state.parent.mkdir()
        place.state.write_bytes(content)
    assert why in place.refused()


def test_two_beginnings_do_not_mix(place: Place) -> None:
    real(place)
    place.told("--trusted", place.path / "genesis.json")
    other = Node(delegates=3)
    (place.path / "other.json").write_bytes(other.genesis.encode())
    assert "another --state" in place.refused("--trusted", place.path / "other.json")
    assert "there is no file" in place.refused("--trusted", place.path / "none.json")
    place.peer = Peer(other)
    other.produce()
    assert "more was verified before" in place.refused()


FIELDS = json.loads(
    trust.Known(
        bytes(32), 7, LightChain(rotating(2, 4, 3)).start, LightChain(rotating(2, 4, 3)).genesis
    ).encode()
)


@given(
    st.sampled_from(sorted(FIELDS)),
    st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.just([])
    | st.binary(max_size=40).map(to_hex),
)  # fmt: skip
def test_a_changed_file_is_refused_or_read(name: str, value: object) -> None:
    fields = FIELDS | {name: value}
    assert judged(fields) in ("config", fields)


def judged(fields: dict[str, Any]) -> Any:
    """The code that refuses the state file, or the output."""
    try:
        return json.loads(trust.decode_known(fields, "it").encode())
    except Invalid as refused:
        return refused.code


def test_a_file_that_cannot_be_written(place: Place, tmp_path: Path) -> None:
    generated(place)
    (tmp_path / "plain").write_text("")
    known = trust.load(place.state)
    assert known is not None
    with pytest.raises(Invalid, match="cannot write"):
        trust.save(tmp_path / "plain" / "light.json", known)
    with pytest.raises(Invalid, match="cannot read"):
        trust.load(tmp_path)


# --- nodes that lie


def lies(place: Place, change: Callable[[str, Any], Any], *arguments: object) -> str:
    honest = place.peer
    place.peer = Liar(honest, lambda method, params, answer: change(method, answer))
    try:
        return place.refused(*arguments)
    finally:
        place.peer = honest


def test_answers_that_are_none(place: Place) -> None:
    generated(place)
    answers: tuple[object, ...] = (7, {}, [7], ["0x"], "0xzz", "0x", "0x80", ["0x80"] * 65)
    for what in answers:
        line = lies(place, lambda *_, what=what: what)
        assert "the node answered" in line or "malformed record" in line


def test_a_node_that_shows_more_boundaries_than_were_asked_for(place: Place) -> None:
    generated(place)
    line = lies(place, lambda method, answer: answer * 4 if method == "dpos_borders" else answer)
    assert "no boundaries" in line


def test_boundaries_above_the_verified_header_wait(place: Place) -> None:
    """The chain grows while the client asks; the set must be the set of the certificate's epoch."""
    chain = generated(place)
    proof = chain.finality()
    for _ in range(3):
        chain.boundary()
    place.peer = Shown(chain, proof)
    told = place.told()
    assert told["epoch"] == proof.certificate.ballot.epoch == 9
    assert told["final"]["height"] == proof.header.height


def test_a_node_that_shows_less_than_before(place: Place) -> None:
    chain = generated(place)
    old = place.peer
    show(place, chain)
    place.told()
    place.peer = old
    assert "more was verified before" in place.refused()
    place.peer = Shown(chain, None)
    assert place.told()["final"] is None


def test_a_node_that_hides_the_way(place: Place) -> None:
    generated(place)
    line = lies(place, lambda method, answer: [] if method == "dpos_borders" else answer)
    assert "no way is shown from epoch 0 to 9" in line


def test_a_fork_is_told(place: Place) -> None:
    """Only a third of the delegates can make a fork; the client must show it."""
    chain = generated(place)
    proof = show(place, chain)
    place.told()
    other = light.decode_final(proof.raw)
    header = with_fields(other.header, gas_used=other.header.gas_used + 1)
    forged = light.FinalProof(header, (), certificate(commit(header), chain.sets[header.epoch]))
    place.peer = Shown(chain, forged)
    line = place.refused()
    assert "contradict" in line
    assert to_hex(header.hash) in line
    assert to_hex(proof.header.hash) in line


def test_signatures_that_are_too_few(place: Place) -> None:
    chain, honest = generated(place), place.peer
    ballot = honest.final.certificate.ballot
    few = certificate(ballot, chain.sets[ballot.epoch], 2)
    place.peer = Shown(chain, replace(honest.final, certificate=few))
    result = run("--state", place.state)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "certificate below quorum" in result.stderr
    kept = trust.load(place.state)
    assert kept is not None
    assert (kept.state.epoch, kept.final) == (9, None), "the way is kept, the header is not"
    place.peer = honest
    assert place.told()["final"] is not None


def test_another_header_than_was_asked_for(place: Place) -> None:
    node = real(place)
    begin = ("--trusted", place.path / "genesis.json")
    newest = Peer(node).call("dpos_finalHeader")
    wanted = to_hex(node.chain.hash_at(1) or b"")
    line = lies(
        place,
        lambda method, answer: newest if method == "dpos_finalHeader" else answer,
        *begin, "--header", wanted,
    )  # fmt: skip
    assert "with another header" in line
