"""State on disk as a dict: the Reader of the tests."""

from bisect import bisect_left
from collections.abc import Iterator

from dipnet.codec import Puts


class Memory(dict[bytes, bytes]):
    """A ``Reader`` that keeps everything in memory; ``apply`` writes."""

    def scan(
        self, prefix: bytes, start: bytes = b"", reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """As ``dipnet.codec.Reader.scan``; the keys are those of the first step."""
        keys = sorted(key for key in self if key.startswith(prefix))
        at = bisect_left(keys, start)
        if not reverse:
            chosen = keys[at:]
        elif start:
            chosen = keys[:at][::-1]
        else:
            chosen = keys[::-1]
        for key in chosen:
            yield key, self[key]

    def apply(self, puts: Puts) -> None:
        """Write ``puts``; a value of None deletes, whether the key is there or not."""
        for key, value in puts.items():
            if value is None:
                self.pop(key, None)
            else:
                self[key] = value
