"""The program `frugan`: its commands, and how it ends."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

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
_INTERRUPTED = 130
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


@contextmanager
def _tidied_after_signals() -> Iterator[None]:
    """Ctrl-C, SIGTERM, and SIGHUP of a terminal that closes, unless `nohup` bars it, raise an exception in the block, so that it
    removes what it has begun to write; the last two then end the process as they always do."""
    came: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        lost = frame is not None and frame.f_code.co_filename == "<frozen importlib._bootstrap>"  # by its callbacks
        while frame and not lost:
            lost, frame = frame.f_code is end.__code__, frame.f_back  # while the first one is on its way
        if lost:
            threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        elif not came:
            came.append(number)
            sys.exit(_INTERRUPTED)

    # of several processes each may wait for another, deaf to signals: the launcher tidies up
    names = ("SIGINT",) if "RANK" in os.environ else ("SIGINT", "SIGTERM", "SIGHUP")
    kinds = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {kind: signal.getsignal(kind) for kind in kinds}
    caught = {kind: how for kind, how in before.items() if how in (signal.SIG_DFL, signal.default_int_handler)}
    for kind in caught:
        signal.signal(kind, end)
    try:
        yield
    finally:
        for kind, how in caught.items():
            signal.signal(kind, how)
        if came:
            os.kill(os.getpid(), came[0])


def main() -> None:
    """Runs the program. What the user can fix, the system's refusals among it, is one sentence on stderr and exit code
    2; Ctrl-C is 130. A traceback (exit code 1) is a mistake of ours."""
    sys.stdout, sys.stderr = outlasting(sys.stdout), outlasting(sys.stderr)
    if logging.lastResort:
        logging.lastResort.setFormatter(PlainFormatter())
    try:
        with _tidied_after_signals():
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
            typer.echo("frugan: interrupted", err=True)
        raise
    except KeyboardInterrupt:
        typer.echo("frugan: interrupted", err=True)
        sys.exit(_INTERRUPTED)
    except Exception as error:
        if (reason := explain(error)) is None:
            raise
        typer.echo(f"frugan: {sentence(reason)}", err=True)
        sys.exit(2)
