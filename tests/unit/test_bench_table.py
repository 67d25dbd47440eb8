"""The writer of docs/benchmarks.md: what pytest-benchmark saves becomes one table with ratios."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from benches.cases import Case
from benches.table import (
    END,
    TableError,
    duration,
    page,
    page_table,
    quoted,
    read,
    readme_table,
    with_table,
)

BENCHES = Path(__file__).parents[2] / "benches"
A_TICK = Case("filter bank", "a tick", "filter bank, a tick")
LONG = Case("filter bank", "ten seconds")


class Fixture:
    """What a case needs of pytest-benchmark's fixture."""

    def __init__(self) -> None:
        self.group, self.extra_info = "", dict[str, Any]()


def measured(
    case: Case, who: str | None, how: str, fastest: float, median: float
) -> dict[str, Any]:
    fixture = Fixture()
    if who is None:
        case.ours(fixture, how)
    else:
        case.peer(fixture, who, how)
    stats = {"min": fastest, "median": median}
    return {"fullname": "a::test", "extra_info": fixture.extra_info, "stats": stats}


def saved(*benchmarks: dict[str, Any]) -> dict[str, Any]:
    return {
        "benchmarks": list(benchmarks),
        "datetime": "2026-01-02T03:04:05.678+00:00",
        "machine_info": {
            "python_version": "3.11.2",
            "machine": "x86_64",
            "cpu": {"brand_raw": "A Processor", "count": 2, "flags": ["sse2", "avx2"]},
        },
        "libraries": {"numpy": "2.0"},
        "load": [0.5, 1.25],
    }


SOME = saved(
    measured(A_TICK, "SciPy", "`sosfilt`", 90e-6, 100e-6),
    measured(A_TICK, None, "bound", 0.24e-6, 0.25e-6),
    measured(A_TICK, None, "into a new array", 0.9e-6, 1e-6),
    measured(A_TICK, "SciPy", "another way", 40e-6, 50e-6),
    measured(LONG, None, "at once", 1e-3, 2e-3),
    measured(LONG, "ezmsg", "a band", 2e-3, 3e-3),
)


def test_ratios_are_of_medians_to_the_first_of_ours() -> None:
    lines = page_table(read(SOME)).splitlines()[2:]
    assert lines[0] == "| filter bank | a tick | **phantomd** | bound | 240 ns | 250 ns | 1 |"
    assert lines[1] == "|   |   | **phantomd** | into a new array | 900 ns | 1.00 µs | 4.0 |"
    assert lines[2] == "|   |   | SciPy | `sosfilt` | 90.0 µs | 100 µs | 400 |"
    assert lines[5] == "|   |   | ezmsg | a band | 2.00 ms | 3.00 ms | 1.5 |"
    assert len(lines) == 6


def test_the_readme_has_named_cases_with_each_peers_best_way() -> None:
    lines = readme_table(read(SOME)).splitlines()[2:]
    assert lines == ["| filter bank, a tick | 250 ns | SciPy 200 |"]


def test_the_page_says_where_and_when_it_was_measured() -> None:
    text = page(read(SOME))
    assert "A Processor, 2 cores, avx2, Python 3.11.2, numpy 2.0, 2026-01-02 03:04 UTC" in text
    assert "load average 0.5 before and 1.2 after" in text


def test_a_benchmark_that_says_nothing_is_refused() -> None:
    silent = {"fullname": "b::test_silent", "extra_info": {}, "stats": {"min": 1, "median": 1}}
    with pytest.raises(TableError, match=r"b::test_silent.*benches/cases\.py"):
        read(saved(silent))


def test_peers_without_ours_and_nothing_at_all_are_refused() -> None:
    with pytest.raises(TableError, match="ten seconds has peers, and nothing of ours"):
        read(saved(measured(LONG, "SciPy", "", 1, 1)))
    with pytest.raises(TableError, match="nothing was measured"):
        read(saved())


@pytest.mark.parametrize("path", sorted(BENCHES.glob("bench_*.py")), ids=lambda p: p.stem)
def test_every_benchmark_says_what_it_measures(path: Path) -> None:
    """Seen before `make bench` has run for minutes."""
    silent = []
    for node in ast.parse(path.read_text()).body:
        if not (isinstance(node, ast.FunctionDef) and node.name.startswith("test_")):
            continue
        calls = (inner for inner in ast.walk(node) if isinstance(inner, ast.Attribute))
        if not any(call.attr in ("ours", "peer") for call in calls):
            silent.append(node.name)
    assert silent == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1.5, "1.50 s"),
        (0.9999, "1.00 s"),
        (0.02, "20.0 ms"),
        (9.999e-6, "10.0 µs"),
        (5e-8, "50.0 ns"),
    ],
)
def test_durations_have_three_digits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


BEGIN = "<!-- benchmarks: make bench -->"


def test_only_what_is_between_the_markers_changes() -> None:
    before = f"# Title\n{BEGIN}\nold\n{END}\nrest {{x}}\n"
    after = f"# Title\n{BEGIN}\n| new |\n{END}\nrest {{x}}\n"
    assert with_table(before, "make bench", "| new |") == after
    for broken in ("no markers", f"{END}\n{BEGIN}", f"{BEGIN}{BEGIN}{END}"):
        with pytest.raises(TableError, match="make bench"):
            with_table(broken, "make bench", "| new |")


def test_a_page_quotes_the_rows_of_its_kernel() -> None:
    text = f"x\n<!-- benchmarks: filter bank -->\n{END}\ny\n"
    lines = quoted(text, read(SOME)).splitlines()
    assert lines[4] == "| a tick | **phantomd** | bound | 240 ns | 250 ns | 1 |"
    assert len(lines) == 1 + 1 + 2 + 6 + 1 + 1
    assert quoted("nothing quoted", read(SOME)) == "nothing quoted"
    with pytest.raises(TableError, match="'CCA'"):
        quoted(f"<!-- benchmarks: CCA -->{END}", read(SOME))
