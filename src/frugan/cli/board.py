"""`frugan board`: runs side by side in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from frugan.checks import Limits
from frugan.cli.explore import Browser, Host, Share, offer


def board(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, or folders of them.")],
    control: Annotated[bool, Option(help="Buttons that stop and resume runs.")] = False,
    port: Annotated[int, Limits(at_least=0, at_most=65535), Option(help="0: any that is free.")] = 0,
    host: Host = "127.0.0.1",
    share: Share = False,
    browser: Browser = True,
) -> None:
    """Watch and compare runs in the browser: curves, samples, settings, evaluation cards. Needs the extra frugan\\[explorer]."""

    def service() -> object:
        from frugan.explorer.board import Board

        return Board(runs, control=control)

    offer(service, host, port, share=share, browser=browser)
