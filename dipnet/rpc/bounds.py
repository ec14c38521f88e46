"""The bounds of a JSON-RPC request, and the codes of requests that exceed them."""

from typing import Final

from dipnet.primitives import jsontext
from dipnet.primitives.errors import Invalid

BODY_BYTES_MAX: Final = 1 << 20
DEPTH_MAX: Final = 32
VALUES_MAX: Final = 1 << 15
NUMBER_DIGITS_MAX: Final = 80

_REQUEST: Final = jsontext.JsonBounds(BODY_BYTES_MAX, DEPTH_MAX, VALUES_MAX, NUMBER_DIGITS_MAX)


def load(raw: bytes) -> object:
    """The value of a request's JSON text.

    Raises ``Invalid``: ``limit`` for more than ``BODY_BYTES_MAX`` bytes or ``VALUES_MAX`` values,
    ``parse`` for what else ``jsontext.load`` refuses.
    """
    try:
        value: object = jsontext.load(raw, _REQUEST)
    except jsontext.TooLarge as error:
        raise Invalid("limit", str(error)) from None
    except ValueError as error:
        raise Invalid("parse", str(error)) from None
    return value
