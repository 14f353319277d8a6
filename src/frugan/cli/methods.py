"""`frugan methods`."""

from __future__ import annotations

from frugan.cli.common import console


def methods() -> None:
    """List the methods that --method takes: what each is, where it comes from, and what it sets."""
    from rich.table import Table

    from frugan.config.methods import METHODS

    table = Table("method", "what it is", "sets", "source", box=None, pad_edge=False, header_style="dim")
    for name, method in METHODS.items():
        table.add_row(name, method.about, method.constants(), method.source)
    console.print(table, markup=False)
    console.print(
        "\nJoin several by commas: --method ada,bcr. Without ada or scheduled, images are not augmented unless --augment "
        "says so. Besides: --diffaugment, --d-capacity, --measurement."
    )
