"""Signature of a command made from options: types, defaults, help, panels, flags and completion; and help in two lengths."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from frugan.checks import Truncation, as_option
from frugan.config.options import Display, Options, descriptions, displays

Given = dict[str, Any]


def option_parameters(owner: type) -> list[inspect.Parameter]:
    """A keyword parameter for each option of a class, for Typer to read."""
    hints, texts, how = get_type_hints(owner), descriptions(owner), displays(owner)
    defaults = {f.name: f.default for f in fields(owner)}
    return [_parameter(name, hints[name], defaults[name], texts[name], how[name]) for name in how]


def _parameter(name: str, hint: Any, default: Any, text: str, how: Display) -> inspect.Parameter:
    if how.read:
        hint = str | None
    declared = [f"--{name}" for name in (name, how.alias) if name]
    flags = [d.replace("_", "-") for d in declared]
    if hint is bool:
        flags = [f"{flag}/--no-{flag[2:]}" for flag in flags]
    marked = "[default: " in text
    info = typer.Option(
        *flags,
        help=escape(text),
        rich_help_panel=how.panel,
        show_default=not marked,
        autocompletion=completing(how.choices, several=how.several) if how.choices else None,
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default if how.default is None else how.default,
        annotation=Annotated[hint, info],
    )


def completing(choices: Callable[[], Any], *, several: bool = False) -> Callable[[str], list[str]]:
    """A function that completes a word in the shell to one of the names; to the last of `several` that are joined by commas."""

    def complete(incomplete: str) -> list[str]:
        done, comma, last = incomplete.rpartition(",") if several else ("", "", incomplete)
        return [f"{done}{comma}{name}" for name in choices() if name.startswith(last)]

    return complete


def completing_as(name: str) -> Callable[[str], list[str]]:
    """Completion of the option of training of that name, for another command's."""
    how = displays(Options)[name]
    if how.choices is None:
        raise KeyError(f"option {name} has no names to complete")
    return completing(how.choices, several=how.several)


def demo_styles() -> tuple[str, ...]:
    """Styles of the images that `frugan demo` and `frugan data sample` draw."""
    from frugan.data.tools import STYLES

    return STYLES


def read_options(owner: type, given: Given) -> Given:
    """The values of a class's options among those given on the command line, texts read as its types."""
    how = displays(owner)
    read: Mapping[str, Any] = {name: given[name] for name in how}
    return {
        name: reader(as_option(name), value) if (reader := how[name].read) and value is not None else value
        for name, value in read.items()
    }


def with_options(*owners: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a function that takes `**given` the options of classes as its parameters, after its own."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        own = [p for p in inspect.signature(function, eval_str=True).parameters.values() if p.kind != p.VAR_KEYWORD]
        added = [p for owner in owners for p in option_parameters(owner)]
        parameters = [*own, *added]
        function.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
        function.__annotations__ = {p.name: p.annotation for p in parameters}
        return function

    return decorate


class _ReadableHelp:
    """Help that has room at 80 columns: flags are shown without a type, those that are off without their negation."""

    def format_help(self: Any, ctx: Any, formatter: Any) -> None:
        with ExitStack() as stack:
            for parameter in self.get_params(ctx):
                if getattr(parameter, "is_flag", False):
                    stack.enter_context(_changed(parameter, **_of_flag(parameter)))
            super().format_help(ctx, formatter)  # pyright: ignore[reportAttributeAccessIssue]


class Command(_ReadableHelp, TyperCommand):
    """A command of the program."""


class Group(_ReadableHelp, TyperGroup):
    """A group of commands."""


def _of_flag(flag: Any) -> dict[str, Any]:
    off = {"secondary_opts": [], "show_default": False} if flag.default is False and flag.secondary_opts else {}
    return {"metavar": "", **off}


@contextmanager
def _changed(parameter: Any, **attributes: Any) -> Iterator[None]:
    """Other attributes of a parameter meanwhile."""
    before = {name: getattr(parameter, name) for name in attributes}
    vars(parameter).update(attributes)
    try:
        yield
    finally:
        vars(parameter).update(before)


def short_help(*basics: str) -> type[TyperCommand]:
    """A command whose `--help` lists only the basic options, and whose `--help-all` lists all."""

    class Short(Command):
        def format_help(self, ctx: Any, formatter: Any) -> None:
            with ExitStack() as stack:
                for parameter in [] if ctx.meta.get("all") else self.params:
                    if parameter.name not in basics:
                        stack.enter_context(_changed(parameter, hidden=True))
                super().format_help(ctx, formatter)

    return Short


def show_all(ctx: typer.Context, asked: bool) -> None:
    """Callback of `--help-all`."""
    if asked:
        ctx.meta["all"] = True
        typer.echo(ctx.get_help(), nl=False)
        raise typer.Exit


HelpAll = Annotated[
    bool, typer.Option("--help-all", is_eager=True, callback=show_all, help="Show all options and exit.")
]


@dataclass(frozen=True)
class Destination:
    """The place of what a command writes, in the annotation of a parameter; `frugan.checks.checked` tries it before the work
    begins. `kind`: as `frugan.files.check_writable` takes it."""

    kind: Literal["file", "folder", "either"] = "file"

    def check(self, name: str, given: inspect.BoundArguments) -> None:
        """Raises `FruganError` where the place cannot be written."""
        from frugan.files import check_writable  # with modules that help cannot wait for

        check_writable(given.arguments[name], self.kind)


DEVICES = ("auto", "cpu", "cuda", "mps")
Device = Annotated[
    str,
    typer.Option(
        help=f"Device to compute with: {', '.join(DEVICES)}.",
        autocompletion=completing(lambda: DEVICES),
    ),
]
Network = Annotated[
    str,
    typer.Argument(
        help="A run, one of its checkpoints, an import, a .pkl or .pt, hf:user/name, or sample: the one that comes with frugan."
    ),
]
Out = Annotated[Path, Destination("folder"), typer.Option("--out", "-o", help="The folder to write into.")]
Psi = Annotated[Truncation, typer.Option(help="ψ: below 1 more typical, less varied.")]
Class = Annotated[str | None, typer.Option("--class", help="Class name or number, or label values joined by commas.")]
