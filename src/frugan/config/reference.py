"""Reference of options: docs/reference/options.md, and the keywords of `frugan.train` for type checkers, made from the options.

`python -m frugan.config.reference` writes them, from the root of the repository.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from frugan.checks import as_option
from frugan.config.options import DataOptions, Options, descriptions, displays

PAGE, KEYWORDS = Path("docs/reference/options.md"), Path("src/frugan/config/keywords.py")
OWNERS = (Options, DataOptions)


def page() -> str:
    """The page of options, in Markdown: a table for each panel of the help."""
    panels: dict[str, list[str]] = {}
    for owner in OWNERS:
        hints, texts = get_type_hints(owner), descriptions(owner)
        defaults = {f.name: f.default for f in fields(owner)}
        for name, display in displays(owner).items():
            text, marked, default = texts[name].partition(" [default: ")
            if not marked:
                value = defaults[name] if display.default is None else display.default
                default = {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
            row = [_flags(name, display.alias, hints[name]), text, str(default).removesuffix("]")]
            panels.setdefault(display.panel, []).append(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |")
    lines = [
        "# Options of training",
        "",
        "As the command takes them; as keywords of `frugan.train` they have underscores (`r1_gamma=2`).",
        "`--dry-run` shows each value that a preset or a formula gives, and why. This page is made from",
        "`frugan/config/options.py` by `python -m frugan.config.reference`.",
    ]
    for panel, rows in panels.items():
        lines += ["", f"## {panel}", "", "| option | meaning | default |", "|---|---|---|", *rows]
    return "\n".join(lines) + "\n"


def _flags(name: str, alias: str | None, hint: Any) -> str:
    flag = as_option(name)
    names = [f"{flag}` / `--no-{flag[2:]}" if hint is bool else flag, *([as_option(alias)] if alias else [])]
    return ", ".join(f"`{one}`" for one in names)


def keywords() -> str:
    """A Python module with the types of `frugan.train`'s keywords."""
    return (
        '"""Keywords of `frugan.train`, made from the options by `python -m frugan.config.reference`."""\n\n'
        "from __future__ import annotations\n\n"
        "from typing import Literal, TypedDict\n\n\n"
        "class TrainKeywords(TypedDict, total=False):\n"
        '    """The fields of `frugan.config.options.Options` and `DataOptions`, and the rest of `frugan.data.DataConfig`."""\n\n'
        + "".join(f"    {name}: {hint}\n" for name, hint in _keyword_types())
        + "    held_out_seed: int\n    without: tuple[str, ...]\n"
    )


def _keyword_types() -> Iterator[tuple[str, str]]:
    for owner in OWNERS:
        hints = get_type_hints(owner)
        for name in displays(owner):
            kind = _source(hints[name])
            yield name, f"int | {kind}" if name == "resolution" else kind  # a side, which `DataConfig` makes a pair


def _source(hint: Any) -> str:
    """A type as it is written."""
    if hint is type(None):
        return "None"
    if get_origin(hint) is Literal:
        return f"Literal[{', '.join(map(_quoted, get_args(hint)))}]"
    if get_origin(hint) is tuple:
        return f"tuple[{', '.join(map(_source, get_args(hint)))}]"
    parts = get_args(hint)
    return " | ".join(map(_source, parts)) if parts else hint.__name__


def _quoted(word: str) -> str:
    return f'"{word}"'


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    KEYWORDS.write_text(keywords(), "utf-8")
