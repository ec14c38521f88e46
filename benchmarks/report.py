"""What a run prints: where it was made, a table, a bar a figure, and the whole as JSON."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import Figure, amount

BAR_CELLS: Final = 40
ROOT: Final = Path(__file__).resolve().parent.parent


def circumstances() -> dict[str, Any]:
    """Machine, commit, command, interpreter and date."""
    return {
        "machine": _processor(),
        "cores": os.cpu_count(),
        "load": [round(value, 2) for value in os.getloadavg()],
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": _git("describe", "--always", "--dirty", "--abbrev=12"),
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _git(*words: str) -> str:
    try:
        run = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return run.stdout.strip()


def table(figures: list[Figure]) -> str:
    """One line a figure."""
    lines = [("", "median", "unit", "limit", "ratio", "by CPU", "goal", "")]
    lines += [
        (
            one.row.name,
            amount(one.value),
            one.row.unit,
            "" if one.limit is None else amount(one.limit),
            "" if one.ratio is None else f"{one.ratio:.3f}",
            "" if one.cpu_ratio is None else f"{one.cpu_ratio:.3f}",
            one.row.goal,
            one.verdict,
        )
        for one in figures
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def bars(figures: list[Figure]) -> str:
    """Each ratio as a bar; the bar's frame is the limit."""
    lines = []
    for one in figures:
        if one.ratio is not None:
            filled = round(min(one.ratio, 1) * BAR_CELLS)
            bar = "█" * filled + "·" * (BAR_CELLS - filled)
            lines.append(f"{bar} {one.ratio:6.3f}  {one.row.name} / {one.row.limit_name}")
    return "\n".join(lines)


def markdown(figures: list[Figure]) -> str:
    """The table for RESULTS.md, every repetition's ratio or value in it."""
    lines = [
        "| figure | median | limit | ratio | by CPU | goal | repetitions (~~refused~~) |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in figures:
        each = []
        for repetition in one.repetitions:
            value = repetition.ratio if repetition.ratio is not None else repetition.run.value
            text = f"{value:.3f}" if repetition.ratio is not None else amount(value)
            each.append(f"~~{text}~~" if repetition.refused else text)
        cells = [
            one.row.name,
            ("" if one.valid else "INVALID ") + f"{amount(one.value)} {one.row.unit}",
            "" if one.limit is None else f"{amount(one.limit)} ({one.row.limit_name})",
            "" if one.ratio is None else f"{one.ratio:.3f}",
            "" if one.cpu_ratio is None else f"{one.cpu_ratio:.3f}",
            one.row.goal,
            " ".join(each),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
