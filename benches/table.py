"""All kernels beside their peers, in one run and one table: docs/benchmarks.md and what quotes it.

python -m benches.table                     runs all bench_*.py, then writes
python -m benches.table --json FILE         writes from what was measured before

A page of docs/ has a kernel's rows between <!-- benchmarks: KERNEL --> and <!-- /benchmarks -->;
the README has a few of all between <!-- benchmarks: make bench --> and the same end.

Ratios are of medians, to the first of ours in the same case and run: how many times as long.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benches.cases import OURS

SAVED = Path("build/benchmarks.json")
PAGE = Path("docs/benchmarks.md")
README = Path("README.md")
BEGIN, END = "<!-- benchmarks: {} -->", "<!-- /benchmarks -->"
IN_README = "make bench"
INSTRUCTION_SETS = ("avx512f", "avx2", "sse2", "asimd")
LIBRARIES = (
    *("numpy", "scipy", "scikit-learn", "brainflow", "ezmsg-sigproc", "mne", "mne-connectivity"),
    "pyriemann",
)


class TableError(ValueError):
    """What was measured can't become a table; the message says which benchmark and what to do."""


@dataclass(frozen=True, slots=True)
class Row:
    """One benchmark; seconds."""

    kernel: str
    case: str
    who: str
    how: str
    readme: str
    fastest: float
    median: float


@dataclass(frozen=True, slots=True)
class Run:
    """What was measured together: one process, one machine."""

    rows: tuple[Row, ...]
    machine: str

    def cases(self) -> list[list[Row]]:
        """Rows of a case, ours first, in the order of the run."""
        cases: dict[tuple[str, str], list[Row]] = {}
        for row in self.rows:
            cases.setdefault((row.kernel, row.case), []).append(row)
        return [sorted(rows, key=lambda row: row.who != OURS) for rows in cases.values()]


def machine_of(saved: dict[str, Any]) -> str:
    info, cpu = saved["machine_info"], saved["machine_info"]["cpu"]
    sets = [name for name in INSTRUCTION_SETS if name in cpu.get("flags", [])]
    told = [
        f"{cpu.get('brand_raw') or info['machine']}, {cpu.get('count', '?')} cores",
        *sets[:1],
        f"Python {info['python_version']}",
        *(f"{name} {version}" for name, version in saved.get("libraries", {}).items()),
        saved["datetime"][:16].replace("T", " ") + " UTC",
    ]
    if "load" in saved:
        told.append("load average {:.1f} before and {:.1f} after".format(*saved["load"]))
    return ", ".join(told)


def read(saved: dict[str, Any]) -> Run:
    """From pytest-benchmark's JSON. Refuses what ``benches.cases`` was not told about."""
    rows = []
    for benchmark in saved["benchmarks"]:
        told, stats = benchmark["extra_info"], benchmark["stats"]
        if "who" not in told:
            raise TableError(
                f"{benchmark['fullname']} doesn't say what it measures: "
                "begin it with Case(...).ours(benchmark, ...) or .peer(...) of benches/cases.py"
            )
        rows.append(
            Row(
                kernel=told["kernel"],
                case=told["case"],
                who=told["who"],
                how=told["how"],
                readme=told["readme"],
                fastest=stats["min"],
                median=stats["median"],
            )
        )
    if not rows:
        raise TableError("nothing was measured: pytest-benchmark saved no benchmark")
    run = Run(tuple(rows), machine_of(saved))
    for case in run.cases():
        if case[0].who != OURS:
            raise TableError(f"{case[0].kernel}: {case[0].case} has peers, and nothing of ours")
    return run


def duration(seconds: float) -> str:
    """Three digits with the unit that they read best in."""
    units = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))
    unit, size = next((u for u in units if seconds >= 0.9995 * u[1]), ("ns", 1e-9))
    value = seconds / size
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} {unit}"


def ratio(row: Row, ours: Row) -> str:
    value = row.median / ours.median
    return f"{value:.2f}" if value < 0.995 else f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def page_table(run: Run) -> str:
    lines = [
        "| kernel | case | who | how called | fastest | median | ratio |",
        "|---|---|---|---|---:|---:|---:|",
    ]
    for rows in run.cases():
        for i, row in enumerate(rows):
            kernel = row.kernel if i == 0 else " "
            lines.append(f"| {kernel} {cells(rows, i)}")
    return "\n".join(lines)


def kernel_table(run: Run, kernel: str) -> str:
    cases = [rows for rows in run.cases() if rows[0].kernel == kernel]
    if not cases:
        raise TableError(f"nothing was measured of {kernel!r}, which a page of docs/ quotes")
    lines = [
        "| case | who | how called | fastest | median | ratio |",
        "|---|---|---|---:|---:|---:|",
    ]
    lines += [cells(rows, i) for rows in cases for i in range(len(rows))]
    return "\n".join(lines)


def cells(rows: Sequence[Row], i: int) -> str:
    """Of the i-th row of a case, from its name on, which is there once."""
    row, case = rows[i], rows[i].case if i == 0 else " "
    who = f"**{row.who}**" if row.who == OURS else row.who
    share = "1" if i == 0 else ratio(row, rows[0])
    times = f"{duration(row.fastest)} | {duration(row.median)}"
    return f"| {case} | {who} | {row.how} | {times} | {share} |"


def readme_table(run: Run) -> str:
    lines = ["| kernel | ours, median | times as long |", "|---|---:|---|"]
    for ours, *others in run.cases():
        if not ours.readme:
            continue
        peers: dict[str, Row] = {}
        for row in others:
            if row.who == OURS:
                continue
            if row.who not in peers or row.median < peers[row.who].median:
                peers[row.who] = row
        told = ", ".join(f"{row.who} {ratio(row, ours)}" for row in peers.values())
        lines.append(f"| {ours.readme} | {duration(ours.median)} | {told or '–'} |")
    return "\n".join(lines)


HEAD = """# Benchmarks: the kernels beside their peers

    make bench              # measures all, and writes this page and the README's table

One run, one after the other: {machine}.
Times are of the processor, in the measuring thread, so that other programs' turns don't count; BLAS
had one thread, as in the daemon.

**Ratio**: the median over that of the first of ours in the case: how many times as long it takes.
Peers get the same data, with what they allow to be prepared (windows, reference waves, filter
states) ready, and their output is checked against ours or a common reference where the definitions
agree. "How called" says what differs. How exact the kernels are is on their own pages. On a machine
with other work the medians move, the ratios less; "fastest" is what the work takes undisturbed.

How the costs grow with channels, bands, targets and windows, beside the physical limits:
[costs.md](costs.md).

"""

TAIL = """

## What can go wrong
- **A peer is missing**: it isn't installed, and `make bench` says "a peer less".
  `pip install -e .[bench]` brings all of them.
- **A ratio is far from the one here**: another instruction set (`csrc/pd_simd.h` chooses), or a
  machine at work: compare "fastest", and run it again.
- **A new benchmark is refused**: it has to say what it measures (`benches/cases.py`).
"""


def page(run: Run) -> str:
    return HEAD.format(machine=run.machine) + page_table(run) + TAIL


def between(text: str, begin: str, end: str, new: str) -> str:
    """A page with ``new`` between its two markers."""
    head, found, rest = text.partition(begin)
    _, ended, tail = rest.partition(end)
    if not found or not ended or begin in rest:
        raise TableError(f"the page needs one line {begin} and after it a line {end}")
    return f"{head}{begin}\n{new}\n{end}{tail}"


def with_table(text: str, name: str, table: str) -> str:
    return between(text, BEGIN.format(name), END, table)


def quoted(text: str, run: Run) -> str:
    """A page of docs/ with the rows of each kernel that it quotes."""
    for name in re.findall(BEGIN.format("(.+?)"), text):
        text = with_table(text, name, kernel_table(run, name))
    return text


def measure(target: Path) -> dict[str, Any]:
    """Runs all bench_*.py in one pytest. What pytest-benchmark saved, with load and versions."""
    target.parent.mkdir(parents=True, exist_ok=True)
    libraries: dict[str, str] = {}
    for name in LIBRARIES:
        try:
            libraries[name] = version(name)
        except PackageNotFoundError:
            print(f"{name} is not installed: a peer less", file=sys.stderr)
    options = ["-q", "--benchmark-only", "--benchmark-group-by=group", "--timeout=0"]
    columns = "--benchmark-columns=min,median,rounds"
    timer = ["--benchmark-timer=time.thread_time", "--benchmark-max-time=0.3"]  # others don't count
    timer += ["--benchmark-min-time=0.0002"]  # asking for that time takes half a microsecond
    files = [
        "-o",
        "python_files=bench_*.py",
        f"--benchmark-json={target}",
        columns,
        *timer,
        "benches",
    ]
    before = os.getloadavg()[0]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", *options, *files]
    subprocess.run(command, check=True, env=environment)
    saved: dict[str, Any] = json.loads(target.read_text())
    saved["load"], saved["libraries"] = [before, os.getloadavg()[0]], libraries
    target.write_text(json.dumps(saved))
    return saved


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="measured already")
    chosen = parser.parse_args(arguments)
    saved = json.loads(chosen.json.read_text()) if chosen.json else measure(SAVED)
    run = read(saved)
    PAGE.write_text(page(run))
    README.write_text(with_table(README.read_text(), IN_README, readme_table(run)))
    for path in sorted(PAGE.parent.glob("*.md")):
        text = path.read_text()
        if (new := quoted(text, run)) != text:
            path.write_text(new)
    print(readme_table(run))


if __name__ == "__main__":
    main()
