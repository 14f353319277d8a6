"""Shapes checked at run time: what the signatures of `ops`, `losses` and `networks` state, at every call of a test.

An annotation such as `Float[Tensor, "N C H W"]` costs nothing at run time, as annotations are never evaluated. Here they are: each
function that has any is replaced, wherever it is imported, by one that checks its arguments and its result (jaxtyping, beartype).
Code that is compiled or exported runs unchecked.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import pkgutil
import sys
import typing
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch

PACKAGES = ("frugan.ops", "frugan.losses", "frugan.networks")

AVAILABLE = importlib.util.find_spec("jaxtyping") is not None and importlib.util.find_spec("beartype") is not None

CHECKED: list[str] = []
"""The qualified names of all functions that are checked."""


def install() -> None:
    """Checks every annotated function of `PACKAGES` from now on; once."""
    if CHECKED or not AVAILABLE:
        return
    replaced: dict[FunctionType, Callable[..., Any]] = {}
    for module in [module for package in PACKAGES for module in _modules(package)]:
        for owner in [module, *_classes(module)]:
            for name, f in list(vars(owner).items()):
                if isinstance(f, FunctionType) and f.__module__ == module.__name__ and _states_shapes(f):
                    replaced[f] = checked = _checked(f)
                    CHECKED.append(f"{f.__module__}.{f.__qualname__}")
                    setattr(owner, name, checked)
    for name, module in list(sys.modules.items()):
        if name.startswith("frugan."):
            for key, value in list(vars(module).items()):
                if isinstance(value, FunctionType) and value in replaced:
                    setattr(module, key, replaced[value])


def _modules(package: str) -> list[Any]:
    root = importlib.import_module(package)
    names = [info.name for info in pkgutil.walk_packages(root.__path__, f"{package}.") if "triton" not in info.name]
    return [root, *map(importlib.import_module, names)]


def _classes(module: Any) -> list[type]:
    return [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__]


def _states_shapes(f: FunctionType) -> bool:
    return any("Float[" in str(annotation) for annotation in f.__annotations__.values())


def _checked(f: FunctionType) -> Callable[..., Any]:
    """The function, checked unless it is being compiled; only annotations of shapes are looked at."""
    import jaxtyping
    from beartype import beartype

    shapes = {k: v for k, v in f.__annotations__.items() if "Float[" in str(v)}
    scope = {**f.__globals__, **vars(typing), "Float": jaxtyping.Float, "Tensor": torch.Tensor}
    twin = FunctionType(f.__code__, f.__globals__, f.__name__, f.__defaults__, f.__closure__)
    twin.__kwdefaults__, twin.__qualname__, twin.__module__ = f.__kwdefaults__, f.__qualname__, f.__module__
    twin.__annotations__ = {k: eval(v, scope) for k, v in shapes.items()}
    checking = jaxtyping.jaxtyped(typechecker=beartype)(twin)

    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        return (f if torch.compiler.is_compiling() else checking)(*args, **kwargs)

    return call
