"""Networks on disk: weights in safetensors, what they are built from in config.json.

model.safetensors      the EMA generator (or difference.safetensors: see `frugan.networks.difference`)
config.json            the networks' configurations, under "generator" and "discriminator"
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from frugan.errors import FruganError, shown
from frugan.files import read_json, refilling, replacing, write_text
from frugan.networks import difference
from frugan.networks.registry import (
    DEFAULT,
    Architecture,
    architecture_of,
    config_class,
    find_architecture,
    make_network,
)
from frugan.networks.stylegan2.discriminator import Discriminator, DiscriminatorConfig
from frugan.networks.stylegan2.generator import Generator
from frugan.structure import converter, reasons

Network = TypeVar("Network", Generator, Discriminator)

_converter = converter()


def save_weights(network: nn.Module, file: Path) -> None:
    """The network's parameters and buffers as safetensors."""
    save_tensors(network.state_dict(), file, metadata={"format": "pt"})


def save_tensors(tensors: Mapping[str, Tensor], file: Path, metadata: dict[str, str] | None = None) -> None:
    """Writes tensors as safetensors, whole or not at all, with the file mode that the umask gives (the library's own is 0600).

    Args:
        tensors: by name, on any device.
        file: overwritten.
        metadata: for the file's header.
    """
    # safetensors refuses tensors that share memory or are strided: each is written as its own plain block
    plain = {k: v.detach().contiguous().cpu().clone() for k, v in tensors.items()}
    with replacing(file) as unfinished:
        unfinished.touch()  # an empty file shows what the umask, or the folder's access list, makes of a new one
        mode = unfinished.stat().st_mode
        try:
            safetensors.torch.save_file(plain, unfinished, metadata=metadata)
        except safetensors.SafetensorError as error:  # hides what the system said
            if number := re.search(r"os error (\d+)", str(error)):
                raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
            raise
        unfinished.chmod(mode)


def weights_digest(network: nn.Module) -> str:
    """SHA-256 (hexadecimal) of names, types, shapes and values of all parameters and buffers, on whatever device."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_weights(file: Path, prefix: str = "") -> dict[str, Tensor]:
    """The tensors in a safetensors file whose names begin with `prefix`, which is cut off. Raises `FruganError`."""
    try:
        with safetensors.safe_open(file, "pt") as opened:
            return {k.removeprefix(prefix): opened.get_tensor(k) for k in opened.keys() if k.startswith(prefix)}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise FruganError(f"{file} cannot be read: {error}") from error


def check_fit(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raises `FruganError`, naming a weight, unless the state has exactly the expected weights, of their shapes and of
    floating-point types.
    """
    check_shapes({k: tuple(v.shape) for k, v in state.items()}, expected)
    for name, value in state.items():
        if not value.is_floating_point():
            raise FruganError(f"{shown(name)} is of type {value.dtype}, expected floating-point numbers")


def check_shapes(given: Mapping[str, tuple[int, ...]], expected: Mapping[str, Tensor]) -> None:
    """Raises `FruganError`, naming a weight, unless there are exactly the expected weights, of their shapes."""
    own = {k: tuple(v.shape) for k, v in expected.items()}
    if wrong := sorted(k for k in {**own, **given} if own.get(k) != given.get(k)):
        name = wrong[0]
        raise FruganError(
            f"{shown(name)} is {given.get(name, 'absent')}, expected {own.get(name, 'absent')}; "
            f"{len(wrong)} of {len(own)} weights do not fit the network"
        )


def build(kind: type[Network], config: Any, state: Mapping[str, Tensor], source: Path) -> Network:
    """The network of a configuration from config.json and its weights.

    Shapes are compared before memory is allocated: what a file asks for is bounded by what it brings.

    Args:
        kind: the network's class.
        config: plain values.
        state: weights by name.
        source: the directory, for messages.

    Raises `FruganError`, which names `source`.
    """
    try:
        structured = _converter.structure(config, config_class(kind))
    except Exception as error:  # a configuration can be wrong in any way
        name = kind.__name__.lower()
        raise FruganError(f"{source} holds no {name} that can be read: {reasons(error, name)}") from error
    try:
        return fill(kind, structured, state)
    except FruganError as error:
        raise FruganError(f"{source}: {error}") from error


def fill(kind: type[Network], config: Any, state: Mapping[str, Tensor]) -> Network:
    """A network with given weights, which are copied, on the CPU.

    All weights from files pass through here: shapes and types are compared before memory is allocated, and weights that
    are not finite are refused.

    Args:
        kind: the class, for the type checker.
        config: the network's configuration dataclass.
        state: weights by name.

    Raises `FruganError` where they do not fit.
    """
    network: Network = unfilled(config)
    expected = network.state_dict()
    check_fit(state, expected)
    filled = {k: v.to(expected[k].dtype, copy=True) for k, v in state.items()}
    for name, value in filled.items():
        if not value.isfinite().all():
            raise FruganError(f"{shown(name)} holds numbers that are not finite: nothing can be computed with them")
    network.load_state_dict(filled, assign=True)
    return network


def unfilled(config: Any) -> Any:
    """The network of a configuration without memory for its weights, which have shapes only. Raises `FruganError` where
    it is impossible.
    """
    with _Unfilled():
        return make_network(config)


class _Unfilled(TorchFunctionMode):
    """Weights made under it have a shape and no memory; constants computed from numbers are real.

    `torch.device("meta")` would do, but for the second it takes: it imports the compiler to divide by a number.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.randn:
            return torch.empty(*args, device="meta")
        if func in (torch.zeros, torch.full):
            return func(*args, device="meta")
        if func in (torch.Tensor.div, torch.Tensor.__truediv__, F.normalize) and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


def save_generator(
    directory: Path, generator: Generator, *, discriminator: DiscriminatorConfig | None = None, **facts: Any
) -> None:
    """Writes model.safetensors and config.json.

    Args:
        directory: an existing folder.
        generator: the network.
        discriminator: a configuration to be kept, too.
        facts: further entries of config.json.
    """
    save_weights(generator, directory / "model.safetensors")
    name = architecture_of(generator.config, discriminator)
    config = {"architecture": name, "generator": _converter.unstructure(generator.config), **facts}
    if discriminator is not None:
        config["discriminator"] = _converter.unstructure(discriminator)
    write_text(directory / "config.json", json.dumps(config, indent=1, sort_keys=True), durable=False)


def load_config(directory: Path) -> dict[str, Any]:
    """The content of a generator's config.json. Raises `FruganError` where there is none, or no weights beside it."""
    file = directory / "config.json"
    if not file.is_file() or not any((directory / name).is_file() for name in ("model.safetensors", difference.FILE)):
        raise FruganError(f"{directory} holds no generator: config.json and model.safetensors are expected there")
    try:
        config = read_json(file)
    except (OSError, ValueError) as error:
        raise FruganError(f"{file} cannot be read: {shown(error)}") from error
    if not isinstance(config, dict) or "generator" not in config:
        raise FruganError(f"{file} describes no generator")
    return config


def kind_of(facts: Mapping[str, Any]) -> Architecture:
    """The architecture that config.json names. Raises `FruganError`."""
    return find_architecture(facts.get("architecture", DEFAULT))


def load_generator(directory: Path) -> Generator:
    """The generator kept in `directory`, on the CPU, in evaluation mode. Raises `FruganError` on anything amiss."""
    facts = load_config(directory)
    if (directory / difference.FILE).is_file():
        changes = load_weights(directory / difference.FILE)
        state = difference.apply_difference(_load_parent(directory, facts).state_dict(), changes)
    else:
        state = load_weights(directory / "model.safetensors")
    return build(kind_of(facts).generator, facts["generator"], state, directory).eval().requires_grad_(False)


def save_difference(
    directory: Path, generator: Generator, parent: Generator, home: Path, *, rank: int | None = None, **facts: Any
) -> Path:
    """Writes a generator as its difference from a parent, which `load_generator` reads like any other.

    Args:
        directory: the new folder.
        generator: of the same shape as the parent.
        parent: the network that the difference is taken from.
        home: the folder that the parent is kept in.
        rank: of the differences' factors; None keeps them whole (`networks.difference`).
        facts: further entries of config.json.
    """
    changes = difference.make_difference(parent.state_dict(), generator.state_dict(), rank)
    about = {
        "parent": str(home.resolve()),
        "relative": os.path.relpath(home.resolve(), directory.resolve()),
        "digest": weights_digest(parent),
    }
    name = architecture_of(generator.config)
    config = {"architecture": name, "generator": _converter.unstructure(generator.config), "difference": about}
    with refilling(directory, "config.json") as scratch:
        save_tensors(changes, scratch / difference.FILE, metadata={"format": "pt"})
        write_text(scratch / "config.json", json.dumps({**config, **facts}, indent=1, sort_keys=True), durable=False)
    return directory


def _load_parent(directory: Path, facts: Mapping[str, Any]) -> Generator:
    """The parent of a difference. Raises `FruganError` where it is gone or has been replaced by another network."""
    about = facts.get("difference")
    if not isinstance(about, dict) or not all(isinstance(about.get(k), str) for k in ("parent", "relative", "digest")):
        raise FruganError(f"{directory}: config.json does not say which network its difference is one from")
    places = [Path(about["parent"]), directory / about["relative"]]
    home = next((place for place in places if (place / "model.safetensors").is_file()), None)
    if home is None:
        raise FruganError(
            f"{directory} is the difference from a network in {shown(about['parent'])}, which is no longer there; put it back, "
            'or name its place in config.json under "difference", "parent"'
        )
    parent = load_generator(home)
    if (digest := weights_digest(parent)) != about["digest"]:
        raise FruganError(
            f"{directory} is the difference from a network of hash {shown(about['digest'][:12])}, and {home} now holds another "
            f"({digest[:12]}); put the parent back"
        )
    return parent
