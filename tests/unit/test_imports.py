"""Imports point up DESIGN.md's list of rooms, never down."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "phantomd"
#: From the top of the list down. A room may import itself and what stands before it.
ROOMS = (
    "errors",
    "contracts",
    "config",
    "core",
    "formats",
    "devices",
    "engine",
    "signal",
    "neurostate",
    "decoders",
    "protocols",
    "intents",
    "oracle",
    "gauntlet",
    "records",
    "net",
    "daemon",
    "cli",
)
#: Clients of the daemon: they know the wire, and nothing of the house.
CLIENTS = {
    "control": {"contracts", "errors"},
    "client": {"contracts", "errors", "control"},
    "lsl_outlets": {"contracts", "errors", "control", "client"},
    "console": {"contracts", "errors", "control", "client"},
}

SOURCES = sorted(
    path
    for path in PACKAGE.rglob("*")
    if path.suffix in (".py", ".pyx") and path.name != "__init__.py"
)


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imported(path: Path) -> set[str]:
    """Rooms of this package that a file imports, wherever in it that stands."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".pyx":
        found = re.findall(r"^\s*(?:from|cimport|import)\s+(phantomd[\w.]*)", text, re.M)
        return {room_of(module) for module in found} - {""}
    rooms = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            rooms |= {room_of(alias.name) for alias in node.names if "phantomd" in alias.name}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            module = node.module or ""
            if module == "phantomd":
                rooms |= {alias.name for alias in node.names if not alias.name.startswith("__")}
            elif module.startswith("phantomd."):
                rooms.add(room_of(module))
    return rooms - {""}


def allowed(path: Path) -> set[str]:
    relative = path.relative_to(PACKAGE)
    room = relative.parts[0].removesuffix(".py")
    if room in CLIENTS:
        return {room, *CLIENTS[room]}
    above = set(ROOMS[: ROOMS.index(room) + 1])
    return above | CLIENTS.keys() if room == "cli" else above


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_up_the_list_of_rooms(path):
    down = imported(path) - allowed(path)
    assert not down, f"{path.relative_to(PACKAGE)} imports {sorted(down)}, which stand below it"


def test_every_file_has_a_room():
    known = {*ROOMS, *CLIENTS}
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in SOURCES}
    assert rooms <= known, f"{sorted(rooms - known)}: put them on the list in docs/design.md"
