"""Calls that may block, each in a thread of its own beside the event loop.

The loop's own executor is joined before the process can end: a serial port that answers nobody
would keep a stopped daemon for seconds. These threads are left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def beside(call: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
    """What the call will give. Cancelling the future does not stop the thread."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = call(*arguments)
        except BaseException as error:
            tell(_fail, error)
        else:
            tell(_succeed, result)

    def tell(settle: Callable[..., None], outcome: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(settle, future, outcome)

    threading.Thread(target=run, name=f"beside-{call.__name__}", daemon=True).start()
    return future


def _succeed(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[T], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
