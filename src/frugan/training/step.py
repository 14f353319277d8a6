"""One training step: the four phases of StyleGAN2-ADA, each a pure function of networks and drawn tensors.

The methods that the paper compares with, and later ones, are terms of the same phases.

Order: generator, path length (every 4th step), discriminator, R1 (every 16th). Everything the discriminator sees passes
through the same stochastic augmentation first (Karras et al. 2020, "Training Generative Adversarial Networks with Limited
Data", Fig. 2b); the generator's gradient flows through it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from frugan.augment import Augmentation, CircularShift, Measurement, quarter_turns
from frugan.checks import Count, NotNegative, Positive, Probability, check_choice, check_fields
from frugan.errors import FruganError
from frugan.losses import (
    AUTOGRAD_TRACED,
    LOSSES,
    consistency,
    diversity,
    gradient_penalty,
    lecam_penalty,
    path_length_penalty,
    path_lengths,
    r1_penalty,
)
from frugan.networks import Discriminator, Extras, Generator
from frugan.ops import epilogue_triton, fir_triton

P = ParamSpec("P")
T = TypeVar("T")

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is minimised. Intervals are in steps; a lazy penalty is scaled by its interval (StyleGAN2, appendix B).

    `path_length_shrink` divides the batch of the path-length penalty; weight 0 switches a term off. With
    `keep_path_length_phase` or `keep_r1_phase` a penalty of weight 0 still counts as a phase for Adam's lazy correction, as in
    the published runs; False is what earlier configurations, which lack these fields, trained with. `r2` takes R1's penalty
    on generated images too, measured where real ones are. Terms of every step, in D unless said: `gradient_penalty` between
    real and generated images, `drift` · D(x)², `lecam`; `consistency_real` and `consistency_fake` with the augmentation
    `consistency_transforms`, its translations `consistency_reach` times as far as ADA's; zCR with z + N(0, `near_sigma`²)
    in D and in G; the prediction of quarter turns, in both. With `pseudo` a real image is a generated one with
    probability p (APA).
    """

    loss: str = "non-saturating"
    r1_gamma: NotNegative = 1.0
    r1_interval: Count = 16
    path_length_weight: NotNegative = 2.0
    path_length_interval: Count = 4
    path_length_decay: Probability = 0.01
    path_length_shrink: Count = 2
    style_mixing: Probability = 0.9
    keep_path_length_phase: bool = False
    keep_r1_phase: bool = False
    r2: bool = False
    gradient_penalty: NotNegative = 0.0
    drift: NotNegative = 0.0
    lecam: NotNegative = 0.0
    lecam_decay: Probability = 0.99
    consistency_real: NotNegative = 0.0
    consistency_fake: NotNegative = 0.0
    consistency_transforms: tuple[str, ...] = ("xint",)
    consistency_reach: Positive = 0.25
    near_sigma: NotNegative = 0.1
    near_generator: NotNegative = 0.0
    near_discriminator: NotNegative = 0.0
    rotation_generator: NotNegative = 0.0
    rotation_discriminator: NotNegative = 0.0
    pseudo: bool = False

    def __post_init__(self) -> None:
        check_choice("loss", self.loss, LOSSES)
        check_fields(self)

    @property
    def has_path_length_phase(self) -> bool:
        return self.path_length_weight > 0 or self.keep_path_length_phase

    @property
    def has_r1_phase(self) -> bool:
        return self.r1_gamma > 0 or self.keep_r1_phase

    @property
    def consistent(self) -> bool:
        return bool(self.consistency_real or self.consistency_fake)

    @property
    def turning(self) -> bool:
        return bool(self.rotation_generator or self.rotation_discriminator)


_AT_ONCE = 2**22
"""Real and generated images go through D at once while its largest feature maps have no more elements (measured on a CPU)."""


class Latents(NamedTuple):
    """All that the generator is fed for n images: two z for style mixing, where to switch, labels and noise."""

    z: Tensor  # [n, z_dim]
    z_mix: Tensor  # [n, z_dim]
    cutoff: Tensor  # 0-d int64: layers from here on use z_mix
    c: Tensor  # [n, K]
    noise: list[Tensor]  # [n, 1, h, w] each
    step: Tensor | None  # [n, z_dim]: to a neighbouring z, for zCR


class View(NamedTuple):
    """All that is drawn for showing n images to the discriminator; what an objective has no use for is None."""

    augment: Any
    extras: Extras
    measure: Any  # for generated images
    again: Any  # consistency's own augmentation
    turns: Tensor | None  # [n, 4], one-hot: quarter turns for auxiliary rotation
    between: Tensor | None  # [n, 1, 1, 1] in [0, 1): where the gradient penalty is taken
    shift: Tensor | None  # [n, 2]: how far generated images that repeat are moved around their border

    def halves(self) -> tuple[View, View]:
        """As two views of n/2 images."""

        def half(i: int) -> View:
            return tree_map(lambda t: None if t is None else t.chunk(2)[i], self)

        return half(0), half(1)


class Phases:
    """The losses of the four phases. Random tensors are drawn outside, so that each function is pure and compiles whole.

    `measure` is what real images have gone through already, and generated ones go through here (AmbientGAN); `again` the
    augmentation that consistency terms compare across; `shift` shows generated images that repeat from anywhere.
    """

    def __init__(
        self,
        G: Generator,
        D: Discriminator,
        augment: Augmentation,
        config: ObjectiveConfig,
        *,
        measure: Measurement | None = None,
        again: Augmentation | None = None,
        shift: CircularShift | None = None,
        precision: Precision = "fp32",
        compiled: bool = False,
    ) -> None:
        self.G, self.D, self.augment, self.config = G, D, augment, config
        self.measure, self.again, self.shift = measure, again, shift
        self.loss = LOSSES[config.loss]
        self.dtype = DTYPES[precision]
        wrap = _compiled if compiled else (lambda f: f)
        self.generator, self.discriminator = wrap(self._generator), wrap(self._discriminator)
        self.fakes = torch.no_grad()(wrap(self._fakes))
        self.path_length, self._penalty = self._path_length, self._gradient
        if AUTOGRAD_TRACED:
            self.path_length, self._penalty = wrap(self._path_length), wrap(self._gradient)
        self.score = torch.no_grad()(wrap(self._score))

    def draw_latents(self, n: int, labels: Tensor, rng: torch.Generator) -> Latents:
        """Labels of generated images follow the empirical distribution: drawn from `labels` `[N, K]`."""
        device, num_ws = rng.device, self.G.num_ws
        z, z_mix = torch.randn(2, n, self.G.z_dim, generator=rng, device=device)
        mix = torch.rand((), generator=rng, device=device) < self.config.style_mixing
        cutoff = torch.randint(1, num_ws, (), generator=rng, device=device)
        picks = torch.randint(len(labels), (n,), generator=rng, device=device)
        noise = self.G.synthesis.draw_noise(n, rng) if self.G.synthesis.use_noise else []
        step = None
        if self.config.near_generator or self.config.near_discriminator:
            step = torch.randn(z.shape, generator=rng, device=device) * self.config.near_sigma
        return Latents(z, z_mix, torch.where(mix, cutoff, num_ws), labels[picks], noise, step)

    def draw_view(self, n: int, p: float | Tensor, rng: torch.Generator) -> View:
        """How n images are shown, at augmentation probability p."""
        config, device = self.config, rng.device
        p = torch.as_tensor(p, dtype=torch.float32, device=device)
        turns = between = None
        augment = self.augment.draw(n, p, generator=rng)
        extras = self.D.draw_extras(n, p, rng)
        measure = self.measure.draw(n, self.G.channels, generator=rng) if self.measure else None
        again = self.again.draw(n, 1.0, generator=rng) if self.again else None
        if config.turning:
            turns = F.one_hot(torch.randint(4, (n,), generator=rng, device=device), 4).float()
        if config.gradient_penalty:
            between = torch.rand(n, 1, 1, 1, generator=rng, device=device)
        shift = self.shift.draw(n, p, generator=rng) if self.shift else None
        return View(augment, extras, measure, again, turns, between, shift)

    def _ws(self, latents: Latents) -> Tensor:
        ws = self.G.mapping(latents.z, latents.c)
        if not self.config.style_mixing:
            return ws
        layers = torch.arange(self.G.num_ws, device=ws.device)[None, :, None]
        return torch.where(layers < latents.cutoff, ws, self.G.mapping(latents.z_mix, latents.c))

    def _synthesis(self, ws: Tensor, latents: Latents) -> Tensor:
        return self.G.synthesis(ws, noise=latents.noise or "none", dtype=self.dtype)

    def _fakes(self, latents: Latents) -> Tensor:
        return self._synthesis(self._ws(latents), latents)

    def measured(self, fakes: Tensor, view: View) -> Tensor:
        """Generated images as D is shown them, before the augmentation: gone through what real images have gone through, and seen
        from anywhere where they repeat and real ones are cut out of something larger."""
        if self.shift is not None and view.shift is not None:
            fakes = self.shift.apply(fakes, view.shift)
        return fakes if self.measure is None else self.measure.apply(fakes, view.measure)

    def _judge(self, shown: Tensor, c: Tensor, view: View, batches: int = 1) -> Tensor:
        """Logits `[n]` of images that are augmented already."""
        return self.D(shown, c, dtype=self.dtype, extras=view.extras, batches=batches)

    def _score(self, images: Tensor, c: Tensor, view: View) -> Tensor:
        return self._judge(self.augment.apply(images, view.augment), c, view)

    def _generator(
        self, latents: Latents, view: View, real: Tensor | None, c_real: Tensor | None, view_real: View | None
    ) -> tuple[Tensor, Tensor]:
        """(loss, logits `[n]`). Real images are needed by a paired loss alone."""
        config = self.config
        fakes = self._fakes(latents)
        shown = self.augment.apply(self.measured(fakes, view), view.augment)
        logits = self._judge(shown, latents.c, view)
        real_logits = None
        if self.loss.paired and real is not None and c_real is not None and view_real is not None:
            real_logits = self._score(real, c_real, view_real)
        loss = self.loss.generator(logits, real_logits).mean()
        if config.near_generator:
            loss = loss + config.near_generator * diversity(fakes, self._fakes(neighbours(latents)))
        if config.rotation_generator:
            loss = loss + config.rotation_generator * self._turned(shown, view)
        return loss, logits.detach()

    def _path_length(self, latents: Latents, y: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """(penalty, the new running mean)"""
        lengths = path_lengths(lambda ws: self._synthesis(ws, latents), self._ws(latents), y)
        return path_length_penalty(lengths, mean, self.config.path_length_decay)

    def _discriminator(
        self, real: Tensor, c: Tensor, fake: Tensor, c_fake: Tensor, views: View, near: Tensor | None, means: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(loss, logits of the real images `[n]`, of the generated ones `[n]`); `views` are of the real images, then of those.

        `near` are generated images of latents close to those of `fake`, for zCR; `means` `[2]` the moving averages of both
        kinds of logits, for LeCam.
        """
        config = self.config
        view, view_fake = views.halves()
        fake = self.measured(fake, view_fake)
        if 2 * len(real) * self.D.largest <= _AT_ONCE:
            both = self.augment.apply(torch.cat([real, fake]), views.augment)
            logits = self._judge(both, torch.cat([c, c_fake]), views, batches=2)
            (shown, shown_fake), (real_logits, fake_logits) = both.chunk(2), logits.chunk(2)
        else:
            shown, shown_fake = (self.augment.apply(*one) for one in ((real, view.augment), (fake, view_fake.augment)))
            fake_logits = self._judge(shown_fake, c_fake, view_fake)
            real_logits = self._judge(shown, c, view)
        loss = self.loss.discriminator(real_logits, fake_logits).mean()
        if config.gradient_penalty:
            between = torch.lerp(shown_fake, shown, view.between)  # pyright: ignore[reportArgumentType, reportCallIssue]
            penalty = gradient_penalty(lambda x: self._judge(x, c, view), between)
            loss = loss + config.gradient_penalty * penalty + config.drift * real_logits.square().mean()
        if config.lecam:
            loss = loss + config.lecam * lecam_penalty(real_logits, fake_logits, means)
        if self.again is not None and config.consistency_real:
            again = self._judge(self.again.apply(shown, view.again), c, view)
            loss = loss + config.consistency_real * consistency(real_logits, again)
        if self.again is not None and config.consistency_fake:
            again = self._judge(self.again.apply(shown_fake, view_fake.again), c_fake, view_fake)
            loss = loss + config.consistency_fake * consistency(fake_logits, again)
        if near is not None:
            shown_near = self.augment.apply(self.measured(near, view_fake), view_fake.augment)
            near_logits = self._judge(shown_near, c_fake, view_fake)
            loss = loss + config.near_discriminator * consistency(fake_logits, near_logits)
        if config.rotation_discriminator:
            loss = loss + config.rotation_discriminator * self._turned(shown, view)
        return loss, real_logits.detach(), fake_logits.detach()

    def _turned(self, shown: Tensor, view: View) -> Tensor:
        """How badly D tells by which quarter turns images were turned: cross-entropy (SS-GAN: Chen et al. 2019, eq. 3)."""
        assert view.turns is not None
        logits = self.D.turns(quarter_turns(shown, view.turns), dtype=self.dtype, extras=view.extras)
        return F.cross_entropy(logits, view.turns)

    def gradient(self, images: Tensor, c: Tensor, view: View, gamma: float) -> Tensor:
        """R1 on real images, R2 on generated ones: the gradient passes through the augmentation to the image before it."""
        return self._penalty(images.detach().requires_grad_(), c, view, gamma)

    def _gradient(self, images: Tensor, c: Tensor, view: View, gamma: float) -> Tensor:
        return r1_penalty(lambda x: self._score(x, c, view), images, gamma)


def _compiled(phase: Callable[P, T]) -> Callable[P, T]:
    from torch._dynamo.exc import TorchDynamoException  # imports the compiler, which takes a second

    for usable in (fir_triton.usable, epilogue_triton.usable):
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
    """The same but for a small step in z."""
    return latents if latents.step is None else latents._replace(z=latents.z + latents.step)


@contextmanager
def training_only(network: nn.Module, other: nn.Module) -> Iterator[None]:
    """Gradients are computed for `network`'s parameters alone; those frozen before stay frozen."""
    frozen = [p for p in other.parameters() if p.requires_grad]
    for p in frozen:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in frozen:
            p.requires_grad_(True)
