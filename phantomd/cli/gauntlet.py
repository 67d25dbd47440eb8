"""``gauntlet``: judge a decoder, compare several, check one against the specification's list."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phantomd.cli import output
from phantomd.cli.invocation import Invocation, command, group
from phantomd.errors import PhantomError, UsageError

if TYPE_CHECKING:
    from phantomd.cli.course import Course
    from phantomd.gauntlet.play import Play
    from phantomd.gauntlet.result import Result

EXTERNAL = "EXTERNAL"

DecoderOption = Annotated[
    str, typer.Option("--decoder", help=f"A reference decoder, or {EXTERNAL}: yours attaches.")
]
DatasetOption = Annotated[
    str, typer.Option("--dataset", help="A name of `dataset list`, or a folder.")
]
ModelOption = Annotated[
    Path | None,
    typer.Option("--model", help="Fitted decoder: read if it is there, else fitted and kept."),
]


def add(app: typer.Typer) -> None:
    commands = group(app, "gauntlet", "A hostile cortex that any decoder can be judged by.")
    command(commands, "run")(_run)
    command(commands, "compare")(_compare)
    command(commands, "validate")(_validate)
    command(commands, "decode")(_decode)


def _run(
    invocation: Invocation,
    decoder: DecoderOption = EXTERNAL,
    seconds: Annotated[
        float, typer.Option("--seconds", help="Of each level; at most what is unseen.")
    ] = 30.0,
    levels: Annotated[
        str, typer.Option("--levels", help="Names with commas between, or all.")
    ] = "all",
    dataset: DatasetOption = "synthetic",
    seed: Annotated[int, typer.Option("--seed", help="Of the stress.")] = 40,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for result.json and report.html.")
    ] = None,
    model: ModelOption = None,
    wait: Annotated[
        float, typer.Option("--wait", help="Seconds in which a decoder has to come.")
    ] = 600.0,
) -> None:
    """Play a fixed course against a decoder; a table, a JSON result and an HTML report."""
    from phantomd.cli import course as driver

    course = _course(seconds, levels, dataset, seed)
    folder = out or Path(f"gauntlet-{decoder.lower()}")
    _must_be_writable(folder)
    with ExitStack() as stack:
        control = stack.enter_context(invocation.control())
        daemon = control.call("hello", client="gauntlet")["daemon"]
        code = stack.enter_context(driver.session_of(control, course))
        process = None
        if decoder == EXTERNAL:
            _say_attach(invocation, code)
        else:
            process = stack.enter_context(
                driver.own_decoder(invocation, decoder, course, code, model)
            )
        screen = _Progress(stack, invocation, course, decoder)
        driver.wait_for_decoder(control, code, wait, process)
        plays = driver.play(control, code, course, screen.told)
    _finish(invocation, course, decoder, daemon, plays, folder)


def _course(seconds: float, levels: str, dataset: str, seed: int) -> Course:
    from phantomd.cli.course import Course
    from phantomd.cli.decoding import dataset_named
    from phantomd.gauntlet.player import split_bin
    from phantomd.gauntlet.score import LEVELS

    wanted = LEVELS if levels == "all" else tuple(levels.replace(" ", "").split(","))
    unknown = [level for level in wanted if level not in LEVELS]
    if unknown or not seconds > 0:
        raise UsageError(
            f"no level {unknown[0]!r}" if unknown else f"{seconds} seconds",
            hint=f"levels: {', '.join(LEVELS)}; seconds: more than 0",
        )
    data = dataset_named(dataset)
    first = split_bin(data)
    n_bins = min(max(round(seconds / data.bin_s), 1), data.n_bins - first)
    ordered = tuple(level for level in LEVELS if level in wanted)
    return Course(dataset, seed, first, n_bins, data.bin_s, ordered)


def _must_be_writable(folder: Path) -> None:
    """Before minutes are spent on what can't be kept."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{folder} can't be made: {error.strerror}", hint="name another with --out"
        ) from error


def _say_attach(invocation: Invocation, code: str) -> None:
    host, port, _ = invocation.place("spikes")
    if invocation.as_json:
        output.as_json({"attach": code, "host": host, "port": port})
    else:
        print(f'{code}: waiting for a decoder. It sends {{"attach": "{code}"}} on {host}:{port}')


class _Progress:
    """A bar on a terminal; nothing where the answer is JSON."""

    def __init__(
        self, stack: ExitStack, invocation: Invocation, course: Course, decoder: str
    ) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._levels = course.levels
        self._n_bins = course.n_bins
        self._bar = stack.enter_context(
            Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[told]}"),
                TimeRemainingColumn(),
                console=output.console(),
                disable=invocation.as_json,
                transient=True,
            )
        )
        self._task = self._bar.add_task(
            f"{decoder} gets ready", total=len(course.levels) * course.n_bins, told=""
        )

    def told(self, level: str, done: int, info: dict[str, Any]) -> None:
        p99_ms = info["loop_ms"]["p99_ms"]
        self._bar.update(
            self._task,
            description=f"{level:<8}",
            completed=self._levels.index(level) * self._n_bins + done,
            told="" if p99_ms is None else f"loop p99 {p99_ms:.1f} ms",
        )


def _finish(
    invocation: Invocation,
    course: Course,
    decoder: str,
    daemon: str,
    plays: dict[str, Play],
    folder: Path,
) -> None:
    from phantomd.gauntlet.report import report
    from phantomd.gauntlet.result import FORMAT, Result, of_plays

    scored, area = of_plays(plays)
    result = Result(
        FORMAT,
        decoder,
        course.dataset,
        course.seed,
        course.first_bin,
        course.n_bins * course.bin_s,
        scored,
        area,
        daemon,
        round(time.time(), 3),
    )
    result.save(folder / "result.json")
    try:
        (folder / "report.html").write_text(report(result, plays), encoding="utf-8")
    except OSError as error:
        raise PhantomError(
            f"{folder}/report.html can't be written: {error.strerror}", hint="--out"
        ) from error
    if invocation.as_json:
        output.as_json(result)
        return
    _show(result)
    print(f"{folder / 'result.json'}, {folder / 'report.html'}")


def _show(result: Result) -> None:
    rows = []
    for level, one in result.levels.items():
        s = one.score
        rows.append(
            (
                level,
                _number(s.score),
                _number(s.velocity_r2),
                _number(s.position_accuracy),
                _number(s.trinity_area, 0),
                f"{s.hits}/{s.trials}",
                _number(s.time_to_target_s, 2),
                _number(s.path_efficiency, 2),
                _number(None if s.latency is None else s.latency.p50_ms, 2),
                _number(None if s.latency is None else s.latency.p99_ms, 2),
                _number(None if s.latency is None else s.latency.p999_ms, 2),
                s.desyncs,
                s.missed,
            )
        )
    output.table(
        output.console(),
        ("level", ">score", ">R² vel.", ">accuracy", f">area {s.unit}²", ">hits", ">s to target",
         ">path eff.", ">p50 ms", ">p99", ">p99.9", ">desyncs", ">missed"),
        rows,
        f"{result.decoder} on {result.dataset}, {result.seconds:g} s a level",
    )  # fmt: skip
    if result.robustness is not None:
        print(f"robustness {result.robustness:.3f} (area under the score over the levels)")


def _compare(
    invocation: Invocation,
    files: Annotated[list[Path], typer.Argument(help="Each run's result.json.")],
) -> None:
    """Rank several results of the same course."""
    from phantomd.gauntlet.result import ranked, read

    found = [(str(file), read(file)) for file in files]
    order = ranked(found)
    if invocation.as_json:
        output.as_json(
            [
                {"rank": i, "file": file, "decoder": one.decoder, "robustness": one.robustness,
                 "scores": {level: each.score.score for level, each in one.levels.items()}}
                for i, (file, one) in enumerate(order, 1)
            ]
        )  # fmt: skip
        return
    levels = list(order[0][1].levels)
    output.table(
        output.console(),
        (">", "decoder", ">robustness", *(f">{level}" for level in levels), ">loop p99 ms", "file"),
        [
            (
                i,
                one.decoder,
                _number(one.robustness),
                *(_number(_score_at(one, level)) for level in levels),
                _number(_worst_p99(one), 2),
                file,
            )
            for i, (file, one) in enumerate(order, 1)
        ],
    )


def _validate(
    invocation: Invocation,
    code: Annotated[
        str | None, typer.Option("--code", help="A session; else one is made to attach to.")
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", help="Of synchrony; the specification asks for 60.")
    ] = 60.0,
    wait: Annotated[
        float, typer.Option("--wait", help="Seconds in which a decoder has to come.")
    ] = 600.0,
) -> None:
    """Walk the specification's checklist with a session's decoder; status 1 if a line fails."""
    from phantomd.cli.validating import validate

    with ExitStack() as stack:
        control = stack.enter_context(invocation.control())
        if code is None:
            code = control.call("session.create", seed=40)["session_code"]
            stack.callback(control.call, "session.delete", code=code)
            _say_attach(invocation, code)
        lines = validate(control, code, seconds, wait)
    if invocation.as_json:
        output.as_json({"session_code": code, "passed": all(line.passed for line in lines),
                        "lines": lines})  # fmt: skip
    else:
        output.table(
            output.console(),
            ("", "the specification asks", "what was seen"),
            [
                (("pass", "green") if line.passed else ("fail", "red"), line.asks, line.seen)
                for line in lines
            ],
        )
    if not all(line.passed for line in lines):
        raise typer.Exit(1)


def _decode(
    invocation: Invocation,
    code: Annotated[str, typer.Argument(help="The session to answer.")],
    decoder: Annotated[str, typer.Option("--decoder", help="A reference decoder.")] = "kalman-pva",
    dataset: DatasetOption = "synthetic",
    model: ModelOption = None,
) -> None:
    """Answer a session with a reference decoder, until it ends."""
    from phantomd.cli.decoding import answer_session, prepared

    answered = answer_session(invocation, prepared(decoder, dataset, model), code)
    if invocation.as_json:
        output.as_json({"session_code": code, "answered": answered})
    else:
        print(f"{answered} packets answered")


def _score_at(result: Result, level: str) -> float | None:
    one = result.levels.get(level)
    return None if one is None else one.score.score


def _worst_p99(result: Result) -> float | None:
    known = [one.score.latency.p99_ms for one in result.levels.values() if one.score.latency]
    return max(known, default=None)


def _number(value: float | None, digits: int = 3) -> str:
    return output.NONE if value is None else f"{value:.{digits}f}"
