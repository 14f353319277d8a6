"""The table of architectures: by name, the networks and the configurations that they are built from.

A new architecture is a folder here and a row of `ARCHITECTURES`. Its generator and discriminator are called as those of
`frugan.networks.stylegan2` are. Its configurations are frozen dataclasses that take a resolution and have defaults for the rest;
the generator's has z_dim, w_dim, `MappingConfig` and `SynthesisConfig`, which options set, and `measured`, `pixels` and `masks`,
which data set; the discriminator's says in mbstd_group how many images are judged together (1: each alone). Of the other
options it takes those that it has fields for.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import nn

from frugan.checks import meant
from frugan.errors import FruganError, shown
from frugan.networks.stylegan2.discriminator import Discriminator, DiscriminatorConfig
from frugan.networks.stylegan2.generator import Generator, GeneratorConfig


class Architecture(NamedTuple):
    """A generator and a discriminator that train together, each with the dataclass that decides its shape."""

    generator_config: type[Any]
    discriminator_config: type[Any]
    generator: type[Generator]
    discriminator: type[Discriminator]


ARCHITECTURES = {"stylegan2": Architecture(GeneratorConfig, DiscriminatorConfig, Generator, Discriminator)}

DEFAULT = "stylegan2"
"""What configurations mean that name no architecture: all that were written before there was a choice."""


def find_architecture(name: object) -> Architecture:
    """The row of that name. Raises `FruganError`."""
    if not isinstance(name, str) or name not in ARCHITECTURES:
        hint = meant(name, ARCHITECTURES) if isinstance(name, str) else ""
        raise FruganError(f"architecture {shown(name)}: {hint}choose one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]


def architecture_of(generator: Any, discriminator: Any = None) -> str:
    """The name of the first architecture with configurations of these types. Raises `FruganError` where there is none."""
    for name, row in ARCHITECTURES.items():
        if type(generator) is row.generator_config and type(discriminator) in (row.discriminator_config, type(None)):
            return name
    kinds = " and ".join(type(config).__name__ for config in (generator, discriminator) if config is not None)
    raise FruganError(f"no architecture has {kinds}; add a row to frugan.networks.registry.ARCHITECTURES")


def network_class(config: Any) -> type[Any]:
    """The class of the networks that a configuration describes. Raises `FruganError` where there is none."""
    for row in ARCHITECTURES.values():
        if type(config) is row.generator_config:
            return row.generator
        if type(config) is row.discriminator_config:
            return row.discriminator
    raise FruganError(f"no architecture has {type(config).__name__}")


def make_network(config: Any) -> Any:
    """A freshly initialised network of that configuration."""
    return network_class(config)(config)


def config_class(kind: type[nn.Module]) -> type[Any]:
    """The class of the configurations that networks of this class are built from."""
    for row in ARCHITECTURES.values():
        if kind in (row.generator, row.discriminator):
            return row.generator_config if kind is row.generator else row.discriminator_config
    raise FruganError(f"no architecture has {kind.__name__}")
