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
from types import CodeType, FunctionType
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
    """The function, checked unless it is being compiled; only annotations of shapes are looked at.

    What has passed passes again without a look, since a look takes as long as many an operation on small images.
    """
    checking = _checking(f, f.__code__, f.__globals__)
    returned: list[Any] = []
    checking_result = _checking(f, _stub(f).__code__, {"returned": returned})
    passed: dict[Any, set[Any]] = {}

    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return f(*args, **kwargs)
        given = _signature((args, kwargs))
        result = (f if given in passed else checking)(*args, **kwargs)
        found, known = _signature(result), passed.setdefault(given, set())
        if known and found not in known:
            returned[:] = [result]
            checking_result(*args, **kwargs)
        known.add(found)
        return result

    return call


def _checking(f: FunctionType, code: CodeType, names: dict[str, Any]) -> Callable[..., Any]:
    """Code with the signature of `f`, whose arguments and result are checked."""
    import jaxtyping
    from beartype import beartype

    scope = {**f.__globals__, **vars(typing), "Float": jaxtyping.Float, "Tensor": torch.Tensor}
    twin = FunctionType(code, names, f.__name__, f.__defaults__, f.__closure__ if code is f.__code__ else None)
    twin.__kwdefaults__, twin.__qualname__, twin.__module__ = f.__kwdefaults__, f.__qualname__, f.__module__
    twin.__annotations__ = {k: eval(v, scope) for k, v in f.__annotations__.items() if "Float[" in str(v)}
    return jaxtyping.jaxtyped(typechecker=beartype)(twin)


def _stub(f: FunctionType) -> FunctionType:
    """A function of the same arguments that returns `returned[0]`."""
    plain = [p.replace(default=p.empty, annotation=p.empty) for p in inspect.signature(f).parameters.values()]
    return eval(f"lambda {str(inspect.Signature(plain))[1:-1]}: returned[0]")


def _signature(value: Any) -> Any:
    """What a check can depend on: of tensors the shapes and kinds of numbers, of numbers and texts the values."""
    if isinstance(value, torch.Tensor):
        return value.shape, value.dtype, type(value)
    if isinstance(value, (list, tuple)):
        return type(value), *map(_signature, value)
    if isinstance(value, dict):
        return tuple((key, _signature(one)) for key, one in value.items())
    return value if isinstance(value, (int, float, str, type(None))) else type(value)
