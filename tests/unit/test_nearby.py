"""What happens on the way to a device's node wakes who waits; what happens beside it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from served import WAIT_S

from phantomd.devices.nearby import Nearby, leads


def watched(path: Path, do: Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]) -> None:
    """``do(stirred)``: whether something was told since the last call. A file of our own in the
    same directory, watched, too, says when all before it has been told."""

    async def go() -> None:
        stir, mark = asyncio.Event(), asyncio.Event()
        fence = path.parents[1] / "fence" if not path.parent.exists() else path.parent / "fence"
        with Nearby(str(path), stir) as near, Nearby(str(fence), mark):
            assert near.armed

            async def stirred() -> bool:
                mark.clear()
                fence.touch()
                fence.unlink()
                async with asyncio.timeout(WAIT_S):
                    await mark.wait()
                    for _ in range(3):  # both descriptors are ready by now, in any order
                        await asyncio.sleep(0)
                was = stir.is_set()
                stir.clear()
                return was

            await do(stirred)

    asyncio.run(go())


def test_a_node_that_comes_and_goes_is_told_and_its_neighbour_is_not(tmp_path: Path) -> None:
    node = tmp_path / "ttyUSB0"

    async def do(stirred: Callable[[], Awaitable[bool]]) -> None:
        (tmp_path / "ttyUSB1").touch()
        assert not await stirred()
        node.touch()
        assert await stirred()
        node.chmod(0o600)
        assert await stirred()
        node.unlink()
        assert await stirred()

    watched(node, do)


def test_a_directory_that_comes_first_is_followed(tmp_path: Path) -> None:
    """/dev/serial/by-id is there only while a port is."""
    node = tmp_path / "serial" / "by-id" / "usb-FTDI"

    async def do(stirred: Callable[[], Awaitable[bool]]) -> None:
        (tmp_path / "serial").mkdir()
        assert await stirred()
        (tmp_path / "serial" / "by-id").mkdir()
        assert await stirred()
        node.touch()
        assert await stirred()

    watched_from(tmp_path, node, do)


def watched_from(
    top: Path, path: Path, do: Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]
) -> None:
    async def go() -> None:
        stir = asyncio.Event()
        with Nearby(str(path), stir) as near:
            assert near.armed

            async def stirred() -> bool:
                async with asyncio.timeout(WAIT_S):
                    await stir.wait()
                stir.clear()
                return True

            await do(stirred)

    asyncio.run(go())


def test_a_links_target_is_watched_too(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "link").symlink_to("dev/tty")
    node = tmp_path / "link"

    async def do(stirred: Callable[[], Awaitable[bool]]) -> None:
        (tmp_path / "dev" / "tty").touch()
        assert await stirred()
        (tmp_path / "dev" / "tty").unlink()
        assert await stirred()

    watched_from(tmp_path, node, do)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert leads(str(tmp_path / "a"))[tmp_path] == {"a", "b"}
