"""Reference page of the command line, made from the program's own commands."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer
from rich.text import Text

HEAD = """# The command line

Every command with its arguments and options, made from the program itself. `frugan COMMAND --help` prints the same.
Bad input ends with exit code 2 and one sentence, an interruption with 130; everything else that is not 0 is a fault of frugan.
The options of training fill a page of their own: [options of training](options.md).

"""


def page() -> str:
    """The page in Markdown: a section for each command, a table of its arguments and options."""
    from frugan.cli.app import app

    sections = [_section(name, command) for name, command in _commands(typer.main.get_command(app))]
    return HEAD + "\n".join(sections)


def _commands(group: Any, before: str = "frugan") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{before} {name}")
        else:
            yield f"{before} {name}", command


def _section(name: str, command: Any) -> str:
    from frugan.config.options import DataOptions, Options, displays

    training = {*displays(Options), *displays(DataOptions)} if name == "frugan train" else set()
    parameters = [p for p in command.params if p.name not in training and p.name != "help"]
    arguments = [p for p in parameters if p.param_type_name == "argument"]
    usage = " ".join([name, *(_metavar(p) for p in arguments), "[OPTIONS]"])
    lines = [f"## {name}", "", _plain(inspect.cleandoc(command.help or "")), "", "```text", usage, "```", ""]
    rows = [_row(p) for p in [*arguments, *(p for p in parameters if p not in arguments)]]
    if rows:
        lines += ["| argument or option | meaning | default |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _metavar(argument: Any) -> str:
    name = argument.name.rstrip("_").upper() + ("…" if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        names = f"`{_metavar(parameter)}`"
    else:
        flags = [*parameter.opts, *parameter.secondary_opts]
        names = ", ".join(f"`{flag}`" for flag in flags)
    text, marked, told = _plain(getattr(parameter, "help", "") or "").partition("[default: ")
    default = parameter.default
    if marked:
        default = told.removesuffix("]")
    elif parameter.required:
        default = "required"
    elif callable(default) or default is None or default in ((), []):
        default = ""
    elif isinstance(default, bool):
        default = "on" if default else "off"
    cells = (names, text.strip(), str(default))
    return f"| {' | '.join(cell.replace('|', '/').replace(chr(10), ' ') for cell in cells)} |"


def _plain(text: str) -> str:
    """A help text without Rich's markup, Markdown's own characters escaped."""
    plain = Text.from_markup(text).plain.replace("\b", "")
    return plain.replace("*", r"\*").replace("<", "&lt;")
