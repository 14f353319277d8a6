"""Queue of rendering jobs: one at a time on the device, bounded, and the newest of a lane replaces what waits in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Superseded(Exception):
    """A newer job of the same lane took this one's place."""


class QueueFull(Exception):
    """More jobs wait than the queue holds."""


class JobQueue:
    """Runs functions one at a time in a thread of its own, first come, first served.

    A lane is one thing on one page that wants the newest image only, such as the large image while a slider moves.
    """

    def __init__(self, limit: int = 16) -> None:
        self.limit = limit
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._busy = False
        self._thread = ThreadPoolExecutor(1, "explorer")

    async def run(self, lane: str, work: Callable[[], T]) -> T:
        """The result of `work`. Raises `Superseded` or `QueueFull`; a task that is cancelled while it waits leaves the queue."""
        older = self._waiting.pop(lane, None)
        if older is not None and not older.done():
            older.set_exception(Superseded)
        if len(self._waiting) >= self.limit:
            raise QueueFull
        turn = asyncio.get_running_loop().create_future()
        self._waiting[lane] = turn
        self._next()
        try:
            await turn
        except asyncio.CancelledError:
            if self._waiting.get(lane) is turn:
                del self._waiting[lane]
            elif turn.done() and not turn.cancelled() and turn.exception() is None:
                self._free()  # its turn had come
            raise
        job = asyncio.get_running_loop().run_in_executor(self._thread, work)
        job.add_done_callback(
            lambda _: self._free()
        )  # the thread ends its work even where nobody waits for it any more
        return await asyncio.shield(job)

    def close(self) -> None:
        """Waits for the job at hand."""
        self._thread.shutdown(cancel_futures=True)

    def _free(self) -> None:
        self._busy = False
        self._next()

    def _next(self) -> None:
        if self._busy or not self._waiting:
            return
        turn = self._waiting.pop(next(iter(self._waiting)))
        self._busy = True
        turn.set_result(None)
