"""A DAG drawn as a line of text: ``draw("a b c:a,b d:c")`` is four signed vertices by name.

A word is ``name``, ``name@ref`` or ``name@ref#seq``, then ``:`` and its parents. Each name has an
issuer of its own unless it has a seq: then its issuer is the name's first letter.
"""

import hashlib
import re

from dipnet.crypto import sha256
from dipnet.dag.vertex import Draft, build_envelope, sign_vertex, topic_of

CHAIN_ID = 2018
WORD = re.compile(r"(\w+)(?:@(\d+))?(?:#(\d+))?(?::([\w,]+))?")


def secret(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def draft(name: str, parents: tuple[bytes, ...] = (), ref: int = 0, seq: int = 1) -> Draft:
    return Draft(
        CHAIN_ID, ref, b"refhash8", seq, bytes(32), 1_700_000_000_000, topic_of("t"), name.encode(),
        parents=parents,
    )  # fmt: skip


def vertex_id(wire: bytes) -> bytes:
    """Envelope = 143 + 32 k bytes; vertices drawn here have no extra."""
    return sha256(wire[: 143 + 32 * wire[142]])


def draw(text: str, sign: bool = True) -> dict[str, bytes]:
    """Wire bytes by name, in the order drawn. Unsigned ones are for graphs without a check."""
    wires: dict[str, bytes] = {}
    for word in text.split():
        match = WORD.fullmatch(word)
        assert match, word
        name, ref, seq, parents = match.groups()
        ids = tuple(vertex_id(wires[parent]) for parent in (parents or "").split(",") if parent)
        what = draft(name, ids, int(ref or 0), int(seq or 1))
        key = secret(name[0] if seq else name)
        if sign:
            wires[name] = sign_vertex(key, what)
        else:
            wires[name] = build_envelope(what, key[:20]) + bytes(65) + what.payload
    return wires
