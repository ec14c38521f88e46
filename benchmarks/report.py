"""The output of a run: circumstances, a table, a bar for each ratio, and benchmarks/RESULTS.md."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import FULL, LIMITS_APART, QUARTILES_APART, Figure, Sample, amount, percent

BAR_CELLS: Final = 40
LIBRARIES: Final = ("coincurve", "plyvel", "libp2p")
ROOT: Final = Path(__file__).resolve().parent.parent
RESULTS: Final = ROOT / "benchmarks" / "RESULTS.md"

INTRODUCTION: Final = f"""# Results

`make bench` measures all of this, `python -m benchmarks --write` measures it and writes this page.

Limit and subject alternate in short slices in one process and on the same threads (docs/design.md
"Measuring"). `payments` is the exception: its subject is a node in a process of its own, its limit
runs on two threads of the client's process. A pair is one slice of the subject with the slices of
the limit before and after it. A pair whose two limits differ by more than {percent(LIMITS_APART)}
is dropped and ~~struck out~~. A figure is the median over the pairs that stand, with its quartiles.
It is INVALID, and shown all the same, when fewer than {FULL.pairs} pairs stand or when its
quartiles are more than {percent(QUARTILES_APART)} of the median apart. Of every ratio more is
better, and 1 is the limit. "By CPU" is the CPU time of the limit over the CPU time of all threads
of the subject's process, for one operation. "Scaling" is two threads of the limit over one, "load"
that of the machine; both refuse nothing. A figure without a measured limit is the median of its
repetitions.
"""


def circumstances() -> dict[str, Any]:
    """Machine, commit, command, interpreter and date."""
    return {
        "machine": _processor(),
        "cores": os.cpu_count(),
        "load": [round(value, 2) for value in os.getloadavg()],
        "kernel": platform.release(),
        "python": platform.python_version(),
        "libraries": ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
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


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _quartiles(figure: Figure) -> str:
    return " .. ".join(map(_ratio, figure.quartiles or ()))


def _scaling(figure: Figure) -> str:
    return "" if figure.scaling is None else f"{figure.scaling:.2f}"


def table(figures: Sequence[Figure]) -> str:
    """One line for each figure."""
    lines = [
        (
            "",
            "median",
            "unit",
            "limit",
            "ratio",
            "quartiles",
            "by CPU",
            "scaling",
            "load",
            "goal",
            "",
        )
    ]
    lines += [
        (
            figure.row.name,
            amount(figure.value),
            figure.row.unit,
            "" if figure.limit is None else amount(figure.limit),
            _ratio(figure.ratio),
            _quartiles(figure),
            _ratio(figure.cpu_ratio),
            _scaling(figure),
            f"{figure.load:.1f}",
            figure.row.goal,
            figure.verdict,
        )
        for figure in figures
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def bars(figures: Sequence[Figure]) -> str:
    """Each ratio as a bar; the bar's frame is the limit."""
    lines = []
    for figure in figures:
        if figure.ratio is not None:
            filled = round(min(figure.ratio, 1) * BAR_CELLS)
            bar = "█" * filled + "·" * (BAR_CELLS - filled)
            lines.append(f"{bar} {figure.ratio:6.3f}  {figure.row.name} / {figure.row.limit_name}")
    return "\n".join(lines)


def markdown(figures: Sequence[Figure]) -> str:
    """A table of RESULTS.md, with the ratio or the value of every sample."""
    head = ("figure", "median", "limit", "ratio", "quartiles", "by CPU", "scaling", "load", "goal")
    lines = [(*head, "pairs (~~dropped~~)"), ("---",) * (len(head) + 1)]
    lines += [
        (
            figure.row.name,
            f"{amount(figure.value)} {figure.row.unit}",
            "" if figure.limit is None else f"{amount(figure.limit)} ({figure.row.limit_name})",
            _ratio(figure.ratio),
            _quartiles(figure),
            _ratio(figure.cpu_ratio),
            _scaling(figure),
            f"{figure.load:.1f}",
            figure.row.goal,
            " ".join(_struck(figure, sample) for sample in figure.samples),
        )
        for figure in figures
    ]
    told = ["| " + " | ".join(line) + " |" for line in lines]
    for figure in figures:
        if not figure.valid:
            told += ["", f"{figure.row.name}: {figure.verdict}."]
    return "\n".join(told)


def _struck(figure: Figure, sample: Sample) -> str:
    ratio = figure.ratio_of(sample)
    text = amount(sample.run.value) if ratio is None else _ratio(ratio)
    return f"~~{text}~~" if sample.dropped else text


def results(
    where: Mapping[str, Any], figures: Mapping[str, Sequence[Figure]], words: Mapping[str, str]
) -> str:
    """RESULTS.md: the circumstances, and each benchmark with its table after its ``words``."""
    rows = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in where.items())]
    parts = [INTRODUCTION, "\n".join(rows) + "\n"]
    for name, some in figures.items():
        text = words[name].replace("``", "`").strip()
        parts.append(f"## {name}\n\n{text}\n\n{markdown(some)}\n")
    return "\n".join(parts)
