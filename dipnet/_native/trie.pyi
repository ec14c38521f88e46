from collections.abc import Callable, Iterable

def update(
    get: Callable[[bytes], bytes | None],
    prefix: bytes,
    items: Iterable[tuple[bytes, bytes]],
    before: bytes | None = None,
) -> tuple[bytes, dict[bytes, bytes | None]]: ...
def root(items: Iterable[tuple[bytes, bytes]]) -> bytes: ...
def record_path(nibbles: bytes) -> bytes: ...
