"""The StyleGAN2 networks."""

from frugan.networks.activation_checkpointing import checkpoint_activations
from frugan.networks.labels import typical_labels
from frugan.networks.mapping import Mapping, MappingConfig
from frugan.networks.serialization import load_generator, save_generator
from frugan.networks.stylegan2.discriminator import Discriminator, DiscriminatorConfig, Extras
from frugan.networks.stylegan2.generator import Generator, GeneratorConfig
from frugan.networks.stylegan2.synthesis import Synthesis, SynthesisConfig

__all__ = [
    "Discriminator",
    "DiscriminatorConfig",
    "Extras",
    "Generator",
    "GeneratorConfig",
    "Mapping",
    "MappingConfig",
    "Synthesis",
    "SynthesisConfig",
    "checkpoint_activations",
    "load_generator",
    "save_generator",
    "typical_labels",
]
