"""What a run of the gauntlet leaves: one JSON file, and how several are ranked."""

from __future__ import annotations

from pathlib import Path

import msgspec

from phantomd.errors import BadResult
from phantomd.gauntlet.play import Play
from phantomd.gauntlet.score import LEVELS, Score, over_time, robustness, score

FORMAT = 1


class LevelResult(msgspec.Struct, frozen=True):
    """``over_time``: (middle of the window in s, score, trinity area)."""

    score: Score
    over_time: list[tuple[float, float | None, float | None]]


class Result(msgspec.Struct, frozen=True):
    """``seed`` and ``first_bin`` say which course it was: only equal courses compare."""

    format: int
    decoder: str
    dataset: str
    seed: int
    first_bin: int
    seconds: float
    levels: dict[str, LevelResult]
    robustness: float | None
    daemon: str
    unix_s: float

    @property
    def course(self) -> tuple[str, int, int, float]:
        return self.dataset, self.seed, self.first_bin, self.seconds

    @property
    def plain(self) -> float | None:
        """The score without stress."""
        calm = self.levels.get("none")
        return None if calm is None else calm.score.score

    def save(self, path: Path) -> None:
        """Raises BadResult."""
        try:
            path.write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")
        except OSError as error:
            raise BadResult(
                f"{path} can't be written: {error.strerror}", hint="name a place with --out"
            ) from error


def of_plays(plays: dict[str, Play]) -> tuple[dict[str, LevelResult], float | None]:
    """Levels in their order, and the area under their scores."""
    levels = {
        level: LevelResult(score(plays[level]), over_time(plays[level]))
        for level in LEVELS
        if level in plays
    }
    return levels, robustness({level: one.score.score for level, one in levels.items()})


def read(path: Path) -> Result:
    """Raises BadResult."""
    try:
        result = msgspec.json.decode(path.read_bytes(), type=Result)
    except (OSError, msgspec.MsgspecError) as error:
        raise BadResult(
            f"{path} is no result: {error}", hint="`phantomctl gauntlet run` writes result.json"
        ) from error
    if result.format != FORMAT:
        raise BadResult(
            f"{path} has format {result.format}, this version reads {FORMAT}", hint="run it again"
        )
    return result


def ranked(results: list[tuple[str, Result]]) -> list[tuple[str, Result]]:
    """Best first: by robustness where all have one, else by the score without stress. Raises
    BadResult when they did not run the same course."""
    courses = {result.course for _, result in results}
    if len(courses) > 1:
        told = "; ".join(f"{d} seed {s} from bin {b}, {t:g} s" for d, s, b, t in sorted(courses))
        raise BadResult(f"different courses: {told}", hint="run all with the same options")
    by_area = all(result.robustness is not None for _, result in results)

    def rank(item: tuple[str, Result]) -> tuple[float, float]:
        _, result = item
        worth = result.robustness if by_area else result.plain
        plain = result.plain
        return (-1.0 if worth is None else worth, -1.0 if plain is None else plain)

    return sorted(results, key=rank, reverse=True)
