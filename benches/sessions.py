"""Sessions of the gauntlet at 40 Hz × 142 channels, each with a subscriber that answers.

`python -m benches.sessions` steps through numbers of sessions: CPU of the daemon (user and system,
percent of one core), what packets are made late, and what the clients measure, who are another
process (benches/answering.c). Each session has another position and seed, a tenth are under stress.
`--runs N` measures each number so often, each time with a new daemon; `--plot FILE` draws them;
`--one` measures one client beside cyclictest; `--subscribers 200` puts that many on one session;
`--end N` stops so many daemons under full load by SIGTERM. `--pin` keeps all threads of the daemon
on one core, and the clients on another. `benches.sessions_day` is about memory.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benches.live import LiveDaemon, daemon, table
from benches.plotting import pyplot
from phantomd.contracts import PORTS
from phantomd.control import Control

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEPS = (1, 10, 50, 100, 200, 500, 1000, 1500, 2000)


@dataclass(frozen=True)
class Result:
    sessions: int
    load: float
    stolen_percent: float  # of a core, by the host of a virtual machine
    cpu_percent: float
    thread_percent: float
    rate_hz: tuple[float, float]
    p99_us: tuple[float, float]
    p999_us: float
    max_us: float
    late_p99_us: float
    late_max_us: float
    loop_p99_ms: float
    missed: int

    def row(self) -> tuple[object, ...]:
        return (
            self.sessions,
            f"{self.cpu_percent:.1f}",
            f"{self.thread_percent:.1f}",
            f"{self.rate_hz[0]:.3f}–{self.rate_hz[1]:.3f}",
            f"{self.p99_us[0] / 1e3:.2f} / {self.p99_us[1] / 1e3:.2f}",
            f"{self.max_us / 1e3:.1f}",
            f"{self.late_p99_us / 1e3:.2f}",
            f"{self.late_max_us / 1e3:.1f}",
            f"{self.loop_p99_ms:.2f}",
            self.missed,
            f"{self.load:.1f}",
            f"{self.stolen_percent:.1f}",
        )


HEAD = ("sessions", "CPU %", "of it the thread", "Hz, least–most", "p99 of |interval − 25 ms|: "
        "median / worst session, ms", "max ms", "made late p99 ms", "max ms", "loop p99 ms",
        "not answered", "load before", "stolen by the host, % of a core")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, nargs="*", default=list(STEPS))
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--subscribers", type=int, default=1)
    parser.add_argument("--pin", action="store_true", help="the daemon on core 0")
    parser.add_argument("--one", action="store_true")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--end", type=int, metavar="N")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    if options.end:
        ended_by_sigterm(options.end, options.sessions[-1], options.pin)
    elif options.one:
        beside_cyclictest(options.seconds, options.pin)
    else:
        results = []
        for n in options.sessions * options.runs:
            results.append(measure(n, options.seconds, options.subscribers, options.pin))
            print(*results[-1].row(), file=sys.stderr)
        results.sort(key=lambda result: result.sessions)
        print(table(HEAD, [result.row() for result in results]))
        if options.plot:
            draw(results, options.plot)


@contextmanager
def answering() -> Iterator[str]:
    """The clients' program, compiled."""
    with tempfile.TemporaryDirectory(prefix="phantomd-bench-") as directory:
        program = str(Path(directory) / "answering")
        source = str(Path(__file__).with_name("answering.c"))
        subprocess.run(
            [os.environ.get("CC", "cc"), "-O2", "-std=gnu11", source, "-o", program], check=True
        )
        yield program


@contextmanager
def with_sessions(n: int, subscribers: int, pin: bool) -> Iterator[LiveDaemon]:
    """A daemon that has them."""
    limit = n * subscribers + 64
    with daemon(
        *("--set", "devices=[]", "--set", f"streams.max_clients={min(4096, limit)}"),
        *("--set", f"gauntlet.max_sessions={n + 8}"),
    ) as live:
        if pin:
            subprocess.run(
                ["taskset", "-a", "-p", "1", str(live.process.pid)],
                check=True,
                stdout=subprocess.DEVNULL,
            )
        create(live, n)
        yield live


@contextmanager
def clients_of(
    live: LiveDaemon, program: str, n: int, seconds: float, subscribers: int, pin: bool
) -> Iterator[subprocess.Popen[str]]:
    """All of them, once they have begun to count."""
    command = [
        *(program, "127.0.0.1", str(live.base_port + PORTS["spikes"]), "s", "0", str(n)),
        *(str(seconds), str(2 + n * subscribers // 400), str(subscribers)),
    ]
    if pin and (os.cpu_count() or 1) > 1:
        command = ["taskset", "2", *command]
    if os.geteuid() == 0:  # what the machine does besides is not what is measured
        command = ["chrt", "-f", "10", *command]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as clients:
        assert clients.stdout is not None
        assert clients.stdout.readline() == "ready\n"
        yield clients


def measure(n: int, seconds: float, subscribers: int = 1, pin: bool = False) -> Result:
    load = os.getloadavg()[0]
    with (
        answering() as program,
        with_sessions(n, subscribers, pin) as live,
        clients_of(live, program, n, seconds, subscribers, pin) as clients,
    ):
        unanswered = not_answered(live)
        live.call("ledger", window="bench")
        stolen_s = stolen_cpu_s()
        cpu_s, threads, begun_s = live.cpu_s(), thread_cpu_s(live), time.monotonic()
        time.sleep(seconds - 1.0)
        took_s = time.monotonic() - begun_s
        cpu_s, stolen_s = live.cpu_s() - cpu_s, stolen_cpu_s() - stolen_s
        busiest_s = max(used - threads.get(name, 0.0) for name, used in thread_cpu_s(live).items())
        ledger = live.call("ledger", window="bench")
        unanswered = not_answered(live) - unanswered
        assert clients.stdout is not None
        lines = [line.split() for line in clients.stdout]
    # One that got nothing, where there are too many, has no rate.
    rates = [float(line[1]) / max(float(line[2]), seconds / 2) for line in lines]
    p99 = [float(line[4]) for line in lines]
    return Result(
        sessions=n,
        load=load,
        stolen_percent=100 * stolen_s / took_s,
        cpu_percent=100 * cpu_s / took_s,
        thread_percent=100 * busiest_s / took_s,
        rate_hz=(min(rates), max(rates)),
        p99_us=(median(p99), max(p99)),
        p999_us=max(float(line[5]) for line in lines),
        max_us=max(float(line[6]) for line in lines),
        late_p99_us=ledger["spikes"]["p99_us"],
        late_max_us=ledger["spikes"]["max_us"],
        loop_p99_ms=ledger["spikes.loop"]["p99_us"] / 1e3,
        missed=unanswered,
    )


def ended_by_sigterm(times: int, n: int, pin: bool) -> None:
    """How long a daemon takes to end while its sessions are answered."""
    took_s = []
    with answering() as program:
        for _ in range(times):
            with with_sessions(n, 1, pin) as live, clients_of(live, program, n, 60.0, 1, pin) as it:
                time.sleep(1.0)
                begun_s = time.monotonic()
                live.process.terminate()
                code = live.process.wait(30)
                took_s.append(time.monotonic() - begun_s)
                it.wait(30)  # its connections have ended
            print(f"{took_s[-1]:.3f} s, exit status {code}", file=sys.stderr)
    print(f"{times} times SIGTERM at {n} sessions: ended after {min(took_s):.2f}–"
          f"{max(took_s):.2f} s, median {median(took_s):.2f} s")  # fmt: skip


def not_answered(live: LiveDaemon) -> int:
    """Packets without an answer, and answers that came too late, in all sessions until now."""
    return sum(one["missed"] + one["invalid"] for one in live.call("session.list"))


def create(live: LiveDaemon, n: int) -> None:
    """Each at another position and seed, a tenth under stress."""
    levels = ("light", "moderate", "intense", "extreme")
    with Control(live.control_path) as control:
        for i in range(n):
            stress = {"level": levels[i // 10 % 4]} if i % 10 == 0 else {}
            control.call("session.create", code=f"s-{i}", seed=i, **stress)
            control.call("session.seek", code=f"s-{i}", packet=i * 5 % 11_000)
            time.sleep(0.004)  # 500 requests a second are allowed


def stolen_cpu_s() -> float:
    """Of all cores: time in which something ran here and the host ran something else."""
    return int(Path("/proc/stat").read_text().split()[8]) / os.sysconf("SC_CLK_TCK")


def thread_cpu_s(live: LiveDaemon) -> dict[str, float]:
    """CPU time of each thread."""
    ticks = os.sysconf("SC_CLK_TCK")
    used = {}
    for stat in Path(f"/proc/{live.process.pid}/task").glob("*/stat"):
        fields = stat.read_text().rpartition(")")[2].split()
        used[stat.parent.name] = (int(fields[11]) + int(fields[12])) / ticks
    return used


def beside_cyclictest(seconds: float, pin: bool) -> None:
    """One client and the machine's own wake-up latency in the same seconds."""
    cyclictest = shutil.which("cyclictest")
    if cyclictest is None:
        sys.exit("cyclictest is missing: install the package rt-tests")
    with subprocess.Popen(
        [cyclictest, "-q", "-t1", "-p80", "-i1000", f"-D{int(seconds)}s", "-h", "20000"],
        stdout=subprocess.PIPE,
        text=True,
    ) as peer:
        result = measure(1, seconds, pin=pin)
        assert peer.stdout is not None
        counts = [line.split() for line in peer.stdout if line[:1].isdigit()]
    total, seen, p999_us = sum(int(count) for _, count in counts), 0, 0
    for us, count in counts:
        seen += int(count)
        p999_us = int(us)
        if seen >= 0.999 * total:
            break
    print(table(HEAD, [result.row()]))
    print(f"one client: p99.9 of |interval − 25 ms| {result.p999_us / 1e3:.3f} ms; "
          f"cyclictest p99.9 {p999_us / 1e3:.3f} ms in the same seconds")  # fmt: skip


def draw(results: list[Result], path: Path) -> None:
    plt = pyplot()

    steps = sorted({result.sessions for result in results})
    figure, (cpu, error) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")

    def line(axes: Axes, of: Callable[[Result], float], style: str, label: str) -> None:
        """The median of each number's runs, and each run as a dot."""
        middle = [median(of(r) for r in results if r.sessions == n) for n in steps]
        (drawn,) = axes.plot(steps, middle, style, ms=4, label=label)
        axes.plot([r.sessions for r in results], [of(r) for r in results], ".",
                  ms=3, alpha=0.5, color=drawn.get_color())  # fmt: skip

    line(cpu, lambda r: r.cpu_percent, "o-", "daemon")
    line(cpu, lambda r: r.thread_percent, "s--", "sessions' thread")
    cpu.axvline(8, color="0.6", lw=1)
    cpu.text(40, 92, "8: the field's service\nis at 19.8 Hz", color="0.4", fontsize=8)
    cpu.set(xlabel="sessions at 40 Hz", ylabel="CPU, % of a core", ylim=(0, 105))
    cpu.legend(frameon=False, loc="lower right")
    line(error, lambda r: r.p99_us[1] / 1e3, "o-", "worst session, at the client")
    line(error, lambda r: r.p99_us[0] / 1e3, "s--", "median session, at the client")
    line(error, lambda r: r.late_p99_us / 1e3, "^:", "made late, in the daemon")
    error.axhline(3.0, color="tab:red", lw=1)
    error.set(xlabel="sessions at 40 Hz", ylabel="p99 of |interval − 25 ms|, ms", yscale="log")
    error.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
