"""The StyleGAN2 networks."""

from frugan.networks.discriminator import Discriminator, DiscriminatorConfig
from frugan.networks.generator import Generator, GeneratorConfig, Mapping, MappingConfig
from frugan.networks.storage import load_generator, save_generator
from frugan.networks.synthesis import Synthesis, SynthesisConfig

__all__ = [
    "Discriminator",
    "DiscriminatorConfig",
    "Generator",
    "GeneratorConfig",
    "Mapping",
    "MappingConfig",
    "Synthesis",
    "SynthesisConfig",
    "load_generator",
    "save_generator",
]
