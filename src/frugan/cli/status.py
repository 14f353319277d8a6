"""`frugan status`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from frugan.cli.common import print_command, say


def status(runs: Annotated[list[Path], typer.Argument(help="Run directories, or folders of them.")]) -> None:
    """Say how far runs are, whether they still show signs of life, and where their pages lie."""
    from frugan.run.directory import runs_of
    from frugan.run.train import Run

    for path in (run for given in runs for run in runs_of(given) or [given]):
        run = Run(path)
        found = run.status()
        say(f"{path}: {found.sentence}; {found.kimg:g} of {found.total_kimg or run.config.kimg:g} kimg; {run.page}")
        if found.name in ("killed", "interrupted", "failed"):
            print_command("  resume with", "resume", path)
