"""The remote signer: its records, its process, and the node's client, which no signer can crash."""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipnet.consensus.chain.schedule import seed_key
from dipnet.consensus.finality.votes import Ballot, BallotKind, VoteState
from dipnet.host.unixsocket import PrivateListener, connect
from dipnet.primitives import crypto
from dipnet.primitives.errors import Invalid
from dipnet.signing.signer import Answer, LocalSigner
from dipnet.signing.signer_server import CLIENTS_MAX, EXIT_OK, answer_to
from dipnet.signing.signer_socket import (
    FRAME_BYTES_MAX,
    LENGTH,
    RemoteSigner,
    SignerHello,
    decode_answer,
    decode_request,
    encode_answer,
    encode_hello,
    encode_request,
    frame,
)
from dipnet.signing.votefile import VoteFile, encode, write
from tests.fixtures.processes import WAIT_S
from tests.processes.crash_points import ACCOUNT, CHAIN_ID, PATH, SECRET
from tests.processes.crash_points_disk import CrashDisk
from tests.processes.crash_points_process import SOCKET
from tests.processes.signer_process import signer_process

uints = st.integers(0, 2**64 - 1)
states = st.builds(VoteState, uints, uints, uints, uints)
ballots = st.builds(
    Ballot,
    st.sampled_from((BallotKind.PREVOTE,)),
    uints,
    uints,
    st.binary(min_size=32, max_size=32),
    uints,
) | st.builds(
    Ballot,
    st.sampled_from((BallotKind.PROPOSAL, BallotKind.COMMIT)),
    uints,
    uints,
    st.binary(min_size=32, max_size=32),
    st.just(0),
)


def prevote(slot: int, block: bytes = b"A", justify: int = 0, epoch: int = 0) -> Ballot:
    return Ballot(BallotKind.PREVOTE, epoch, slot, block * 32, justify)


# --- records


@given(ballots)
def test_a_request_comes_back(ballot: Ballot) -> None:
    assert decode_request(encode_request(ballot)) == ballot
    assert decode_request(encode_request(None)) is None


@given(states, st.binary(min_size=65, max_size=65) | st.just(b""), st.text(max_size=300))
def test_an_answer_comes_back(state: VoteState, signature: bytes, refusal: str) -> None:
    refusal = refusal.encode("utf-8", "replace").decode()
    told = decode_answer(encode_answer(Answer(signature, state, refusal)))
    assert isinstance(told, Answer)
    assert (told.signature, told.state) == (signature, state)
    assert refusal.startswith(told.refusal)
    assert told.refusal == refusal or len(told.refusal.encode()) > 196
    assert len(encode_answer(Answer(signature, state, refusal))) <= FRAME_BYTES_MAX
    hello = SignerHello(7, b"k" * 33, b"s" * 32, state)
    assert decode_answer(encode_hello(hello)) == hello


@given(st.binary(max_size=600))
def test_foreign_bytes_are_no_request_and_no_answer(raw: bytes) -> None:
    for read in (decode_request, decode_answer):
        try:
            value = read(raw)
        except Invalid:  # the frame holds nothing else
            continue
        assert isinstance(value, Answer | SignerHello) or encode_request(value) == raw


@given(ballots, st.integers(0, 120), st.integers(0, 255))
def test_a_changed_byte_is_another_request_or_none(ballot: Ballot, at: int, byte: int) -> None:
    raw = bytearray(encode_request(ballot))
    raw[at % len(raw)] = byte
    try:
        read = decode_request(bytes(raw))
    except Invalid:
        return
    assert encode_request(read) == bytes(raw)


def signer_on_a_modelled_disk() -> LocalSigner:
    disk = CrashDisk(Random(0))
    write(PATH, encode(CHAIN_ID, ACCOUNT, VoteState()), disk)
    return LocalSigner(SECRET, VoteFile(PATH, CHAIN_ID, ACCOUNT, disk, lambda path: -1), CHAIN_ID)


@given(st.lists(st.binary(max_size=120) | ballots.map(encode_request), max_size=6))
def test_the_server_answers_or_refuses_whatever_comes(requests: list[bytes]) -> None:
    signer = signer_on_a_modelled_disk()
    for raw in requests:
        try:
            answer = decode_answer(answer_to(raw, signer, CHAIN_ID))
        except Invalid:
            continue
        assert answer.state == signer.state


# --- the process


Ask = Callable[..., RemoteSigner]


@pytest.fixture
def ask() -> Iterator[Ask]:
    """Makes node's clients of the signer in a directory; closes them after the test."""
    made: list[RemoteSigner] = []

    def at(directory: Path, **more: Any) -> RemoteSigner:
        made.append(RemoteSigner(directory / SOCKET, CHAIN_ID, **more))
        return made[-1]

    yield at
    for signer in made:
        signer.close()


def test_two_nodes_on_one_signer(tmp_path: Path, ask: Ask) -> None:
    with signer_process(tmp_path) as child:
        first, second = ask(tmp_path), ask(tmp_path)
        assert first.public_key == crypto.public_key(SECRET)
        assert first.seed_key == seed_key(SECRET)
        ballot = prevote(5)
        signed = first.sign(ballot)
        assert crypto.recover(ballot.digest(CHAIN_ID), signed.signature) == ACCOUNT
        refused = second.sign(prevote(5, b"B"))
        assert refused == Answer(b"", VoteState(0, 0, 5, 0), "prevoted in slot 5 already")
        assert second.state == VoteState(0, 0, 5, 0)
        assert second.complaint is None
        child.send_signal(signal.SIGTERM)
        assert child.wait(WAIT_S) == EXIT_OK
        assert not (tmp_path / SOCKET).exists()


def test_what_it_signed_outlives_it(tmp_path: Path, ask: Ask) -> None:
    passed = [0.0]

    def clock() -> float:
        return time.monotonic() + sum(passed)

    with signer_process(tmp_path) as child:
        node = ask(tmp_path, clock=clock)
        assert node.sign(prevote(5)).signature
        child.kill()
        child.wait(WAIT_S)
        lost = node.sign(prevote(6))
        assert lost.signature == b""
        assert "no signer at" in lost.refusal
        assert node.complaint == lost.refusal
        assert "no signer at" in node.sign(prevote(6)).refusal  # not asked: it is too soon
    with signer_process(tmp_path):  # over the socket file that the dead signer left
        passed.append(10.0)  # the pause is over
        assert node.sign(prevote(5, b"B")).refusal == "prevoted in slot 5 already"
        assert node.complaint is None


def test_a_signer_that_was_started_anew_is_asked_at_once(tmp_path: Path, ask: Ask) -> None:
    with signer_process(tmp_path):
        node = ask(tmp_path)
        assert node.sign(prevote(5)).signature
    with signer_process(tmp_path):
        assert node.sign(prevote(6)).signature


def test_a_signer_that_was_set_back_meanwhile_is_not_taken(tmp_path: Path, ask: Ask) -> None:
    with signer_process(tmp_path):
        node = ask(tmp_path)
        backup = (tmp_path / "delegate.votes").read_bytes()
        assert node.sign(prevote(5)).signature
        newest = (tmp_path / "delegate.votes").read_bytes()
    (tmp_path / "delegate.votes").write_bytes(backup)
    with signer_process(tmp_path):
        answer = node.sign(prevote(6))
        assert not answer.signature
        assert "it has forgotten what it signed" in answer.refusal
        assert answer.state.prevoted == 5
    (tmp_path / "delegate.votes").write_bytes(newest)
    with signer_process(tmp_path):
        assert ask(tmp_path).sign(prevote(6)).signature


def test_a_second_signer_is_refused(tmp_path: Path) -> None:
    with signer_process(tmp_path):
        with pytest.raises(Invalid) as caught:
            VoteFile(tmp_path / "delegate.votes", CHAIN_ID, ACCOUNT)
        assert caught.value.code == "locked"
        with pytest.raises(Invalid) as caught:
            PrivateListener(tmp_path / SOCKET)
        assert caught.value.code == "locked"


def test_the_socket_is_private(tmp_path: Path) -> None:
    with signer_process(tmp_path):
        assert (tmp_path / SOCKET).stat().st_mode & 0o777 == 0o600


def test_nonsense_closes_its_own_connection_only(tmp_path: Path, ask: Ask) -> None:
    with signer_process(tmp_path):
        node = ask(tmp_path)
        bad = [
            LENGTH.pack(FRAME_BYTES_MAX + 1),
            frame(b""),
            frame(b"\x92\x01\x07"),
            frame(encode_request(prevote(1)) + b"\0"),
        ]
        for raw in bad:
            with connect(tmp_path / SOCKET, WAIT_S) as stranger:
                stranger.sendall(raw)
                assert stranger.recv(1) == b""
        with connect(tmp_path / SOCKET, WAIT_S) as slow:
            slow.sendall(b"\0\0")  # half a length, and then nothing
            assert node.sign(prevote(1)).signature
        log = (tmp_path / "signer.log").read_text()
        assert "Traceback" not in log


def test_many_clients_are_bounded(tmp_path: Path, ask: Ask) -> None:
    with signer_process(tmp_path):
        nodes = [ask(tmp_path) for _ in range(CLIENTS_MAX)]
        with connect(tmp_path / SOCKET, WAIT_S) as one_more:
            assert one_more.recv(1) == b""
        assert nodes[-1].sign(prevote(1)).signature
        nodes[0].close()
        assert nodes[0].sign(prevote(2)).signature == b""


def test_a_disk_that_fails_ends_the_signer(tmp_path: Path, ask: Ask) -> None:
    with signer_process(tmp_path) as child:
        node = ask(tmp_path)
        (tmp_path / "delegate.votes.new").mkdir()  # nothing can be written there
        assert node.sign(prevote(1)).signature == b""
        assert child.wait(WAIT_S) == 70
    assert "cannot keep the vote state" in (tmp_path / "signer.log").read_text()


# --- a node's end, against signers that are none


@contextmanager
def impostor(path: Path, answer: Callable[[bytes], bytes]) -> Iterator[None]:
    """Answers each frame with ``answer(frame)``; ends the connection where that is None."""
    listener = PrivateListener(path)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.socket.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                while head := connection.recv(LENGTH.size):
                    reply = answer(connection.recv(LENGTH.unpack(head)[0]))
                    if not reply:
                        break
                    connection.sendall(reply)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.socket.shutdown(socket.SHUT_RDWR)
        thread.join(WAIT_S)
        listener.close()


HELLO = encode_hello(
    SignerHello(CHAIN_ID, crypto.public_key(SECRET), seed_key(SECRET), VoteState())
)
OTHER_SECRET = crypto.keccak256(b"somebody else")


def signed_by(secret: bytes) -> bytes:
    signature = crypto.sign(prevote(1).digest(CHAIN_ID), secret)
    return frame(encode_answer(Answer(signature, VoteState(0, 0, 1, 0))))


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        LENGTH.pack(FRAME_BYTES_MAX + 1),
        frame(b"nonsense"),
        frame(HELLO),
        signed_by(OTHER_SECRET),
        frame(encode_answer(Answer(b"\0" * 65, VoteState()))),
    ],
    ids=["ends", "long", "nonsense", "another-question", "another-key", "no-signature"],
)
def test_a_wrong_answer_is_a_refusal(tmp_path: Path, ask: Ask, reply: bytes) -> None:
    def answer(request: bytes) -> bytes:
        return frame(HELLO) if decode_request(request) is None else reply

    with impostor(tmp_path / SOCKET, answer):
        node = ask(tmp_path)
        told = node.sign(prevote(1))
        assert told.signature == b""
        assert told.state == VoteState()
        assert node.complaint == told.refusal


def test_a_signer_that_does_not_answer_is_not_waited_for(tmp_path: Path, ask: Ask) -> None:
    asked = threading.Event()

    def answer(request: bytes) -> bytes:
        if decode_request(request) is None:
            return frame(HELLO)
        asked.wait()
        return signed_by(SECRET)

    with impostor(tmp_path / SOCKET, answer):
        node = ask(tmp_path, answer_s=0.05)
        assert node.sign(prevote(1)).refusal.endswith("in time")
        asked.set()


def test_another_key_or_chain_is_not_taken(tmp_path: Path, ask: Ask) -> None:
    foreign_hello = SignerHello(
        CHAIN_ID, crypto.public_key(OTHER_SECRET), seed_key(OTHER_SECRET), VoteState()
    )
    hellos = iter([HELLO, encode_hello(foreign_hello), encode_hello(foreign_hello)])
    with impostor(tmp_path / SOCKET, lambda raw: frame(next(hellos)) if len(raw) == 3 else b""):
        node = ask(tmp_path)
        assert "another key" in node.sign(prevote(1)).refusal
    foreign = encode_hello(
        SignerHello(1, foreign_hello.public_key, foreign_hello.seed_key, VoteState())
    )
    with (
        impostor(tmp_path / SOCKET, lambda raw: frame(foreign)),
        pytest.raises(Invalid) as caught,
    ):
        ask(tmp_path)
    assert caught.value.code == "votes_foreign"


def test_no_signer_at_the_start(tmp_path: Path, ask: Ask) -> None:
    with pytest.raises(Invalid) as caught:
        ask(tmp_path, start_s=0.0)
    assert caught.value.code == "signer"


# --- sockets


def test_a_loose_directory_is_refused(tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    loose.mkdir()
    loose.chmod(0o777)
    with pytest.raises(Invalid, match="others may put files"):
        PrivateListener(loose / "x.sock")


def test_a_file_that_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    path.write_text("precious")
    with pytest.raises(Invalid, match="no socket"):
        PrivateListener(path)
    assert path.read_text() == "precious"


def test_a_living_socket_without_a_lock_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as alive:
        alive.bind(str(path))
        alive.listen()
        with pytest.raises(Invalid) as caught:
            PrivateListener(path)
    assert caught.value.code == "locked"
    PrivateListener(path).close()  # now the socket file is stale
    assert not path.exists()


def test_a_long_path_is_reached(tmp_path: Path) -> None:
    path = tmp_path / ("d" * 120) / "x.sock"
    listener = PrivateListener(path)
    with connect(path, WAIT_S) as connection:
        accepted, _ = listener.socket.accept()
        with accepted:
            connection.sendall(b"!")
            assert accepted.recv(1) == b"!"
    listener.close()
    assert os.listdir(path.parent) == ["x.sock.lock"]


def test_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = PrivateListener(tmp_path / "x.sock")
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    with pytest.raises(PermissionError):
        connect(tmp_path / "x.sock", WAIT_S)
    listener.close()
