"""Losses of the four phases of a StyleGAN2-ADA training step, each a pure function of networks and drawn tensors.

The phases are, in this order: generator, path length (every 4th step), discriminator, R1 (every 16th). Every image that
the discriminator sees passes through the same stochastic augmentation first (Karras et al. 2020, "Training Generative
Adversarial Networks with Limited Data", Fig. 2b); the generator's gradient flows through it. Other methods are terms of
the same losses (`losses/terms.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from frugan.augment import Augmentation, CircularShift, Measurement
from frugan.errors import FruganError
from frugan.losses import (
    AUTOGRAD_TRACED,
    LOSSES,
    Drawn,
    LatentConsistency,
    ObjectiveConfig,
    Seen,
    Term,
    path_length_penalty,
    path_lengths,
    r1_penalty,
)
from frugan.networks import Discriminator, Extras, Generator
from frugan.ops import epilogue_triton, fir_triton, styles_triton
from frugan.training.vicinity import SOFT_SCALE

P = ParamSpec("P")
T = TypeVar("T")

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

_AT_ONCE = 2**22
"""Most elements of D's largest feature map with which real and generated images pass through it in one batch (by
measurements on a CPU)."""


class Latents(NamedTuple):
    """The inputs of the generator for n images: two z for style mixing, the layer where to switch, labels and noise."""

    z: Tensor  # [n, z_dim]
    z_mix: Tensor  # [n, z_dim]
    cutoff: Tensor  # 0-d int64: layers from here on use z_mix
    c: Tensor  # [n, K]
    noise: list[Tensor]  # [n, 1, h, w] each
    step: Tensor | None  # [n, z_dim]: Δz of zCR


class View(NamedTuple):
    """The random tensors with which n images are shown to the discriminator; None for a part that does not occur."""

    augment: Drawn
    extras: Extras
    measure: list[Tensor] | None  # for generated images
    shift: Tensor | None  # [n, 2]: how far generated images that repeat are moved around their border
    terms: tuple[Drawn, ...]  # of each optional term

    def halves(self) -> tuple[View, View]:
        """Two views of n/2 images each."""

        def half(i: int) -> View:
            return tree_map(lambda t: None if t is None else t.chunk(2)[i], self)

        return half(0), half(1)


class Phases:
    """The losses of the four phases for a pair of networks.

    Random tensors are arguments, so that each loss is a pure function and can be compiled as a whole.

    Args:
        G, D: the networks in training.
        augment: the augmentation of all images that D sees.
        config: the objective: which loss, and the weights of penalties and terms.
        measure: the corruption that real images have gone through already, and that is applied to generated ones here
            (AmbientGAN).
        shift: moves generated images that repeat by a random offset around their border; None for images that do not
            repeat.
        terms: the optional terms of both losses (`losses.terms_of`).
        precision: of the networks' low-precision blocks.
        compiled: whether the losses are compiled by `torch.compile`.
    """

    def __init__(
        self,
        G: Generator,
        D: Discriminator,
        augment: Augmentation,
        config: ObjectiveConfig,
        *,
        measure: Measurement | None = None,
        shift: CircularShift | None = None,
        terms: Sequence[Term] = (),
        precision: Precision = "fp32",
        compiled: bool = False,
    ) -> None:
        self.G, self.D, self.augment, self.config = G, D, augment, config
        self.measure, self.shift, self.terms = measure, shift, tuple(terms)
        self.latent_consistency = next((term for term in terms if isinstance(term, LatentConsistency)), None)
        self.loss = LOSSES[config.loss]
        self.dtype = DTYPES[precision]
        self.kappa = torch.tensor(config.vicinity_kappa, device=G.mapping.w_avg.device)
        wrap = _compiled if compiled else (lambda f: f)
        self.generator_loss, self.discriminator_loss = wrap(self._generator_loss), wrap(self._discriminator_loss)
        self.fakes = torch.no_grad()(wrap(self._fakes))
        self.path_length_penalty, self._penalty = self._path_length_penalty, self._gradient_penalty
        if AUTOGRAD_TRACED:
            self.path_length_penalty, self._penalty = wrap(self._path_length_penalty), wrap(self._gradient_penalty)
        self.logits = torch.no_grad()(wrap(self._logits))

    def draw_latents(self, n: int, labels: Tensor, rng: torch.Generator) -> Latents:
        """Draws the generator's inputs for n images.

        Args:
            n: number of images.
            labels: `[N, K]`, of the training images: generated images' labels are drawn from its rows, so that both
                have the same distribution.
            rng: on the networks' device.
        """
        device, num_ws = rng.device, self.G.num_ws
        z, z_mix = torch.randn(2, n, self.G.z_dim, generator=rng, device=device)
        mix = torch.rand((), generator=rng, device=device) < self.config.style_mixing
        cutoff = torch.randint(1, num_ws, (), generator=rng, device=device)
        picks = torch.randint(len(labels), (n,), generator=rng, device=device)
        noise = self.G.synthesis.draw_noise(n, rng) if self.G.synthesis.use_noise else []
        step = self.latent_consistency.draw_step(z, rng) if self.latent_consistency else None
        return Latents(z, z_mix, torch.where(mix, cutoff, num_ws), labels[picks], noise, step)

    def draw_vicinity(self, c: Tensor, rng: torch.Generator) -> Tensor:
        """Labels in the vicinity of targets `c` `[n, K]`, drawn as the real images near a target are: uniformly in it
        (hard), or normally (soft).
        """
        if self.config.vicinity == "none":
            return c
        step = torch.randn(c.shape, generator=rng, device=rng.device)
        if self.config.vicinity == "soft":
            return c + SOFT_SCALE * self.kappa * step
        step = torch.where(self.kappa > 0, step, 0)
        numbers = sum(map(bool, self.config.vicinity_kappa))
        radius = torch.rand((len(c), 1), generator=rng, device=rng.device) ** (1 / numbers)
        return c + self.kappa * step * (radius / step.norm(dim=1, keepdim=True).clamp_min(1e-12))

    def draw_view(self, n: int, p: float | Tensor, rng: torch.Generator) -> View:
        """Draws the random tensors with which n images are shown to D.

        Args:
            n: number of images.
            p: augmentation probability in [0, 1], a number or a 0-d tensor.
            rng: on the networks' device.
        """
        p = torch.as_tensor(p, dtype=torch.float32, device=rng.device)
        augment = self.augment.draw(n, p, generator=rng)
        extras = self.D.draw_extras(n, p, rng)
        measure = self.measure.draw(n, self.G.channels, generator=rng) if self.measure else None
        terms = tuple(term.draw(n, rng) for term in self.terms)
        shift = self.shift.draw(n, p, generator=rng) if self.shift else None
        return View(augment, extras, measure, shift, terms)

    def _ws(self, latents: Latents) -> Tensor:
        if not self.config.style_mixing:
            return self.G.mapping(latents.z, latents.c)
        both = self.G.mapping(torch.cat([latents.z, latents.z_mix]), latents.c.repeat(2, 1))
        ws, ws_mix = both.chunk(2)
        layers = torch.arange(self.G.num_ws, device=ws.device)[None, :, None]
        return torch.where(layers < latents.cutoff, ws, ws_mix)

    def _synthesis(self, ws: Tensor, latents: Latents) -> Tensor:
        return self.G.synthesis(ws, noise=latents.noise or "none", dtype=self.dtype)

    def _fakes(self, latents: Latents) -> Tensor:
        return self._synthesis(self._ws(latents), latents)

    def measured(self, fakes: Tensor, view: View) -> Tensor:
        """Generated images as D is shown them, before augmentation: moved around their border where they repeat, then
        corrupted as real images are.
        """
        if self.shift is not None and view.shift is not None:
            fakes = self.shift.apply(fakes, view.shift)
        if self.measure is None or view.measure is None:
            return fakes
        return self.measure.apply(fakes, view.measure)

    def _shown(self, fakes: Tensor, view: View) -> Tensor:
        """Generated images as D is shown them, corrupted and augmented."""
        return self.augment.apply(self.measured(fakes, view), view.augment)

    def _judge(self, shown: Tensor, c: Tensor, view: View, batches: int = 1) -> Tensor:
        """Logits `[n]` of images that are augmented already; `batches`: equal parts of them with minibatch statistics of
        their own.
        """
        return self.D(shown, c, dtype=self.dtype, extras=view.extras, batches=batches)

    def _logits(self, images: Tensor, c: Tensor, view: View) -> Tensor:
        return self._judge(self.augment.apply(images, view.augment), c, view)

    def _generator_loss(
        self, latents: Latents, view: View, real: Tensor | None, c_real: Tensor | None, view_real: View | None
    ) -> tuple[Tensor, Tensor]:
        """G's loss, and the logits `[n]` of the generated images.

        Args:
            latents: the generator's inputs.
            view: of the generated images.
            real, c_real, view_real: as many real images, their labels and their view, for a paired loss; else None.
        """
        fakes = self._fakes(latents)
        shown = self._shown(fakes, view)
        logits = self._judge(shown, latents.c, view)
        real_logits = None
        if self.loss.paired and real is not None and c_real is not None and view_real is not None:
            real_logits = self._logits(real, c_real, view_real)
        loss = self.loss.generator(logits, real_logits).mean()
        perturbed = None
        if self.latent_consistency and self.latent_consistency.generator_weight:
            perturbed = self._fakes(neighbours(latents))
        seen = self._seen(shown, logits, latents.c, view, fakes, perturbed)
        for term, drawn in zip(self.terms, view.terms):
            loss = loss + term.generator_loss(seen, drawn)
        return loss, logits.detach()

    def _path_length_penalty(self, latents: Latents, y: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """The path-length penalty, and the new running mean."""
        lengths = path_lengths(lambda ws: self._synthesis(ws, latents), self._ws(latents), y)
        return path_length_penalty(lengths, mean, self.config.path_length_decay)

    def _discriminator_loss(
        self,
        real: Tensor,
        c: Tensor,
        fake: Tensor,
        c_fake: Tensor,
        views: View,
        perturbed: Tensor | None,
        means: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """D's loss, and the logits of real and of generated images, `[n]` each.

        Args:
            real, c: real images `[n, C, H, W]` and their labels `[n, K]`.
            fake, c_fake: generated images and the labels that D is given with them.
            views: of the n real images, then of the n generated ones.
            perturbed: G(z + Δz) where `fake` is G(z), for zCR; else None.
            means: `[2]`, moving averages of the logits of real and of generated images, for LeCam.
        """
        view, view_fake = views.halves()
        measured = self.measured(fake, view_fake)
        if 2 * len(real) * self.D.largest <= _AT_ONCE:
            both = self.augment.apply(torch.cat([real, measured]), views.augment)
            logits = self._judge(both, torch.cat([c, c_fake]), views, batches=2)
            shown, shown_fake = both.chunk(2)
            real_logits, fake_logits = logits.chunk(2)
        else:
            shown = self.augment.apply(real, view.augment)
            shown_fake = self.augment.apply(measured, view_fake.augment)
            fake_logits = self._judge(shown_fake, c_fake, view_fake)
            real_logits = self._judge(shown, c, view)
        loss = self.loss.discriminator(real_logits, fake_logits).mean()
        seen_real = self._seen(shown, real_logits, c, view, real)
        seen_fake = self._seen(shown_fake, fake_logits, c_fake, view_fake, fake, perturbed)
        for term, drawn_real, drawn_fake in zip(self.terms, view.terms, view_fake.terms):
            loss = loss + term.discriminator_loss(seen_real, seen_fake, drawn_real, drawn_fake, means)
        return loss, real_logits.detach(), fake_logits.detach()

    def _seen(
        self, shown: Tensor, logits: Tensor, c: Tensor, view: View, before: Tensor, perturbed: Tensor | None = None
    ) -> Seen:
        return Seen(
            shown,
            logits,
            judge=lambda x: self._judge(x, c, view),
            rotation_logits=lambda x: self.D.rotation_logits(x, dtype=self.dtype, extras=view.extras),
            show=lambda x: self._shown(x, view),
            before=before,
            perturbed=perturbed,
        )

    def gradient_penalty(self, images: Tensor, c: Tensor, view: View, gamma: float) -> Tensor:
        """The penalty γ/2 · mean ‖∇ₓ D(augment(x))‖² on real images (R1) or generated ones (R2).

        Args:
            images: `[n, C, H, W]`, before augmentation, through which the gradient passes.
            c: labels `[n, K]`.
            view: the random tensors of augmentation and of D.
            gamma: γ.
        """
        return self._penalty(images.detach().requires_grad_(), c, view, gamma)

    def _gradient_penalty(self, images: Tensor, c: Tensor, view: View, gamma: float) -> Tensor:
        return r1_penalty(lambda x: self._logits(x, c, view), images, gamma)


def _compiled(phase: Callable[P, T]) -> Callable[P, T]:
    """The phase as `torch.compile` makes it at the first call with each shape; where it fails, a `FruganError` says why."""
    from torch._dynamo.exc import TorchDynamoException  # imports the compiler, which takes a second

    for usable in (fir_triton.usable, epilogue_triton.usable, styles_triton.usable):
        torch.compiler.assume_constant_result(usable)
    compiled = torch.compile(phase, dynamic=False)

    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            with torch._dynamo.config.patch(AUTOGRAD_TRACED):
                return compiled(*args, **kwargs)
        except TorchDynamoException as error:
            why = str(error).splitlines()[0]
            raise FruganError(
                f"torch.compile fails here: {why}; fix that (a CPU needs a C++ compiler, a GPU Triton), or compile nothing"
            ) from error

    return run


def neighbours(latents: Latents) -> Latents:
    """The generator's inputs with z + Δz in place of z (zCR), or unchanged where no Δz was drawn."""
    return latents if latents.step is None else latents._replace(z=latents.z + latents.step)


@contextmanager
def training_only(network: nn.Module, other: nn.Module) -> Iterator[None]:
    """Context in which gradients are computed for `network`'s parameters and not for those of `other`; parameters
    frozen before stay frozen.
    """
    frozen = [p for p in other.parameters() if p.requires_grad]
    for p in frozen:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in frozen:
            p.requires_grad_(True)
