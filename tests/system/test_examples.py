"""The examples, and the README's five lines, run against a living daemon."""

import asyncio
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


async def _lines(daemon_at, command: list[str], n: int) -> list[list[str]]:
    async with daemon_at() as daemon:
        eeg_port = str(daemon.ports.streams["eeg"].port)
        process = await asyncio.create_subprocess_exec(
            *(part.replace("PORT", eeg_port) for part in command), stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        lines: list[list[str]] = []
        while len(lines) < n:
            words = (await process.stdout.readline()).decode().split()
            if words and words[0].isdigit():  # NumPy breaks long arrays over lines
                lines.append(words)
        if process.returncode is None:
            process.kill()
        await process.wait()
        return lines


def _check(lines: list[list[str]]) -> None:
    assert len(lines) == 5
    for before, after in itertools.pairwise(lines):
        assert int(after[0]) == int(before[0]) + 1
        assert int(after[1]) == int(before[1]) + 7_812_500


def test_the_c_example_reads_frames(run, daemon_at, tmp_path):
    program = tmp_path / "eeg"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-o", program, ROOT / "examples" / "eeg.c"], check=True)
    lines = run(_lines(daemon_at, [str(program), "5", "PORT"], 5))
    _check(lines)
    assert all(len(line) == 2 + 8 for line in lines)


def test_the_readme_s_decoder_runs(run, daemon_at):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert block is not None
    program = block[1].replace('connect("eeg")', 'connect("eeg", port=PORT)')
    assert program != block[1]
    lines = run(_lines(daemon_at, [sys.executable, "-u", "-c", program], 5))
    _check(lines)


def test_the_example_is_the_readme_s_program():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    example = (ROOT / "examples" / "decoder.py").read_text(encoding="utf-8")
    for line in example.partition('"""\n\n')[2].splitlines():
        assert line.strip() in text
