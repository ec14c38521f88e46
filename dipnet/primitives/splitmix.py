"""splitmix64 (Steele, Lea, Flood 2014): numbers that look random and that a seed determines."""

from typing import Final

_MASK: Final = 2**64 - 1


def splitmix64(state: int) -> tuple[int, int]:
    """The state (u64) after ``state``, and the number (u64) drawn with it."""
    state = (state + 0x9E3779B97F4A7C15) & _MASK
    mixed = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & _MASK
    return state, mixed ^ mixed >> 31
