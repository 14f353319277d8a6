"""Controllers of the augmentation probability p, which follows how much the discriminator overfits.

Two heuristics measure overfitting by the discriminator's raw logits of augmented images, averaged over a window of a
few minibatches; both are 0 without overfitting and 1 at its worst (Karras et al. 2020, "Training GANs with Limited
Data", equation 1):

    r_v = (E[D_train] − E[D_val]) / (E[D_train] − E[D_gen])        r_t = E[sign(D_train)]

At the end of a window p takes a small fixed step up where the heuristic exceeds its target, down where it falls short.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import cos, nan, pi
from typing import Literal

import torch
from torch import Tensor

from frugan.checks import Count, Positive, Probability, check_choice, check_fields
from frugan.errors import FruganError


@dataclass(frozen=True)
class Rule:
    """One row of `CONTROLLERS`: the heuristic that steers p, its default target, and the open range of targets."""

    heuristic: Literal["r_t", "r_v"] | None = None
    target: float = nan
    targets: tuple[float, float] = (-1, 1)


CONTROLLERS: dict[str, Rule] = {
    "rt": Rule("r_t", 0.6, (-1, 1)),
    "rv": Rule("r_v", 0.5, (0, 1)),
    "scheduled": Rule(),
    "fixed": Rule(),
    "none": Rule(),
}


@dataclass(frozen=True)
class ControllerConfig:
    kind: Literal["rt", "rv", "scheduled", "fixed", "none"] = "rt"
    """A row of `CONTROLLERS`. "rv" needs the logits of held-out images; "fixed" keeps `p_init`, "none" keeps 0.
    "scheduled" goes from `p_init` to `p_max` in `speed_kimg`, along half a cosine, and stays (R3GAN: Huang et al. 2024)."""
    target: float | None = None
    """What the heuristic is driven to; None: 0.6 for r_t, 0.5 for r_v."""
    interval: Count = 4
    """Minibatches in a window."""
    speed_kimg: Positive = 500
    """Thousands of real images in which p could go from 0 to 1; 100 suits fine-tuning."""
    p_init: Probability = 0.0
    p_max: Probability = 0.85
    """Where the moving p stops: near 1 the augmentations leak into the generated images. 0 leaves it without a cap."""

    def __post_init__(self) -> None:
        check_choice("controller", self.kind, CONTROLLERS)
        check_fields(self)
        rule = CONTROLLERS[self.kind]
        low, high = rule.targets
        if self.target is not None and not rule.heuristic:
            raise FruganError(f"controller {self.kind!r} has no target, but {self.target} was given; leave it out")
        if self.target is not None and not low < self.target < high:
            raise FruganError(
                f"the target of {rule.heuristic} is {self.target}; it must lie above {low} and below {high}"
            )
        if self.kind == "none" and self.p_init:
            raise FruganError(f'p_init is {self.p_init}, but controller "none" keeps p at 0; use "fixed"')
        highest = self.p_max if (rule.heuristic and self.p_max) or self.kind == "scheduled" else 1
        if not 0 <= self.p_init <= highest:
            raise FruganError(f"p_init is {self.p_init}; it must lie between 0 and {highest}")


R_V_LIMIT = 3.0
"""r_v divides by what parts training from generated images: where that is next to nothing, the quotient would be any number."""


def heuristics(sums: Tensor) -> tuple[Tensor, Tensor]:
    """(r_t, r_v), 0-d, from sums as in `Controller.sums`; NaN where an average is missing, r_v within ±`R_V_LIMIT`."""
    logits, signs = (sums[:, :2] / sums[:, 2:]).unbind(1)  # 0/0 = NaN: not observed
    real, generated, held_out = logits
    r_v = (real - held_out) / (real - generated).clamp_min(1e-8)
    return signs[0], r_v.clamp(-R_V_LIMIT, R_V_LIMIT)


@torch.no_grad()
def logit_sums(
    *,
    real: Tensor | None = None,
    generated: Tensor | None = None,
    held_out: Tensor | None = None,
    among: Tensor | None = None,
) -> Tensor:
    """Sums of logits, for the overfitting heuristics: float32 `[3, 3]`, columns Σ logits, Σ sign(logits) and count.

    Args:
        real, generated, held_out: raw logits `[N]` of augmented images, for the rows; None leaves a row 0.
        among: `[N]`, 1 where a "real" image counts, 0 where it does not; None: all count.
    """
    kinds = (real, generated, held_out)
    sums = next(x for x in kinds if x is not None).new_zeros(3, 3, dtype=torch.float32)
    for row, logits in zip(sums, kinds):
        if logits is not None:
            x = logits.detach().to(torch.float32)
            weight = torch.ones_like(x) if among is None or logits is not real else among.to(torch.float32)
            row += torch.stack([(x * weight).sum(), (x.sign() * weight).sum(), weight.sum()])
    return sums


class Controller:
    """The controller's state: p and the sums of the current window, on the device; nothing is read back to the host.

    `p`, `r_t`, `r_v` are 0-d float32; the heuristics are those of the last complete window, NaN where they are unknown.
    `sums` are the `logit_sums` of the window over all processes.
    """

    def __init__(self, config: ControllerConfig, *, device: torch.device | str | None = None) -> None:
        self.config = config
        self.rule = CONTROLLERS[config.kind]
        self.target = self.rule.target if config.target is None else config.target
        self.p, self.r_t, self.r_v = torch.tensor([config.p_init, nan, nan], dtype=torch.float32, device=device)
        self.sums = torch.zeros(3, 3, device=device)
        self.minibatches = 0
        self.images = 0
        self.seen = 0

    def merge(self, sums: Tensor) -> None:
        """Adds `logit_sums` of some images to the window. Steering by r_v needs all three kinds in every window."""
        self.sums += sums

    @torch.no_grad()
    def update(self, images: int) -> Tensor | None:
        """Counts one minibatch of so many real images; at the end of a window sets r_t and r_v, moves p, and gives its sums."""
        self.minibatches += 1
        self.images += images
        self.seen += images
        if self.minibatches < self.config.interval:
            return None
        self.r_t, self.r_v = heuristics(self.sums)
        if self.rule.heuristic:
            excess = getattr(self, self.rule.heuristic) - self.target
            step = self.images / (self.config.speed_kimg * 1000)
            p = self.p + excess.sign().nan_to_num(0) * step
            self.p = p.clamp(0, self.config.p_max or None)
        elif self.config.kind == "scheduled":
            done = min(self.seen / (self.config.speed_kimg * 1000), 1)
            rise = (1 - cos(pi * done)) / 2 * (self.config.p_max - self.config.p_init)
            self.p = torch.full_like(self.p, self.config.p_init + rise)
        window, self.sums = self.sums, torch.zeros_like(self.sums)
        self.minibatches = self.images = 0
        return window

    @property
    def at_cap(self) -> Tensor:
        """0-d bool: whether a moving p rests at its cap, where it can do no more against overfitting."""
        if not (self.rule.heuristic and self.config.p_max):
            return torch.zeros_like(self.p, dtype=torch.bool)
        return self.p >= self.config.p_max

    def state_dict(self) -> dict[str, Tensor]:
        """A copy of the tensors that change."""
        counts = {name: torch.tensor(getattr(self, name)) for name in _COUNTS}
        return {name: getattr(self, name).clone() for name in _TENSORS} | counts

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes up where `state_dict` left off, on this controller's device."""
        state = {"seen": torch.tensor(0), **state}  # absent from the first checkpoints, which had no schedule
        if missing := [name for name in _TENSORS + _COUNTS if name not in state]:
            raise FruganError(f"the controller's saved state lacks {', '.join(missing)}; it is from another version")
        for name in _TENSORS:
            setattr(self, name, state[name].to(self.p.device, copy=True))
        for name in _COUNTS:
            setattr(self, name, int(state[name]))


_TENSORS, _COUNTS = ("p", "r_t", "r_v", "sums"), ("minibatches", "images", "seen")
