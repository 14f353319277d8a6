"""The display on the terminal, and the texts in it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from frugan.tracking import Progress
from frugan.tracking.text import duration, number, size

RECORD = {
    "kimg": 12.0,
    "seconds_per_kimg": 4.1,
    "p": 0.0125,
    "r_t": 0.61,
    "r_v": None,
    "loss/generator": 1.2,
    "loss/discriminator": 0.7,
    "non_finite": 0.0,
    "host_memory_bytes": 2_100_000_000,
    "metric/kid": 0.01234,
}
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


def console(*, terminal: bool, width: int = 100) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=terminal, width=width), out


def test_plain_lines_where_there_is_no_terminal() -> None:
    screen, out = console(terminal=False, width=40)
    with Progress(1000, start_kimg=8, console=screen) as progress:
        progress.log(RECORD)
        progress.say("resumed [from] a checkpoint")
        progress.log({"kimg": 16.0, "p": float("nan"), "non_finite": 2.0})
    lines = out.getvalue().splitlines()
    assert lines == [
        "    12.0 / 1000 kimg  4.1 s/kimg  ETA 1 h 07 min  p 0.013  r_t 0.610  G 1.200  D 0.700  2.1 GB  kid 0.01234",
        "resumed [from] a checkpoint",
        "    16.0 / 1000 kimg  non-finite 2",
    ]
    assert out.getvalue().isascii()


def test_live_display_shows_the_figures_and_gives_the_terminal_back() -> None:
    screen, out = console(terminal=True)
    with Progress(100, console=screen) as progress:
        progress.log(RECORD)
        progress.log({"kimg": 50.0, "p": 0.5})
    shown = out.getvalue()
    assert "50.0 / 100 kimg" in shown
    assert "p 0.500  r_t 0.610" in shown  # what the newest record lacks is kept
    assert "━" in shown
    assert shown.count(HIDE_CURSOR) == 1
    assert shown.rindex(SHOW_CURSOR) > shown.rindex(HIDE_CURSOR)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_an_interruption_gives_the_terminal_back(error: type[BaseException]) -> None:
    screen, out = console(terminal=True)

    def train() -> None:
        with Progress(100, console=screen) as progress:
            progress.log(RECORD)
            raise error

    with pytest.raises(error):
        train()
    assert out.getvalue().rindex(SHOW_CURSOR) > out.getvalue().rindex(HIDE_CURSOR)


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("error", [OSError, BrokenPipeError])
def test_never_raises(monkeypatch: pytest.MonkeyPatch, terminal: bool, error: type[OSError]) -> None:
    class Broken(io.StringIO):
        def write(self, _: str) -> int:
            raise error

    monkeypatch.setattr("os.dup2", lambda *_: None)  # rich sends this process's standard output away before it exits
    with Progress(100, console=Console(file=Broken(), force_terminal=terminal)) as progress:
        progress.log(RECORD)
        progress.log({"kimg": "nonsense", "p": "?"})
        progress.say("still here")
    progress.close()


@pytest.mark.parametrize(
    "function, value, text",
    [
        (duration, 4.4, "4 s"),
        (duration, 59.6, "1 min 00 s"),
        (duration, 4000, "1 h 06 min"),
        (duration, 100_000, "1 d 3 h"),
        (duration, float("inf"), "?"),
        (duration, -1, "0 s"),
        (duration, None, "?"),
        (number, 1234567, "1,234,567"),
        (number, 25000.0, "25,000"),
        (number, 0.0123456, "0.01235"),
        (number, 12.0, "12"),
        (number, None, "?"),
        (size, 0, "0 B"),
        (size, 999, "999 B"),
        (size, 2**31, "2.15 GB"),
        (size, 45_600_000, "45.6 MB"),
        (size, 3e15, "3000 TB"),
    ],
)
def test_texts(function, value: float | None, text: str) -> None:
    assert function(value) == text
