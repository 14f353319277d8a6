"""The methods that ADA's paper stands on or is compared with, and later ones: one row each.

A method is a set of settings, those of the paper's runs unless said; several go together where their mathematics allows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from frugan.checks import check_choice
from frugan.errors import FruganError

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Method:
    """One row of `METHODS`: what it is, where it comes from, and what it sets.

    `preset` replaces values of the preset, `options` are defaults for options (one that the user gives wins over either);
    `objective` and `discriminator` are fields of these configs. `excludes` gives the reason against each method that it
    cannot be combined with; two methods that set the same thing differently exclude each other anyway.
    """

    about: str
    source: str
    preset: Settings = field(default_factory=dict)
    options: Settings = field(default_factory=dict)
    objective: Settings = field(default_factory=dict)
    discriminator: Settings = field(default_factory=dict)
    excludes: Mapping[str, str] = field(default_factory=dict)

    def constants(self) -> str:
        """The method's settings as text."""
        pairs = [
            (k, v) for part in (self.preset, self.options, self.objective, self.discriminator) for k, v in part.items()
        ]
        return ", ".join(f"{k} {_plain(v)}" for k, v in pairs)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return "+".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


_ADA = "Karras et al. 2020, Training GANs with Limited Data"
_PER_P = {"augment": "ada", "transforms": "none"}  # p is steered as in ADA, but acts elsewhere
_NO_IMAGE = {"ada": "p steers its own difficulty, towards another target than ADA's"}
_UNCENTRED = "its logits have no zero point, so r_t cannot steer p: use scheduled, or --augment fixed"
_NO_PENALTIES = {"r1_gamma": 0.0, "path_length_weight": 0.0}

METHODS: dict[str, Method] = {
    "none": Method("StyleGAN2 without augmentation", "Karras et al. 2020, StyleGAN2", options={"augment": "none"}),
    "ada": Method("adaptive discriminator augmentation", _ADA, options={"augment": "ada"}),
    "scheduled": Method(
        "augmentation with p rising along a half cosine to 0.3, then fixed",
        "Huang et al. 2024, R3GAN; p and length are ours",
        options={"augment": "scheduled"},
    ),
    "diffaugment": Method(
        "colour, translation and cutout, always on",
        "Zhao et al. 2020, Differentiable Augmentation",
        options={"diffaugment": "color,translation,cutout"},
    ),
    "apa": Method(
        "generated images pass as real with probability p",
        "Jiang et al. 2021, Deceive D",
        options=_PER_P,
        objective={"pseudo": True},
    ),
    "cr": Method(
        "consistency of D on real images, flipped and shifted by up to 1/32",
        "Zhang et al. 2020, Consistency Regularization",
        objective={"consistency_real": 10.0, "consistency_transforms": ("xflip", "xint")},
    ),
    "bcr": Method(
        "consistency of D on real and generated images, shifted by up to 1/32",
        f"Zhao et al. 2021, Improved Consistency Regularization; as in {_ADA}",
        objective={"consistency_real": 10.0, "consistency_fake": 10.0},
    ),
    "zcr": Method(
        "D alike, G unlike for neighbouring latents",
        f"Zhao et al. 2021; constants of {_ADA}",
        options={"precision": "fp32"},
        objective={
            "latent_consistency_sigma": 0.1,
            "latent_consistency_generator": 0.02,
            "latent_consistency_discriminator": 0.2,
        },
    ),
    "zcr-authors": Method(
        "the same with its authors' constants for SNDCGAN",
        "Zhao et al. 2021, Improved Consistency Regularization",
        options={"precision": "fp32"},
        objective={
            "latent_consistency_sigma": 0.03,
            "latent_consistency_generator": 0.5,
            "latent_consistency_discriminator": 5.0,
        },
    ),
    "wgan-gp": Method(
        "Wasserstein loss, gradient penalty and drift term",
        f"Gulrajani et al. 2017; as in {_ADA}",
        preset={"lr": 0.001, **_NO_PENALTIES},
        options={"precision": "fp32"},
        objective={"loss": "wasserstein", "gradient_penalty": 10.0, "drift": 0.001},
        excludes={"ada": _UNCENTRED, "apa": _UNCENTRED, "pagan": _UNCENTRED, "adaptive-dropout": _UNCENTRED},
    ),
    "hinge": Method("hinge loss", "Lim & Ye 2017, Geometric GAN", objective={"loss": "hinge"}),
    "r3gan": Method(
        "relativistic pairing with R1 and R2 at every step",
        "Huang et al. 2024, The GAN is dead; long live the GAN",
        preset={"path_length_weight": 0.0, "style_mixing": 0.0},
        objective={"loss": "relativistic", "r1_interval": 1, "r2": True},
        excludes={"ada": _UNCENTRED, "apa": _UNCENTRED, "pagan": _UNCENTRED, "adaptive-dropout": _UNCENTRED},
    ),
    "r2": Method("R1's penalty on generated images too", "Mescheder et al. 2018", objective={"r2": True}),
    "lecam": Method(
        "logits held near the moving average of the other kind's",
        "Tseng et al. 2021, Regularizing GANs under Limited Data; weight for StyleGAN2",
        objective={"lecam": 3e-7, "lecam_decay": 0.99},
        excludes={"wgan-gp": "it is derived for losses whose logits are centred"},
    ),
    "pagan": Method(
        "random bits, one more for each 1/16 of p, decide the sign of D",
        f"Zhang & Khoreva 2019, PA-GAN; as in {_ADA}",
        options={**_PER_P, "target": 0.95},
        discriminator={"bits": 16},
        excludes=_NO_IMAGE,
    ),
    "spectral-norm": Method(
        "spectral norm of D's 3×3 convolutions",
        f"Miyato et al. 2018; as in {_ADA}",
        discriminator={"spectral_norm": True},
    ),
    "adaptive-dropout": Method(
        "log-normal factors before D's activations, of σ = p",
        f"{_ADA}, after Hinton et al. 2012",
        options=_PER_P,
        discriminator={"dropout": True},
    ),
    "auxiliary-rotation": Method(
        "D tells by which quarter turns an image was turned",
        f"Chen et al. 2019, SS-GAN; as in {_ADA}",
        objective={"rotation_generator": 10.0, "rotation_discriminator": 5.0},
        discriminator={"rotation_head": True},
    ),
    "shallow-mapping": Method("a mapping network of 2 layers instead of 8", _ADA, preset={"mapping_layers": 2}),
}
"""By name, as `--method` takes them."""


@dataclass(frozen=True)
class Chosen:
    """The settings of several methods together."""

    names: tuple[str, ...]
    preset: dict[str, Any]
    options: dict[str, Any]
    objective: dict[str, Any]
    discriminator: dict[str, Any]


def choose(names: Sequence[str]) -> Chosen:
    """Methods by name → all that they set. Raises `FruganError` for unknown ones, and those that do not go together."""
    for name in names:
        check_choice("unknown method", name, METHODS)
    chosen = Chosen(tuple(names), {}, {}, {}, {})
    by: dict[tuple[str, str], str] = {}
    for name in names:
        method = METHODS[name]
        for other, reason in method.excludes.items():
            if other in names:
                raise FruganError(f"methods {name} and {other} do not go together: {reason}")
        for part in ("preset", "options", "objective", "discriminator"):
            settings: dict[str, Any] = getattr(chosen, part)
            for key, value in getattr(method, part).items():
                if key == "transforms" and {"ada", "scheduled"} & {*names}:
                    continue  # then p acts on images as well
                if settings.get(key, value) != value:
                    raise FruganError(
                        f"methods {by[part, key]} and {name} do not go together: they want {key} "
                        f"{_plain(settings[key])} and {_plain(value)}"
                    )
                settings[key] = value
                by[part, key] = name
    chosen.options.setdefault("augment", "none")
    return chosen
