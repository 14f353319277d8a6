"""The program `frugan`: its commands, and how it ends."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from types import FrameType
from typing import Annotated, Any

import typer

from frugan.checks import checked
from frugan.cli import (
    board,
    convert,
    data,
    demo,
    evaluate,
    explore,
    generate,
    latent,
    leaks,
    methods,
    project,
    report,
    status,
    text,
    train,
    video,
)
from frugan.cli.signature import Command, Group, short_help
from frugan.cli.terminal import PlainFormatter, flush, outlasting, sentence
from frugan.errors import FruganError, explain
from frugan.signals import UNBROKEN, unbroken

app = typer.Typer(
    name="frugan",
    cls=Group,
    help="Train high-quality GANs from little data.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
_INTERRUPTED, _STOPPED = 130, "frugan: interrupted"
_PATIENCE = 0.5
"""Seconds within which a signal's exception has begun to end the program."""
examples = (" ".join(["frugan", "train", example]) for example in train.EXAMPLES)
train_help = {"cls": short_help(*train.BASICS), "epilog": "\n\n".join(["Examples:", *examples])}
app.command("train", **train_help)(checked(train.train))
for name, function in {
    "resume": train.resume,
    "status": status.status,
    "generate": generate.generate,
    "directions": latent.directions,
    "edit": latent.edit,
    "mix": latent.mix,
    "sweep": latent.sweep,
    "video": video.video,
    "blend": latent.blend,
    "project": project.project,
    "encode": project.encode,
    "board": board.board,
    "explore": explore.explore,
    "evaluate": evaluate.evaluate,
    "report": report.report,
    "compare": evaluate.compare,
    "import": convert.import_,
    "leaks": leaks.leaks,
    "methods": methods.methods,
    "export": convert.export,
    "demo": demo.demo,
}.items():
    app.command(name, cls=Command)(checked(function))
app.add_typer(data.app, name="data")
app.add_typer(text.app, name="text")


def _version(asked: bool) -> None:
    if asked:
        import frugan

        typer.echo(f"frugan {frugan.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train high-quality GANs from little data."""


def _check_directory() -> None:
    try:
        os.getcwd()
    except OSError:  # PyTorch would end the process without a word of Python's
        raise FruganError(
            "the current directory does not exist any more; change to another, for instance with cd ~"
        ) from None


class _Signals:
    """Ctrl-C, SIGTERM, and SIGHUP of a terminal that closes, unless `nohup` bars it, raise an exception in the block, so that it
    removes what it has begun to write; the last two then end the process as they always do."""

    def __init__(self) -> None:
        self._came: list[int] = []
        self._delayed: list[threading.Timer] = []
        self._watches: list[threading.Timer] = []
        self._watching = False

    @unbroken
    def _end(self, number: int, frame: FrameType | None) -> None:
        again, self._watching = self._watching, False
        if _swallows(frame) or (again and _is_ending()):
            self._later(0.02, number, again)
        elif again or number == signal.SIGINT or number not in self._came:
            self._came.append(number)
            self._later(_PATIENCE, number, True)
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(_INTERRUPTED)

    def _later(self, seconds: float, number: int, again: bool) -> None:
        """Sends a signal that waits; or `again`, in case that its exception was lost: libraries that are imported forget some."""

        def send() -> None:
            self._watching = again
            os.kill(os.getpid(), number)

        timer = threading.Timer(seconds, send)
        timer.daemon = True
        timer.start()
        (self._watches if again else self._delayed).append(timer)

    def __enter__(self) -> None:
        # of several processes each may wait for another, deaf to signals: the launcher tidies up
        names = ("SIGINT",) if "RANK" in os.environ else ("SIGINT", "SIGTERM", "SIGHUP")
        kinds = [getattr(signal, name) for name in names if hasattr(signal, name)]
        before: dict[signal.Signals, Any] = {kind: signal.getsignal(kind) for kind in kinds}
        self._caught = {k: how for k, how in before.items() if how in (signal.SIG_DFL, signal.default_int_handler)}
        for kind in self._caught:
            signal.signal(kind, self._end)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            for timer in self._delayed:
                timer.join()  # its signal comes before the end
        finally:
            for timer in self._watches:
                timer.cancel()
            for kind, how in self._caught.items():
                signal.signal(kind, how)
            if (number := next((n for n in self._came if n != signal.SIGINT), None)) is not None:
                typer.echo(_STOPPED, err=True)
                os.kill(os.getpid(), number)
        # of an import whose first half was lost with the signal's exception
        if self._came and isinstance(error, Exception):
            raise KeyboardInterrupt from error


def _swallows(frame: FrameType | None) -> bool:
    """Whether an exception would be lost here, in a callback of Python's import, or is to wait for the end of a function."""
    if frame is not None and frame.f_code.co_filename == "<frozen importlib._bootstrap>":
        return True
    while frame:
        if frame.f_code in UNBROKEN:
            return True
        frame = frame.f_back
    return False


def _is_ending() -> bool:
    """Whether the exception of a signal is on its way, or what it was made into."""
    error = sys.exc_info()[1]
    while error and not isinstance(error, (KeyboardInterrupt, SystemExit)):
        error = error.__context__
    return error is not None


def main() -> None:
    """Runs the program. What the user can fix, the system's refusals among it, is one sentence on stderr and exit code
    2; Ctrl-C is 130. A traceback (exit code 1) is a mistake of ours."""
    sys.stdout, sys.stderr = outlasting(sys.stdout), outlasting(sys.stderr)
    if logging.lastResort:
        logging.lastResort.setFormatter(PlainFormatter())
    try:
        with _Signals():
            try:
                _check_directory()
                app()
            finally:
                flush(sys.stdout)
    except FruganError as error:
        typer.echo(f"frugan: {sentence(error)}", err=True)
        sys.exit(error.exit_code)
    except SystemExit as end:
        if end.code == _INTERRUPTED:  # which Typer makes of Ctrl-C without a word
            typer.echo(_STOPPED, err=True)
        raise
    except KeyboardInterrupt:
        typer.echo(_STOPPED, err=True)
        sys.exit(_INTERRUPTED)
    except Exception as error:
        if (reason := explain(error)) is None:
            raise
        typer.echo(f"frugan: {sentence(reason)}", err=True)
        sys.exit(2)
