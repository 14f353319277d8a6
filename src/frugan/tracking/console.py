"""The display on the terminal while a run trains."""

from __future__ import annotations

import atexit
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from frugan.files import plain
from frugan.tracking.text import duration, number, size
from frugan.tracking.tracker import Record

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

# A display must not stop a run; rich exits on a broken pipe (`frugan train … | head`).
_ANY = (Exception, SystemExit)

_SHORT = {
    "p": "p",
    "r_t": "r_t",
    "r_v": "r_v",
    "loss/generator": "G",
    "loss/discriminator": "D",
    "non_finite": "non-finite",
}

_MUCH_FASTER, _RUNNING = 5, 3
"""How many times as fast as the average so far, and how many steps running, shows that the average is of something else."""


class Pace:
    """Seconds per kimg, smoothed over some minutes of steps, so that a remaining time neither jumps nor lags for long.

    Steps that compile, search for algorithms or capture graphs take some hundred times as long as those that follow: three
    steps running, each several times as fast as the average, begin it again.
    """

    def __init__(self, half_life_seconds: float = 120.0) -> None:
        self.half_life = half_life_seconds
        self._seconds = self._kimg = 0.0
        self._fast: list[tuple[float, float]] = []  # the latest steps, as long as they are that much faster

    def add(self, seconds: float, kimg: float) -> None:
        """Steps that took so long and made so many kimg; what came before counts half after each half-life."""
        if not (seconds >= 0 and kimg > 0):
            return
        before = self.seconds_per_kimg
        kept = 0.5 ** (seconds / self.half_life)
        self._seconds, self._kimg = self._seconds * kept + seconds, self._kimg * kept + kimg
        fast = before is not None and seconds / kimg < before / _MUCH_FASTER
        self._fast = [*self._fast, (seconds, kimg)] if fast else []
        if len(self._fast) == _RUNNING:
            self._seconds, self._kimg = map(sum, zip(*self._fast))
            self._fast = []

    @property
    def seconds_per_kimg(self) -> float | None:
        return self._seconds / self._kimg if self._kimg else None


class ConsoleDisplay:
    """A live bar over kimg with the latest figures; one plain line a record where the output is no terminal.

    A context manager. It never raises, and gives the terminal back at its end, on Ctrl-C and at exit.

    Args:
        total_kimg: where the run ends.
        start_kimg: where it resumes.
        console: a rich console; by default standard output.
    """

    def __init__(self, total_kimg: float, *, start_kimg: float = 0.0, console: Console | None = None) -> None:
        from rich.console import Console

        self.total_kimg, self.kimg = total_kimg, start_kimg
        self.console = console or Console()
        self._latest: dict[str, Any] = {}
        self._last_step = time.monotonic()
        self._pace = Pace()
        self._told = False
        self._live: Any = None
        self._activity = ""

    def __enter__(self) -> ConsoleDisplay:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def log(self, record: Record) -> None:
        """Shows a tick's record, or one that only adds metrics."""
        with suppress(*_ANY):
            record = {k: v for k, v in plain(record).items() if v is not None}
            self.kimg = record.get("kimg", self.kimg)
            self._latest |= record
            if self._pace.seconds_per_kimg is None and (given := record.get("seconds_per_kimg")):
                self._pace.add(given, 1.0)
            self._last_step = time.monotonic()  # records, sample grids and checkpoints are no part of a step
            if self.console.is_terminal:
                self._start()
            else:
                self._line("  ".join([f"{self._place():>8} / {self.total_kimg:g} kimg", *self._figures(record)]))

    def step(self, kimg: float) -> None:
        """Hears of each training step: moves the bar and the remaining time."""
        with suppress(*_ANY):
            now = time.monotonic()
            if self._told:  # the first step is slow: it compiles, captures graphs, fills caches
                self._pace.add(now - self._last_step, kimg - self.kimg)
            self.kimg, self._last_step = kimg, now
            if not self.console.is_terminal and not self._told:
                self._line("  ".join([f"{self._place():>8} / {self.total_kimg:g} kimg", *self._figures({})]))
            self._told = True

    def evaluating(self, done: int, total: int) -> None:
        """Shows how far an evaluation is, in images."""
        self._activity = f"evaluating: {done} / {total} images" if done < total else ""

    def say(self, message: str) -> None:
        """Prints a line above the bar."""
        with suppress(*_ANY):
            self._line(message)

    def close(self) -> None:
        with suppress(*_ANY):
            atexit.unregister(self.close)
            if self._live:
                self._live.stop()
                self._live = None

    def _start(self) -> None:
        with suppress(*_ANY):
            if self._live is None and self.console.is_terminal:
                from rich.live import Live

                atexit.register(self.close)
                self._live = Live(get_renderable=self._render, console=self.console, refresh_per_second=2)
                self._live.start()

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _place(self) -> str:
        """kimg so far, with three decimals where a tenth would hide that it moves."""
        return f"{self.kimg:.{1 if self.kimg >= 10 else 3}f}"

    def _figures(self, record: Record) -> list[str]:
        """The figures of a record as short ASCII texts, those that it has."""
        found: list[str] = []
        if pace := self._pace.seconds_per_kimg:
            elapsed = time.monotonic() - self._last_step
            left = max((self.total_kimg - self.kimg) * pace - elapsed, 0.0)
            found += [f"{pace:.3g} s/kimg", f"ETA {duration(left)}"]
        found += [
            f"{short} {number(record[name]) if name == 'non_finite' else f'{record[name]:.3f}'}"
            for name, short in _SHORT.items()
            if name in record and (name != "non_finite" or record[name])
        ]
        if memory := record.get("memory_bytes") or record.get("host_memory_bytes"):
            found.append(size(memory))
        return found + [
            f"{k.removeprefix('metric/')} {number(v)}" for k, v in record.items() if k.startswith("metric/")
        ]

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        head = Table.grid(padding=(0, 1), expand=True)
        head.add_column(ratio=1)
        head.add_column(justify="right", no_wrap=True)
        head.add_row(
            ProgressBar(total=self.total_kimg, completed=min(self.kimg, self.total_kimg)),
            Text(f"{self._place()} / {self.total_kimg:g} kimg"),
        )
        return Group(head, Text("  ".join([*self._figures(self._latest), self._activity]), style="dim"))
