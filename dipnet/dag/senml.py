"""Sensor readings as payloads: SenML in CBOR (RFC 8428).

``encode`` writes the readings of a device; ``resolve`` reads a pack of any device and applies its
base fields. The vertex's hash binds the bytes of a payload, so they need not be canonical. Decoding
is bounded before it allocates and raises only ``Invalid("senml")``.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final, TypeAlias

import cbor2

from dipnet.dag.vertex import PAYLOAD_BYTES_MAX
from dipnet.primitives.errors import Invalid

Number: TypeAlias = int | float
Value: TypeAlias = int | float | str | bool | bytes

READINGS_MAX: Final = 4_096
NAME_BYTES_MAX: Final = 255
NUMBER_BITS_MAX: Final = 64
DEPTH_MAX: Final = 3
VERSION: Final = 10
RELATIVE_BELOW: Final = 1 << 28
"""Seconds; a smaller time is relative to the time of resolving (RFC 8428 4.5.3)."""

# Labels (RFC 8428 table 4).
BASE_VERSION, BASE_NAME, BASE_TIME, BASE_UNIT, BASE_VALUE, BASE_SUM = -1, -2, -3, -4, -5, -6
NAME, UNIT, VALUE, STRING, BOOL, SUM, TIME, UPDATE, DATA = range(9)

_NUMBER: Final = (int, float)
_TYPES: Final[dict[int, tuple[type, ...]]] = {
    BASE_VERSION: (int,), BASE_NAME: (str,), BASE_TIME: _NUMBER, BASE_UNIT: (str,),
    BASE_VALUE: _NUMBER, BASE_SUM: _NUMBER, NAME: (str,), UNIT: (str,), VALUE: _NUMBER,
    STRING: (str,), BOOL: (bool,), SUM: _NUMBER, TIME: _NUMBER, UPDATE: _NUMBER, DATA: (bytes,),
}  # fmt: skip
_LABELS: Final = ((bool, BOOL), (int, VALUE), (float, VALUE), (str, STRING), (bytes, DATA))
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9:./_-]*")


@dataclass(frozen=True, slots=True)
class Reading:
    """A reading: a SenML record with absolute time and base fields applied."""

    name: str
    time: Number
    """Seconds since 1970."""
    value: Value | None
    """None only if the reading has a sum."""
    unit: str = ""
    sum: Number | None = None


def encode(readings: Sequence[Reading]) -> bytes:
    """The CBOR pack of these readings; a name or unit that all of them share is written once.

    Raises ``Invalid("senml")`` unless ``resolve`` gives the same readings back.
    """
    names = {reading.name: None for reading in readings}
    units = {reading.unit: None for reading in readings}
    pack: list[dict[int, Value]] = []
    for reading in readings:
        record: dict[int, Value] = {}
        if len(names) > 1 or len(readings) == 1:
            record[NAME] = reading.name
        elif not pack:
            record[BASE_NAME] = reading.name
        if reading.unit and (len(units) > 1 or len(readings) == 1):
            record[UNIT] = reading.unit
        elif reading.unit and not pack:
            record[BASE_UNIT] = reading.unit
        record[TIME] = reading.time
        if reading.value is not None:
            record[_label(reading.value)] = reading.value
        if reading.sum is not None:
            record[SUM] = reading.sum
        pack.append(record)
    payload = cbor2.dumps(pack, canonical=True)
    if resolve(payload, 1) != tuple(readings):
        raise Invalid("senml", "times are absolute, numbers finite, one type a field")
    return payload


def _label(value: Value) -> int:
    return next(label for type_, label in _LABELS if isinstance(value, type_))


def resolve(payload: bytes, now_s: Number) -> tuple[Reading, ...]:
    """The readings in a pack, in its order; ``now_s`` (Unix time) makes relative times absolute.

    Raises ``Invalid("senml")``.
    """
    base: dict[int, Any] = {}
    readings = []
    for record in _records(payload):
        for label, value in record.items():
            _check_field(label, value)
        base.update((label, value) for label, value in record.items() if _is_base(label))
        readings.append(_reading(base, record, now_s))
    return tuple(readings)


def _records(payload: bytes) -> list[dict[Any, Any]]:
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise Invalid("senml", f"{len(payload)} bytes where {PAYLOAD_BYTES_MAX} are allowed")
    stream = BytesIO(payload)
    try:
        pack = cbor2.CBORDecoder(stream, max_depth=DEPTH_MAX, allow_duplicate_keys=False).decode()
    except cbor2.CBORDecodeError as error:
        raise Invalid("senml", str(error)) from None
    if stream.tell() != len(payload):
        raise Invalid("senml", "bytes after the end")
    if type(pack) is not list or not all(type(record) is dict for record in pack):
        raise Invalid("senml", "a pack is an array of maps")
    if len(pack) > READINGS_MAX:
        raise Invalid("senml", f"more than {READINGS_MAX} records")
    return pack


def _is_base(label: object) -> bool:
    return isinstance(label, int) and label < 0


def _check_field(label: object, value: object) -> None:
    # type() and not isinstance: a bool does not count as a number
    if type(label) is not int:
        if type(label) is not str or label.endswith("_"):  # RFC 8428 4.4: must be understood
            raise Invalid("senml", f"unknown label {label!r:.40}")
        return
    types = _TYPES.get(label)
    if types is None:
        return
    if type(value) not in types:
        raise Invalid("senml", f"label {label} with a {type(value).__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise Invalid("senml", "a number that is not finite")
    if isinstance(value, int) and value.bit_length() > NUMBER_BITS_MAX:
        raise Invalid("senml", f"an integer of more than {NUMBER_BITS_MAX} bits")
    if isinstance(value, int) and label == BASE_VERSION and not 0 < value <= VERSION:
        raise Invalid("senml", f"version {value} where {VERSION} is known")


def _reading(base: dict[int, Any], record: dict[Any, Any], now_s: Number) -> Reading:
    name = base.get(BASE_NAME, "") + record.get(NAME, "")
    if len(name) > NAME_BYTES_MAX or not _NAME.fullmatch(name):
        raise Invalid("senml", f"name {name!r:.40} is empty, too long or of other characters")
    values = [record[label] for label in (VALUE, STRING, BOOL, DATA) if label in record]
    total = _sum(base.get(BASE_SUM), record.get(SUM))
    if len(values) > 1 or (not values and total is None):
        raise Invalid("senml", "a record has exactly one value, or a sum")
    value = values[0] if values else None
    if VALUE in record:
        value = _sum(base.get(BASE_VALUE), value)
    time = _sum(base.get(BASE_TIME, 0), record.get(TIME, 0))
    assert time is not None
    if time < RELATIVE_BELOW:
        time = _sum(now_s, time)
    return Reading(name, time, value, record.get(UNIT, base.get(BASE_UNIT, "")), total)


def _sum(base: Number | None, own: Number | None) -> Any:
    if base is None or own is None:
        return own if base is None else base
    try:
        total = base + own
    except OverflowError:
        total = math.inf
    if isinstance(total, float) and not math.isfinite(total):
        raise Invalid("senml", "a number that is not finite")
    return total
