"""The file of ``dipnet verify-header``: the trusted state of a light client.

A client begins with a genesis.json or with the file of an earlier run. Both are trusted, so no
other user may write to them. The file is replaced as a whole: after a crash it is the old file or
the new file.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dipnet.consensus.chain.block import genesis_block, genesis_members
from dipnet.consensus.finality.header import Header, decode_header
from dipnet.ledger.genesis import GENESIS_BYTES_MAX, Genesis
from dipnet.primitives import jsontext
from dipnet.primitives.codec import from_hex, to_hex
from dipnet.primitives.errors import Invalid
from dipnet.sdk import light
from dipnet.sdk.light import LightState

FORMAT: Final = 1
HASH_BYTES: Final = 32
_FILE: Final = jsontext.JsonBounds(GENESIS_BYTES_MAX)


@dataclass(frozen=True, slots=True)
class Known:
    """The content of the file.

    ``trusted``: hash of the header that the first run trusted. ``period_ms``: maximum age of a
    trusted boundary. ``final``: the highest header that was verified, None before the first.
    """

    trusted: bytes
    period_ms: int
    state: LightState
    final: Header | None

    def encode(self) -> bytes:
        """The bytes of the file, JSON."""
        fields = {
            "format": FORMAT,
            "trusted": to_hex(self.trusted),
            "period_ms": self.period_ms,
            "state": to_hex(self.state.encode()),
            "final": None if self.final is None else to_hex(self.final.raw),
        }
        return json.dumps(fields, indent=2).encode() + b"\n"


def decode_known(fields: dict[str, Any], where: str) -> Known:
    """The content of a file that ``Known.encode`` made; ``Invalid("config")`` names ``where``."""
    try:
        if fields["format"] != FORMAT:
            raise Invalid("config", f"of format {fields['format']!r}")
        final = fields["final"]
        period_ms = fields["period_ms"]
        if type(period_ms) is not int or period_ms < 0:
            raise Invalid("config", "period_ms is no number of milliseconds")
        trusted = from_hex(fields["trusted"])
        if len(trusted) != HASH_BYTES:
            raise Invalid("config", "trusted is no hash")
        return Known(
            trusted,
            period_ms,
            light.decode_state(from_hex(fields["state"])),
            None if final is None else decode_header(from_hex(final)),
        )
    except (KeyError, TypeError, Invalid) as error:
        why = f"{where} is no file of verify-header ({error}); move it away, or correct its name"
        raise Invalid("config", why) from None


def from_genesis(genesis: Genesis) -> Known:
    """The state of a client that trusts a genesis.json; the genesis block is made here."""
    header = genesis_block(genesis)[0].header
    state = light.genesis_state(header, genesis_members(genesis))
    first = genesis.parameters
    return Known(header.hash, first.unbonding_epochs * first.epoch_ms // 2, state, None)


def load(path: Path) -> Known | None:
    """The content of the file of an earlier run, None when missing; ``Invalid("config")``."""
    found = _read(path)
    return None if found is None else decode_known(found[0], str(path))


def load_trusted(path: Path) -> Known:
    """The content of that file, or of a genesis.json; ``Invalid``: ``config``, ``genesis``."""
    found = _read(path)
    if found is None:
        raise Invalid("config", f"there is no file {path} to trust")
    fields, raw = found
    if isinstance(fields, dict) and "delegates" in fields:
        return from_genesis(Genesis.decode(raw))
    return decode_known(fields, str(path))


def _read(path: Path) -> tuple[Any, bytes] | None:
    """The JSON of a file and its bytes, None when missing."""
    try:
        with path.open("rb") as file:
            raw = file.read(GENESIS_BYTES_MAX + 1)
        return jsontext.load(raw, _FILE), raw
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Invalid("config", f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise Invalid("config", f"{path} is not JSON: {error}") from None


def save(path: Path, known: Known) -> None:
    """Replaces the file, durably; ``Invalid("config")`` when it cannot be written."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with draft.open("wb") as file:
            file.write(known.encode())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise Invalid("config", f"cannot write {path}: {error.strerror}") from None
