"""`frugan status`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from frugan.cli.common import print_command, say


def status(runs: Annotated[list[Path], typer.Argument(help="Run directories.")]) -> None:
    """Say how far runs are, whether they still show signs of life, and where their pages lie."""
    from frugan.run.train import Run

    for path in runs:
        run = Run(path)
        found = run.status()
        say(f"{path}: {found.sentence}; {found.kimg:g} of {found.total_kimg or run.config.kimg:g} kimg; {run.page}")
        if found.name in ("killed", "interrupted", "failed"):
            print_command("  resume with", "resume", path)
