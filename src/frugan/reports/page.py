"""HTML of a report: one file without scripts, which opens from disk, loads nothing and prints on A4."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from frugan.reports.store import Findings
from frugan.reports.svg import draw

if TYPE_CHECKING:
    from jinja2 import Template

LONGEST_WORD = 24
"""Characters that a cell of a table shows unbroken."""
LONG_TEXT = 40
"""Characters from which on a cell keeps some width on a narrow screen, where the table then scrolls sideways."""


def render(header: Mapping[str, Any], titles: Mapping[str, str], sections: Mapping[str, Findings]) -> str:
    """The report as a page of HTML: its sections in the order of their titles, the statement also at the top.

    Args:
        header: what the page says first.
        titles: of sections, by name.
        sections: results by the section's name.
    """
    return _template().render(
        header=header,
        sections=[(name, titles[name], sections[name]) for name in titles if name in sections],
        statement=sections.get("statement"),
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    assets = files("frugan.reports") / "assets"
    style = (assets / "report.css").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["svg"] = lambda block: Markup(draw(block))
    environment.filters["width"] = lambda text: Markup(_width_class(text))
    environment.globals |= {"style": Markup(style), "policy": policy(style)}
    return environment.from_string((assets / "report.html.j2").read_text("utf-8"))


def _width_class(text: str) -> str:
    """The class attribute of a cell: "breaks" where a word must be broken lest it be wider than the page; "long" for sentences."""
    if any(len(word) > LONGEST_WORD for word in text.split()):
        return ' class="breaks"'
    return ' class="long"' if len(text) >= LONG_TEXT else ""


def policy(style: str) -> str:
    """The Content-Security-Policy: this style and images within the page; no script, no connection, no frame, no form."""
    source = b64encode(sha256(style.encode()).digest()).decode("ascii")
    return f"default-src 'none'; style-src 'sha256-{source}'; img-src data:; base-uri 'none'; form-action 'none'"
