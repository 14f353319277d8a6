"""The program, run in the tests' own process: a fraction of what a process of its own costs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from frugan.cli.app import main

SMALL_NETWORKS = "--preset tiny --batch 4 --channel-base 64 --channel-max 8 --latent 8"
"""Options of training with which a step takes milliseconds."""


@contextmanager
def foreground() -> Iterator[None]:
    """Programs that start in the block heed Ctrl-C and a terminal that closes, also where the tests run in a shell's background or
    under `nohup`: a program inherits what is ignored, no handler."""
    names = [name for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)]
    ignored = [kind for name in names if signal.getsignal(kind := getattr(signal, name)) is signal.SIG_IGN]
    for kind in ignored:
        signal.signal(kind, lambda number, frame: None)
    try:
        yield
    finally:
        for kind in ignored:
            signal.signal(kind, signal.SIG_IGN)


def call(capsys: pytest.CaptureFixture[str], cwd: Path, *arguments: object) -> tuple[int, str]:
    """(exit code, what it printed) of the program, run in this process from a working directory."""
    before, argv = Path.cwd(), sys.argv
    os.chdir(cwd)
    sys.argv = ["frugan", *map(str, arguments)]
    try:
        main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os.chdir(before)
        sys.argv = argv
    out, err = capsys.readouterr()
    return code, out + err
