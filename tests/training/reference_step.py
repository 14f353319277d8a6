"""The training step once more, written plainly and apart from `frugan.training`, in float64: what the tests compare against.

Taken from `frugan` are the networks, and how an augmentation or a measurement is drawn and applied. Everything else stands here:
the phases and their order, random streams, style mixing, losses, penalties, accumulation over micro-batches, Adam, running
means, the EMA and the controller of p. The constants of presets and methods are written out from the papers, not looked up.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from frugan.augment import AugmentConfig, AugmentPipeline, DiffAugment, Measurement
from frugan.networks import Discriminator, Generator

GENERATOR, PATH_LENGTH, DISCRIMINATOR, R1, VALIDATION = 0, 1, 2, 3, 4  # numbers of the random streams

PIXEL_AND_GEOMETRY = ("xflip", "rotate90", "xint", "scale", "rotate", "aniso", "xfrac")
COLOR = ("brightness", "contrast", "lumaflip", "hue", "saturation")


@dataclass(frozen=True)
class Settings:
    """One training run, as its paper states it. The defaults are StyleGAN2's."""

    batch: int = 8
    micro_batch: int = 4
    seed: int = 0
    lr: float = 0.0025
    gamma: float = 1.0
    r1_every: int = 16
    path_length_weight: float = 2.0
    mixing: float = 0.9
    lazy_g: float = 4 / 5  # Adam's correction k/(k + 1); 1 where there is no such phase
    lazy_d: float = 16 / 17
    ema_images: float = 10_000.0
    ramp: float | None = None
    controller: str = "none"  # or r_t, r_v, scheduled, fixed
    target: float = 0.6
    ada_images: float = 500_000.0
    p: float = 0.0
    p_max: float | None = 0.85
    augment: tuple[str, ...] = ()
    diffaugment: str | None = None
    measurement: str | None = None
    loss: str = "logistic"
    r2: bool = False
    wgan_gp: float = 0.0
    drift: float = 0.0
    lecam: float = 0.0
    cr_real: float = 0.0
    cr_fake: float = 0.0
    cr_transforms: tuple[str, ...] = ("xint",)
    cr_reach: float = 1 / 4  # of ADA's translations, which go as far as ⅛ of a side: 1/32
    zcr_sigma: float = 0.0
    zcr_generator: float = 0.0
    zcr_discriminator: float = 0.0
    rotation_generator: float = 0.0
    rotation_discriminator: float = 0.0
    apa: bool = False


ADA: dict[str, Any] = {"controller": "r_t", "augment": PIXEL_AND_GEOMETRY + COLOR}
STEERED: dict[str, Any] = {"controller": "r_t"}  # p acts elsewhere than on images

METHODS: dict[str, dict[str, Any]] = {
    "none": {},
    "ada": ADA,
    "scheduled": {"controller": "scheduled", "p_max": 0.3, "augment": PIXEL_AND_GEOMETRY + COLOR},
    "diffaugment": {"diffaugment": "color,translation,cutout"},
    "apa": {**STEERED, "apa": True},
    "cr": {"cr_real": 10.0, "cr_transforms": ("xflip", "xint")},
    "bcr": {"cr_real": 10.0, "cr_fake": 10.0},
    "zcr": {"zcr_sigma": 0.1, "zcr_generator": 0.02, "zcr_discriminator": 0.2},
    "zcr-authors": {"zcr_sigma": 0.03, "zcr_generator": 0.5, "zcr_discriminator": 5.0},
    "wgan-gp": {
        "loss": "wasserstein",
        "lr": 0.001,
        "gamma": 0.0,
        "path_length_weight": 0.0,
        "lazy_g": 1.0,
        "lazy_d": 1.0,
        "wgan_gp": 10.0,
        "drift": 0.001,
    },
    "hinge": {"loss": "hinge"},
    "r3gan": {
        "loss": "relativistic",
        "r1_every": 1,
        "r2": True,
        "lazy_d": 1 / 2,
        "path_length_weight": 0.0,
        "lazy_g": 1.0,
        "mixing": 0.0,
    },
    "r2": {"r2": True},
    "lecam": {"lecam": 3e-7},
    "pagan": {**STEERED, "target": 0.95},
    "spectral-norm": {},
    "adaptive-dropout": STEERED,
    "auxiliary-rotation": {"rotation_generator": 10.0, "rotation_discriminator": 5.0},
    "shallow-mapping": {},
}
"""What each method sets, from its paper (of two sources, ADA's); networks' variants are the networks' own business."""

# fmt: off
PRESETS: dict[str, dict[str, Any]] = {  # of 8×16 images and a batch of 8 where the paper derives values from them
    "auto":          {"lr": 0.0025, "gamma": 0.0002 * 8 * 16 / 8, "ema_images": 2500.0, "ramp": 0.05},
    "stylegan2":     {"lr": 0.0020, "gamma": 10.0, "ema_images": 10_000.0},
    "paper256":      {"lr": 0.0025, "gamma": 1.0, "ema_images": 20_000.0},
    "paper512":      {"lr": 0.0025, "gamma": 0.5, "ema_images": 20_000.0},
    "paper1024":     {"lr": 0.0020, "gamma": 2.0, "ema_images": 10_000.0},
    "cifar":         {"lr": 0.0025, "gamma": 0.01, "ema_images": 500_000.0, "ramp": 0.05, "path_length_weight": 0.0, "mixing": 0.0},
    "cifarbaseline": {"lr": 0.0025, "gamma": 0.01, "ema_images": 500_000.0, "ramp": 0.05},
    "tiny":          {"lr": 0.0100, "gamma": 8.0, "ema_images": 5000.0, "ramp": 0.05, "path_length_weight": 0.0, "mixing": 0.0,
                      "lazy_g": 1.0, "ada_images": 50_000.0},
}
# fmt: on


@dataclass
class Latent:
    """What G is fed for a micro-batch."""

    z: Tensor
    z_mix: Tensor
    cutoff: int
    """The first layer that takes the second w."""
    c: Tensor
    noise: list[Tensor]
    step: Tensor | None


@dataclass
class Shown:
    """How D is shown one image set of a micro-batch."""

    augment: Any
    factors: list[Tensor] | None
    bits: Tensor | None
    measure: Any
    consistency: Any
    quarter: Tensor | None
    between: Tensor | None

    def half(self, i: int) -> Shown:
        """Of a view of twice as many images: those of the real ones (0) or of the generated ones (1)."""

        def of(value: Any) -> Any:
            if isinstance(value, Tensor):
                n = len(value) // 2
                return value[i * n : (i + 1) * n]
            if isinstance(value, dict):
                return {k: of(v) for k, v in value.items()}
            if isinstance(value, list):
                return [of(v) for v in value]
            if isinstance(value, tuple):
                return type(value)(*(of(v) for v in value))
            return value

        return Shown(*(of(getattr(self, name)) for name in self.__dataclass_fields__))


class Adam:
    """Kingma & Ba 2015, algorithm 1. A parameter without a gradient is left alone."""

    def __init__(self, parameters: list[nn.Parameter], lr: float, beta2: float) -> None:
        self.parameters, self.lr, self.beta2 = parameters, lr, beta2
        self.m = [torch.zeros_like(p) for p in parameters]
        self.v = [torch.zeros_like(p) for p in parameters]
        self.t = [0] * len(parameters)

    @torch.no_grad()
    def step(self, gradients: list[Tensor | None]) -> None:
        for i, (p, g) in enumerate(zip(self.parameters, gradients)):
            if g is None:
                continue
            self.t[i] += 1
            self.m[i] = g.clone()  # β₁ = 0
            self.v[i] = self.beta2 * self.v[i] + (1 - self.beta2) * g * g
            corrected = self.v[i] / (1 - self.beta2 ** self.t[i])
            p -= self.lr * g / (corrected.sqrt() + 1e-8)


class ReferenceRun:
    """Networks, optimisers, averages and the controller of one run, moved by `step`."""

    def __init__(
        self, G: Generator, D: Discriminator, settings: Settings, labels: Tensor, held_out: tuple[Tensor, Tensor] | None
    ) -> None:
        self.s, self.labels, self.held_out = settings, labels, held_out
        self.G, self.D, self.ema = copy.deepcopy(G), copy.deepcopy(D), copy.deepcopy(G)
        s = settings
        self.adam_G = Adam(list(self.G.parameters()), s.lr * s.lazy_g, 0.99**s.lazy_g)
        self.adam_D = Adam(list(self.D.parameters()), s.lr * s.lazy_d, 0.99**s.lazy_d)
        self.t = self.images_seen = 0
        self.p = np.float32(s.p)
        self.path_length_mean = torch.zeros((), dtype=torch.float64)
        self.logits_real = self.logits_fake = torch.zeros((), dtype=torch.float64)
        self.window: dict[str, list[Tensor]] = {"real": [], "fake": [], "held_out": []}
        self.r_t = self.r_v = math.nan
        self.losses: dict[str, float] = {}
        where: dict[str, Any] = {"channels": G.channels, "resolution": G.resolution}
        self.transforms = AugmentPipeline(AugmentConfig(s.augment), **where)
        self.diffaugment = DiffAugment(s.diffaugment, **where) if s.diffaugment else None
        self.measurement = Measurement(s.measurement, G.resolution) if s.measurement else None
        self.consistency = None
        if s.cr_real or s.cr_fake:
            self.consistency = AugmentPipeline(AugmentConfig(s.cr_transforms, reach=s.cr_reach), **where)

    # What is drawn, in this order, from a stream for each phase and micro-batch of each step

    def stream(self, phase: int, k: int) -> torch.Generator:
        number = np.random.SeedSequence([self.s.seed, self.t, phase, k]).generate_state(1, np.uint64)[0]
        return torch.Generator().manual_seed(int(number) % 2**63)

    def draw_latent(self, n: int, rng: torch.Generator) -> Latent:
        z = torch.randn(2, n, self.G.z_dim, generator=rng)
        mixes = bool(torch.rand((), generator=rng) < self.s.mixing)
        cutoff = int(torch.randint(1, self.G.num_ws, (), generator=rng))
        picks = torch.randint(len(self.labels), (n,), generator=rng)
        noise = []
        for i, (h, w) in enumerate(self.G.synthesis.sizes):
            for _ in range(1 if i == 0 else 2):
                noise.append(torch.randn(n, 1, h, w, generator=rng).double())
        step = None
        if self.s.zcr_sigma:
            step = self.s.zcr_sigma * torch.randn(n, self.G.z_dim, generator=rng)
        return Latent(z[0], z[1], cutoff if mixes else self.G.num_ws, self.labels[picks], noise, step)

    def draw_shown(self, n: int, rng: torch.Generator) -> Shown:
        p = torch.tensor(self.p)
        augment = self.transforms.draw(n, p, generator=rng)
        if self.diffaugment:
            augment = [augment, self.diffaugment.draw(n, p, generator=rng)]
        factors = bits = measure = consistency = quarter = between = None
        if self.D.config.dropout:
            normal = torch.randn(n, sum(self.D.activated), generator=rng)
            factors = [f.double() for f in torch.exp(normal * p).split(self.D.activated, dim=1)]
        if B := self.D.config.bits:
            rate = [0.5 * min(max((B * float(p) - i - 1) / 0.5 + 1, 0), 1) for i in range(B)]
            bits = (torch.rand(n, B, generator=rng) < torch.tensor(rate)).double()
        if self.measurement:
            measure = self.measurement.draw(n, self.G.channels, generator=rng)
        if self.consistency:
            consistency = self.consistency.draw(n, 1.0, generator=rng)
        if self.s.rotation_generator or self.s.rotation_discriminator:
            quarter = torch.randint(4, (n,), generator=rng)
        if self.s.wgan_gp:
            between = torch.rand(n, 1, 1, 1, generator=rng).double()
        return Shown(augment, factors, bits, measure, consistency, quarter, between)

    # What the networks make of it

    def styles(self, latent: Latent) -> Tensor:
        """One w for the layers before the cut-off, another from there on."""
        w, w_mix = (self.G.mapping.features(z, latent.c) for z in (latent.z, latent.z_mix))
        return torch.stack([w if layer < latent.cutoff else w_mix for layer in range(self.G.num_ws)], dim=1)

    def images(self, latent: Latent, ws: Tensor | None = None) -> Tensor:
        ws = self.styles(latent) if ws is None else ws
        return self.G.synthesis(ws, noise=latent.noise, dtype=torch.float64)

    def neighbours(self, latent: Latent) -> Tensor:
        assert latent.step is not None
        return self.images(replace(latent, z=latent.z + latent.step))

    def measured(self, images: Tensor, shown: Shown) -> Tensor:
        return self.measurement.apply(images, shown.measure) if self.measurement else images

    def augmented(self, images: Tensor, shown: Shown) -> Tensor:
        if self.diffaugment:
            ours, theirs = shown.augment
            return self.diffaugment.apply(self.transforms.apply(images, ours), theirs)
        return self.transforms.apply(images, shown.augment)

    def logits(self, augmented: Tensor, c: Tensor, shown: Shown) -> Tensor:
        return self.D(augmented, c, dtype=torch.float64, extras=Extras(shown.factors, shown.bits))

    def rotation_loss(self, augmented: Tensor, shown: Shown) -> Tensor:
        """Auxiliary rotation: −log of the probability that D gives to the quarter turn that was made."""
        assert shown.quarter is not None
        turned = torch.stack([image.rot90(int(k), (1, 2)) for image, k in zip(augmented, shown.quarter)])
        outputs = self.D.rotation_logits(turned, dtype=torch.float64, extras=Extras(shown.factors, shown.bits))  # pyright: ignore[reportArgumentType]
        return -F.log_softmax(outputs, dim=1)[torch.arange(len(turned)), shown.quarter].mean()

    def squared_gradient(self, images: Tensor, c: Tensor, shown: Shown) -> Tensor:
        """‖∇ₓ D(T(x))‖² for each image."""
        x = images.detach().requires_grad_()
        (g,) = torch.autograd.grad(self.logits(self.augmented(x, shown), c, shown).sum(), x, create_graph=True)
        return g.pow(2).sum(dim=(1, 2, 3))

    # The adversarial game

    def discriminator_game(self, real: Tensor, fake: Tensor) -> Tensor:
        if self.s.loss == "wasserstein":
            return (fake - real).mean()
        if self.s.loss == "hinge":
            return (1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean()
        if self.s.loss == "relativistic":
            return minus_log_sigmoid(real - fake).mean()
        return minus_log_sigmoid(real).mean() + minus_log_sigmoid(-fake).mean()  # 1 − σ(x) = σ(−x)

    def generator_game(self, fake: Tensor, real: Tensor | None) -> Tensor:
        if self.s.loss in ("wasserstein", "hinge"):
            return -fake.mean()
        if self.s.loss == "relativistic":
            assert real is not None
            return minus_log_sigmoid(fake - real).mean()
        return minus_log_sigmoid(fake).mean()

    # The step

    def step(self, real: Tensor, c_real: Tensor) -> None:
        """One step on a minibatch of real images and labels, in float64."""
        s, n = self.s, self.s.micro_batch
        parts = [(real[i : i + n], c_real[i : i + n]) for i in range(0, s.batch, n)]
        self.losses = {}
        self.generator_phase(parts)
        if s.path_length_weight and self.t % 4 == 0:
            self.path_length_phase()
        self.D.power_iteration()
        parts = self.discriminator_phase(parts)
        if s.gamma and self.t % s.r1_every == 0:
            self.r1_phase(parts)
        if self.held_out and (s.controller == "r_v" or self.t % 4 == 3):
            self.score_held_out()
        if self.t % 4 == 3:
            self.move_p()
        self.move_ema()
        self.t += 1
        self.images_seen += s.batch

    def generator_phase(self, parts: list[tuple[Tensor, Tensor]]) -> None:
        s, n, total, w, losses = self.s, self.s.micro_batch, Gradients(self.G), [], []
        for k, (real, c_real) in enumerate(parts):
            rng = self.stream(GENERATOR, k)
            latent, shown = self.draw_latent(n, rng), self.draw_shown(n, rng)
            images = self.images(latent)
            augmented = self.augmented(self.measured(images, shown), shown)
            judged = None
            if s.loss == "relativistic":
                shown_real = self.draw_shown(n, rng)
                judged = self.logits(self.augmented(real, shown_real), c_real, shown_real)
            loss = self.generator_game(self.logits(augmented, latent.c, shown), judged)
            if s.zcr_generator:
                loss = loss - s.zcr_generator * (images - self.neighbours(latent)).pow(2).mean()
            if s.rotation_generator:
                loss = loss + s.rotation_generator * self.rotation_loss(augmented, shown)
            total.add(loss / len(parts))
            losses.append(loss.item())
            w.append(self.G.mapping.features(latent.z, latent.c).detach())
        self.adam_G.step(total.values)
        self.move_w(w)
        self.losses["loss/generator"] = sum(losses) / len(losses)

    def path_length_phase(self) -> None:
        s, n, k_parts = self.s, max(self.s.micro_batch // 2, 1), self.s.batch // self.s.micro_batch
        total, w, penalties, moved = Gradients(self.G), [], [], []
        h, width = self.G.resolution
        for k in range(k_parts):
            rng = self.stream(PATH_LENGTH, k)
            latent = self.draw_latent(n, rng)
            y = torch.randn(n, self.G.channels, h, width, generator=rng) / math.sqrt(h * width)
            ws = self.styles(latent)
            product = (self.images(latent, ws) * y).sum()
            (jacobian,) = torch.autograd.grad(product, ws, create_graph=True)
            lengths = jacobian.pow(2).sum(dim=2).mean(dim=1).sqrt()
            mean = self.path_length_mean + 0.01 * (lengths.mean() - self.path_length_mean)
            penalty = ((lengths - mean) ** 2).mean()
            total.add(s.path_length_weight * 4 * penalty / k_parts)
            penalties.append(penalty.item())
            moved.append(mean.detach())
            w.append(self.G.mapping.features(latent.z, latent.c).detach())
        self.adam_G.step(total.values)
        self.move_w(w)
        self.path_length_mean = torch.stack(moved).mean()
        self.losses["penalty/path_length"] = sum(penalties) / k_parts
        self.losses["path_length"] = self.path_length_mean.item()

    def discriminator_phase(self, parts: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
        s, n, total, w, losses = self.s, self.s.micro_batch, Gradients(self.D), [], []
        all_real, all_fake, trained_on = [], [], []
        for k, (real, c_real) in enumerate(parts):
            rng = self.stream(DISCRIMINATOR, k)
            truly = torch.ones(n, dtype=torch.bool)
            if s.apa:
                latent = self.draw_latent(n, rng)
                truly = torch.rand(n, generator=rng) >= float(self.p)
                with torch.no_grad():
                    pseudo = self.images(latent)
                real = torch.stack([real[i] if truly[i] else pseudo[i] for i in range(n)])
                c_real = torch.stack([c_real[i] if truly[i] else latent.c[i] for i in range(n)])
            trained_on.append((real, c_real))
            latent = self.draw_latent(n, rng)
            both = self.draw_shown(2 * n, rng)
            shown, shown_fake = both.half(0), both.half(1)
            with torch.no_grad():
                fake = self.images(latent)
            x, x_fake = self.augmented(real, shown), self.augmented(self.measured(fake, shown_fake), shown_fake)
            judged, judged_fake = self.logits(x, c_real, shown), self.logits(x_fake, latent.c, shown_fake)
            loss = self.discriminator_game(judged, judged_fake)
            if s.wgan_gp:
                assert shown.between is not None
                middle = (shown.between * x + (1 - shown.between) * x_fake).detach().requires_grad_()
                (g,) = torch.autograd.grad(self.logits(middle, c_real, shown).sum(), middle, create_graph=True)
                norm = (g.pow(2).sum(dim=(1, 2, 3)) + 1e-12).sqrt()
                loss = loss + s.wgan_gp * ((norm - 1) ** 2).mean() + s.drift * (judged**2).mean()
            if s.lecam:
                loss = loss + s.lecam * (judged - self.logits_fake).pow(2).mean()
                loss = loss + s.lecam * (judged_fake - self.logits_real).pow(2).mean()
            if s.cr_real and self.consistency:
                again = self.logits(self.consistency.apply(x, shown.consistency), c_real, shown)
                loss = loss + s.cr_real * (judged - again).pow(2).mean()
            if s.cr_fake and self.consistency:
                again = self.logits(self.consistency.apply(x_fake, shown_fake.consistency), latent.c, shown_fake)
                loss = loss + s.cr_fake * (judged_fake - again).pow(2).mean()
            if s.zcr_discriminator:
                with torch.no_grad():
                    near = self.neighbours(latent)
                near = self.logits(self.augmented(self.measured(near, shown_fake), shown_fake), latent.c, shown_fake)
                loss = loss + s.zcr_discriminator * (judged_fake - near).pow(2).mean()
            if s.rotation_discriminator:
                loss = loss + s.rotation_discriminator * self.rotation_loss(x, shown)
            total.add(loss / len(parts))
            losses.append(loss.item())
            self.window["real"].append(judged.detach()[truly])
            self.window["fake"].append(judged_fake.detach())
            all_real.append(judged.detach())
            all_fake.append(judged_fake.detach())
            w.append(self.G.mapping.features(latent.z, latent.c).detach())
        self.adam_D.step(total.values)
        self.move_w(w)
        kept = 0.99 if self.t else 0.0
        self.logits_real = kept * self.logits_real + (1 - kept) * torch.cat(all_real).mean()
        self.logits_fake = kept * self.logits_fake + (1 - kept) * torch.cat(all_fake).mean()
        self.losses["loss/discriminator"] = sum(losses) / len(losses)
        return trained_on

    def r1_phase(self, parts: list[tuple[Tensor, Tensor]]) -> None:
        """R1 on real images, and R2 on generated ones as D gets to see them: measured where real ones are."""
        s, n, total, r1s, r2s = self.s, self.s.micro_batch, Gradients(self.D), [], []
        for k, (real, c_real) in enumerate(parts):
            rng = self.stream(R1, k)
            penalty = s.gamma / 2 * self.squared_gradient(real, c_real, self.draw_shown(n, rng)).mean()
            r1s.append(penalty.item())
            if s.r2:
                latent, shown = self.draw_latent(n, rng), self.draw_shown(n, rng)
                fake = self.measured(self.images(latent), shown)
                r2 = s.gamma / 2 * self.squared_gradient(fake, latent.c, shown).mean()
                r2s.append(r2.item())
                penalty = penalty + r2
            total.add(s.r1_every * penalty / len(parts))
        self.adam_D.step(total.values)
        self.losses["penalty/r1"] = sum(r1s) / len(r1s)
        if r2s:
            self.losses["penalty/r2"] = sum(r2s) / len(r2s)

    @torch.no_grad()
    def score_held_out(self) -> None:
        assert self.held_out
        n, (images, c) = self.s.micro_batch, self.held_out
        picks = [(self.t * n + i) % len(images) for i in range(n)]
        shown = self.draw_shown(n, self.stream(VALIDATION, 0))
        self.window["held_out"].append(self.logits(self.augmented(images[picks], shown), c[picks], shown))

    @torch.no_grad()
    def move_p(self) -> None:
        """At the end of 4 minibatches: both heuristics from their logits, and p by a fixed step, or along its schedule."""
        s = self.s
        real, fake, held_out = (torch.cat(v) if v else torch.full((1,), math.nan) for v in self.window.values())
        self.r_t = real.sign().mean().item()
        r_v = (real.mean() - held_out.mean()) / max((real.mean() - fake.mean()).item(), 1e-8)
        self.r_v = r_v.clamp(-3, 3).item()
        self.window = {"real": [], "fake": [], "held_out": []}
        if s.controller in ("r_t", "r_v"):
            excess = (self.r_t if s.controller == "r_t" else self.r_v) - s.target
            p = self.p + np.float32(np.sign(excess)) * np.float32(4 * s.batch / s.ada_images)
            self.p = np.float32(min(max(p, np.float32(0)), np.float32(s.p_max or np.inf)))
        elif s.controller == "scheduled":
            done = min((self.t + 1) * s.batch / s.ada_images, 1)
            self.p = np.float32(s.p + ((s.p_max or 1) - s.p) * (1 - math.cos(math.pi * done)) / 2)

    @torch.no_grad()
    def move_w(self, batches: list[Tensor]) -> None:
        mean = torch.cat(batches).mean(dim=0)
        self.G.mapping.w_avg.copy_(0.995 * self.G.mapping.w_avg + 0.005 * mean)

    @torch.no_grad()
    def move_ema(self) -> None:
        """The ramp counts the images before this batch."""
        s = self.s
        half_life = s.ema_images if s.ramp is None else min(s.ema_images, s.ramp * self.images_seen)
        beta = 0.5 ** (s.batch / half_life) if half_life else 0.0
        for kept, live in zip(self.ema.parameters(), self.G.parameters()):
            kept.copy_(beta * kept + (1 - beta) * live)
        for kept, live in zip(self.ema.buffers(), self.G.buffers()):
            kept.copy_(live)


def minus_log_sigmoid(x: Tensor) -> Tensor:
    """−log σ(x) = log(1 + e⁻ˣ)."""
    return torch.logaddexp(torch.zeros_like(x), -x)


class Extras:
    """What D's variants are given; named as the network reads them."""

    def __init__(self, factors: list[Tensor] | None, bits: Tensor | None) -> None:
        self.factors, self.bits = factors, bits


class Gradients:
    """Sums of gradients by all parameters of a network; None where nothing depends on one."""

    def __init__(self, network: nn.Module) -> None:
        self.parameters = list(network.parameters())
        self.values: list[Tensor | None] = [None] * len(self.parameters)

    def add(self, loss: Tensor) -> None:
        for i, g in enumerate(torch.autograd.grad(loss, self.parameters, allow_unused=True)):
            if g is not None:
                before = self.values[i]
                self.values[i] = g if before is None else before + g


@contextmanager
def float64() -> Iterator[None]:
    """Within it `Tensor.float` gives float64 to the networks and phases, so that they compute in float64 throughout."""
    before = Tensor.float

    def widened(tensor: Tensor) -> Tensor:
        caller = sys._getframe(1).f_globals["__name__"]
        return tensor.double() if caller.startswith(("frugan.networks", "frugan.training")) else before(tensor)

    Tensor.float = widened  # type: ignore[method-assign]
    try:
        yield
    finally:
        Tensor.float = before  # type: ignore[method-assign]


def widen(G: Generator, D: Discriminator) -> None:
    """Makes networks compute in float64 throughout, with what `float64` does."""
    for network in (G, D):
        network.double()
    G.synthesis.num_low_precision, D.num_low_precision = len(G.synthesis.sizes), len(D.sizes)
    draw = G.synthesis.draw_noise
    G.synthesis.draw_noise = lambda n, rng: [noise.double() for noise in draw(n, rng)]  # type: ignore[method-assign]
    extras = D.draw_extras
    D.draw_extras = lambda *given: tree_map(_double, extras(*given))  # type: ignore[method-assign]


def _double(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) else value
