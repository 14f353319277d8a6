"""The display on the terminal, and the texts in it."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from frugan.tracking import ConsoleDisplay
from frugan.tracking.console import Pace
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
    with ConsoleDisplay(1000, start_kimg=8, console=screen) as progress:
        progress.log(RECORD)
        progress.say("resumed [from] a checkpoint")
        progress.log({"kimg": 16.0, "p": float("nan"), "non_finite": 2.0})
    lines = out.getvalue().splitlines()
    assert lines == [
        "    12.0 / 1000 kimg  4.1 s/kimg  ETA 1 hour 8 minutes  p 0.013  r_t 0.610  G 1.200  D 0.700  2.1 GB  kid 0.01234",
        "resumed [from] a checkpoint",
        "    16.0 / 1000 kimg  4.1 s/kimg  ETA 1 hour 7 minutes  non-finite 2",
    ]
    assert out.getvalue().isascii()


def test_live_display_shows_the_figures_and_gives_the_terminal_back() -> None:
    screen, out = console(terminal=True)
    with ConsoleDisplay(100, console=screen) as progress:
        progress.log(RECORD)
        progress.log({"kimg": 50.0, "p": 0.5})
    shown = out.getvalue()
    assert "50.0 / 100 kimg" in shown
    assert "p 0.500  r_t 0.610" in shown  # what the newest record lacks is kept
    assert "━" in shown
    assert shown.count(HIDE_CURSOR) == 1
    assert shown.rindex(SHOW_CURSOR) > shown.rindex(HIDE_CURSOR)


def test_each_step_moves_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first one on; where there is no terminal, the first one is a line. It is slow, and no pace to reckon with."""
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    screen, out = console(terminal=False)
    progress = ConsoleDisplay(100, console=screen)
    for kimg, seconds in ((0.02, 300), (0.04, 10), (0.06, 10)):
        now += seconds
        progress.step(kimg)
    progress.log({"kimg": 0.06, "p": 0.5})
    first, record = out.getvalue().splitlines()
    assert first == "   0.020 / 100 kimg"
    assert record.startswith("   0.060 / 100 kimg  500 s/kimg")
    screen, out = console(terminal=True)
    monkeypatch.undo()
    with ConsoleDisplay(100, console=screen) as shown:
        shown.step(0.016)
    assert "0.016 / 100 kimg" in out.getvalue()


@given(st.lists(st.floats(0.01, 30), min_size=1, max_size=50), st.floats(0.001, 1))
def test_the_pace_lies_among_those_of_the_steps(seconds: list[float], kimg: float) -> None:
    pace = Pace()
    for each in seconds:
        pace.add(each, kimg)
    assert pace.seconds_per_kimg is not None
    assert min(seconds) / kimg * 0.999 <= pace.seconds_per_kimg <= max(seconds) / kimg * 1.001


def test_the_pace_is_smooth_and_follows() -> None:
    pace = Pace()
    for _ in range(600):
        pace.add(1.0, 0.1)
    pace.add(10.0, 0.1)  # one slow step
    assert pace.seconds_per_kimg == pytest.approx(10, rel=0.1)
    for _ in range(120):
        pace.add(10.0, 0.1)
    assert pace.seconds_per_kimg == pytest.approx(100, rel=0.1)


@pytest.mark.parametrize("slow", [(0,), (0, 3, 15), (0, 1, 3, 4, 15, 16)])
def test_steps_that_prepare_others_are_forgotten(slow: tuple[int, ...]) -> None:
    """As on a GPU: phases are compiled and captured in steps 1 to 17, for ten seconds each, before steps of a hundredth."""
    pace = Pace()
    for step in range(40):
        pace.add(10.0 if step in slow else 0.02 + 0.02 * (step % 16 == 0), 0.016)
    assert pace.seconds_per_kimg == pytest.approx(1.25, rel=0.2)


@given(st.floats(0, 10**8))
def test_a_duration_in_words_is_that_duration(seconds: float) -> None:
    words = duration(seconds).split()
    units = {"day": 86400, "hour": 3600, "minute": 60, "second": 1}
    sizes = [units[unit.removesuffix("s")] for unit in words[1::2]]
    counts = list(map(int, words[::2]))
    said = sum(size * count for size, count in zip(sizes, counts))
    assert abs(said - seconds) <= max(sizes[0] / 24 / 2 if seconds < 20 * 86400 else 43200, 0.5)
    assert all((count == 1) != unit.endswith("s") for count, unit in zip(counts, words[1::2]))
    assert len(counts) == 1 or counts[1] < {86400: 24, 3600: 60, 60: 60}[sizes[0]]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_an_interruption_gives_the_terminal_back(error: type[BaseException]) -> None:
    screen, out = console(terminal=True)

    def train() -> None:
        with ConsoleDisplay(100, console=screen) as progress:
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
    with ConsoleDisplay(100, console=Console(file=Broken(), force_terminal=terminal)) as progress:
        progress.log(RECORD)
        progress.log({"kimg": "nonsense", "p": "?"})
        progress.say("still here")
    progress.close()


@pytest.mark.parametrize(
    "function, value, text",
    [
        (duration, 4.4, "4 seconds"),
        (duration, 59.6, "1 minute"),
        (duration, 4000, "1 hour 7 minutes"),
        (duration, 100_000, "1 day 4 hours"),
        (duration, float("inf"), "?"),
        (duration, -1, "0 seconds"),
        (duration, 61, "1 minute 1 second"),
        (duration, 440 * 86400, "440 days"),
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
