"""Readings in a vertex's payload, for people: SenML in CBOR (RFC 8428), resolved.

A payload is its device's business: what is not SenML is shown as bytes only and is no error. Tags
are refused before anything is built from them, so that no foreign bytes become dates or patterns.
"""

from typing import Final, NoReturn

import cbor2

from dipnet.codec import to_hex

Reading = dict[str, object]

READINGS_MAX: Final = 256
NESTING_MAX: Final = 3
_INTEGER_MAX: Final = 2**63
# RFC 8428 table 6: labels of the CBOR form
_BASE_NAME, _BASE_TIME, _BASE_UNIT, _BASE_VALUE = -2, -3, -4, -5
_NAME, _UNIT, _VALUE, _TEXT, _FLAG, _TIME, _DATA = 0, 1, 2, 3, 4, 6, 8


class _NotSenml(ValueError):
    """This payload is something else; never leaves this file."""


def _refuse(decoder: object) -> NoReturn:
    raise _NotSenml("tag")


# Those that cbor2 knows; others come out as a CBORTag, which is no reading either.
_NO_TAGS: Final = dict.fromkeys((*range(1100), 43000, 55799), _refuse)


def _number(value: object) -> int | float:
    if type(value) is int and -_INTEGER_MAX <= value < _INTEGER_MAX:
        return value
    if type(value) is float:
        return value
    raise _NotSenml("number")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _NotSenml("text")
    return value


def _reading(record: dict[object, object], base: dict[int, int | float | str]) -> Reading:
    """One record resolved; ``base`` keeps what holds for those after it. # RFC 8428 4.1"""
    for label, read in (
        (_BASE_NAME, _text), (_BASE_TIME, _number), (_BASE_UNIT, _text), (_BASE_VALUE, _number),
    ):  # fmt: skip
        if label in record:
            base[label] = read(record[label])
    reading: Reading = {
        "name": str(base.get(_BASE_NAME, "")) + _text(record.get(_NAME, "")),
        "unit": _text(record.get(_UNIT, base.get(_BASE_UNIT, ""))),
        "time": _sum(base.get(_BASE_TIME, 0), record.get(_TIME, 0)),
    }
    if _VALUE in record:
        reading["value"] = _sum(base.get(_BASE_VALUE, 0), record[_VALUE])
    elif _TEXT in record:
        reading["value"] = _text(record[_TEXT])
    elif isinstance(record.get(_FLAG), bool):
        reading["value"] = record[_FLAG]
    elif isinstance(data := record.get(_DATA), bytes):
        reading["value"] = to_hex(data)
    return reading


def _sum(left: object, right: object) -> int | float:
    return _number(_number(left) + _number(right))


def readings(payload: bytes) -> list[Reading] | None:
    """The resolved readings of a payload; None when it is not SenML or holds too many of them."""
    try:
        pack = cbor2.loads(
            payload,
            semantic_decoders=_NO_TAGS,
            max_depth=NESTING_MAX,
            allow_duplicate_keys=False,
        )
        if not isinstance(pack, list) or not 0 < len(pack) <= READINGS_MAX:
            return None
        base: dict[int, int | float | str] = {}
        return [_reading(record, base) for record in pack if isinstance(record, dict)]
    except (cbor2.CBORError, ValueError, OverflowError):
        return None
