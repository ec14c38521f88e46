"""JSON of files and answers, bounded in depth before it is parsed.

The standard library's scanner recurses in C: how deep it gets depends on a recursion limit that any
imported library may raise, past which the process dies without an exception. So the depth is
counted first, at C speed. What a peer or a caller sends has stricter doors: ``rpc/bounds.py`` for
requests, ``genesis.py`` for networks.
"""

import json
from typing import Any, Final

DEPTH_MAX: Final = 64

# All brackets become square ones: how they pair is the parser's business, how deep they go is ours.
_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


def load(raw: bytes) -> Any:
    """The value of one JSON text in UTF-8; ValueError for anything else or deeper."""
    text = raw.decode()
    # Up to the first character that is not JSON this sees strings where the parser sees them.
    skeleton = b"".join(raw.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    brackets = skeleton.translate(_SQUARE, _NOT_BRACKETS)
    for _ in range(DEPTH_MAX):
        outer = brackets.replace(b"[]", b"")
        if len(outer) == len(brackets):
            break
        brackets = outer
    if brackets:
        raise ValueError(f"brackets that are open, or deeper than {DEPTH_MAX}")
    return json.loads(text)
