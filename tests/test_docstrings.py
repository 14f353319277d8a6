"""Docstrings explain: public functions name their arguments, and no sentence is a riddle."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "frugan"
FILES = sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py"))
MANY = 3
"""Arguments that are too many to be understood from their names and types."""
ELSEWHERE = re.compile(r"arguments? (are|of|as)|same arguments|`options` are|As `\w+`|See `\w+`|as `\w+` does")
"""A docstring that refers to another one for its arguments."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def documented(tree: ast.Module) -> Iterator[tuple[str, list[str], str]]:
    """(name, arguments, docstring) of each public function and class. A class speaks for its constructor, a protocol for what
    overrides its methods."""
    for node in tree.body:
        if isinstance(node, Function) and not node.name.startswith("_"):
            yield node.name, arguments(node), ast.get_docstring(node) or ""
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for part in node.body:
                if isinstance(part, Function) and (part.name == "__init__" or part.name[0] != "_"):
                    about = ast.get_docstring(part) or ""
                    if part.name == "__init__":
                        about = f"{ast.get_docstring(node) or ''}\n{about}"
                    yield f"{node.name}.{part.name}", arguments(part), about


def arguments(function: Function) -> list[str]:
    found = function.args
    return [a.arg for a in (*found.posonlyargs, *found.args, *found.kwonlyargs) if a.arg not in ("self", "cls")]


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("cli/")])
def test_functions_of_many_arguments_name_each(name: str) -> None:
    """A method without a docstring of its own has that of the method it overrides, a function has none. (A command's arguments
    are explained where they are declared.)"""
    silent = []
    for function, names, about in documented(ast.parse((SOURCE / name).read_text("utf-8"))):
        overrides = not about and "." in function
        if len(names) >= MANY and not overrides and not ELSEWHERE.search(about):
            missing = [argument for argument in names if not re.search(rf"\b{argument}\b", about)]
            silent += [f"{function}: {', '.join(missing)}"] if missing else []
    assert not silent


@pytest.mark.parametrize("name", FILES)
def test_no_docstring_begins_with_a_question_word(name: str) -> None:
    """It begins with a noun or a verb, by which it is found."""
    tree = ast.parse((SOURCE / name).read_text("utf-8"))
    kinds = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
    texts = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]
    assert not [text for text in texts if re.match(r"(What|Who|Likewise|Of|Those|That) ", text)]
