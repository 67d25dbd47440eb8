"""Cells and propagators: partial information that only grows within an epoch.

A cell holds what is known of one quantity: nothing, a value, or a contradiction. Information is
merged in a lattice: nothing is the identity, equal values are one value, different ones contradict,
and a contradiction absorbs. A new epoch (a new reading) overwrites. Propagators compute cells from
cells, and hear of changes only. (Radul and Sussman, "The art of the propagator", 2009.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Nothing:
    """Absence, and why. All absences are the same information, whatever their reason."""

    reason: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, eq=False)
class Value(Generic[T]):
    value: T

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and same(self.value, other.value)

    def __hash__(self) -> int:
        return hash(Value)


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two things that can't both be so. All contradictions are the same information: the top."""

    a: Any = field(default=None, compare=False)
    b: Any = field(default=None, compare=False)


Content = Nothing | Value[Any] | Contradiction
NOTHING = Nothing()
#: Of a function that raised.
FAILED = Nothing("failed")


def same(a: Any, b: Any) -> bool:
    """Equal as values: arrays element by element, NaN like itself."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return bool(np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True))
    return bool(a == b) or (a != a and b != b)


def merge(a: Content, b: Content) -> Content:
    """The least content that has both: idempotent, commutative, associative, monotone."""
    if isinstance(a, Contradiction):
        return a
    if isinstance(b, Contradiction):
        return b
    if isinstance(a, Nothing):
        return b
    if isinstance(b, Nothing):
        return a
    return a if a == b else Contradiction(a.value, b.value)


@dataclass(slots=True, eq=False)
class Cell(Generic[T]):
    """One quantity. ``epoch``: of its content."""

    name: str
    content: Content = NOTHING
    epoch: int = -1


Function = Callable[..., Mapping[str, Content] | Content]
#: What is told of a cell's value to what may be known of it.
Check = Callable[[Any], Content]


@dataclass(frozen=True, slots=True, eq=False)
class Propagator:
    """``function`` takes the contents' values of ``inputs`` in order and gives the content of
    the output (or of each of several, by name). It is called when all inputs are of the same epoch,
    and not while one is nothing, or contradicts: then the outputs are so, too. A function that
    raises, or gives what is no content, knows nothing: so its outputs are nothing."""

    name: str
    inputs: tuple[Cell[Any], ...]
    outputs: tuple[Cell[Any], ...]
    function: Function


class Network:
    """Cells, and the propagators between them.

    ``tell`` merges or, in a newer epoch, overwrites; ``run`` calls the propagators that have heard
    of a change until nothing changes any more. The order does not matter to what comes out.
    """

    def __init__(self) -> None:
        self._cells: dict[str, Cell[Any]] = {}
        self._hearing: dict[str, list[Propagator]] = {}
        self._watching: dict[str, list[Callable[[Cell[Any]], None]]] = {}
        self._checks: dict[str, Check] = {}
        self._due: deque[Propagator] = deque()
        #: Propagators that an input's contradiction keeps from running, by name.
        self.halted: set[str] = set()
        #: What the functions and watchers raised when they were last called, by name.
        self.failed: dict[str, str] = {}

    @property
    def cells(self) -> Mapping[str, Cell[Any]]:
        return self._cells

    def cell(self, name: str) -> Cell[Any]:
        """The cell of this name; a new one where there is none."""
        return self._cells.setdefault(name, Cell(name))

    def add(
        self, name: str, inputs: Sequence[str], outputs: Sequence[str], function: Function
    ) -> Propagator:
        """A propagator of one's own: see ``Propagator``. It runs at once where it can."""
        made = Propagator(
            name,
            tuple(self.cell(each) for each in inputs),
            tuple(self.cell(each) for each in outputs),
            function,
        )
        for cell in made.inputs:
            self._hearing.setdefault(cell.name, []).append(made)
        self._due.append(made)
        return made

    def watch(self, name: str, call: Callable[[Cell[Any]], None]) -> None:
        """``call`` hears of each change of a cell, and of nothing else."""
        self._watching.setdefault(self.cell(name).name, []).append(call)

    def constrain(self, name: str, check: Check) -> None:
        """Each value that anybody tells of this cell passes ``check`` first."""
        self._checks[self.cell(name).name] = check

    def tell(self, name: str, content: Content, epoch: int) -> bool:
        """Whether the cell has changed. What is older than its epoch is no news."""
        cell = self.cell(name)
        if epoch < cell.epoch:
            return False
        check = self._checks.get(name)
        if check is not None and isinstance(content, Value):
            content = check(content.value)
        new = content if epoch > cell.epoch else merge(cell.content, content)
        changed = new != cell.content
        is_newer = epoch > cell.epoch
        cell.epoch, cell.content = epoch, new
        if changed:
            for call in self._watching.get(name, ()):
                self._guarded(f"watch {name}", call, cell)
        if changed or is_newer:
            self._due.extend(p for p in self._hearing.get(name, ()) if p not in self._due)
        return changed

    def run(self) -> None:
        while self._due:
            self._fire(self._due.popleft())

    def _fire(self, propagator: Propagator) -> None:
        epoch = max((cell.epoch for cell in propagator.inputs), default=0)
        if any(cell.epoch < epoch for cell in propagator.inputs):
            return  # it is called again when the others have come to this epoch
        contents = [cell.content for cell in propagator.inputs]
        contradiction = next((c for c in contents if isinstance(c, Contradiction)), None)
        if contradiction is not None:
            self.halted.add(propagator.name)
            self._tell_all(propagator.outputs, contradiction, epoch)
            return
        self.halted.discard(propagator.name)
        absent = next((c for c in contents if isinstance(c, Nothing)), None)
        if absent is not None:
            self._tell_all(propagator.outputs, absent, epoch)
            return
        values = [c.value for c in contents if isinstance(c, Value)]
        result = self._guarded(propagator.name, propagator.function, *values)
        for cell in propagator.outputs:
            content = result.get(cell.name, NOTHING) if isinstance(result, Mapping) else result
            if not isinstance(content, Nothing | Value | Contradiction):
                self.failed[propagator.name] = f"it gave {type(content).__name__}, no content"
                content = FAILED
            self.tell(cell.name, content, epoch)

    def _guarded(self, name: str, call: Callable[..., Any], *values: Any) -> Any:
        """What others wrote must not stop those who hear of the same change."""
        try:
            result = call(*values)
        except Exception as error:
            self.failed[name] = f"{type(error).__name__}: {error}"
            return FAILED
        self.failed.pop(name, None)
        return result

    def _tell_all(self, cells: Iterable[Cell[Any]], content: Content, epoch: int) -> None:
        for cell in cells:
            self.tell(cell.name, content, epoch)
