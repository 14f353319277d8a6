"""The StyleGAN2 networks."""

from frugan.networks.discriminator import Discriminator, DiscriminatorConfig, Extras
from frugan.networks.generator import Generator, GeneratorConfig, Mapping, MappingConfig
from frugan.networks.labels import typical_labels
from frugan.networks.recompute import checkpoint_activations
from frugan.networks.storage import load_generator, save_generator
from frugan.networks.synthesis import Synthesis, SynthesisConfig

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
