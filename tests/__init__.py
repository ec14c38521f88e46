"""The tests; a package so that they can share fixtures and the simulator."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
"""The checkout."""
