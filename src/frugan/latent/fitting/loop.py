"""The fitting loop: variables of a problem moved by Adam until images are alike, step by step.

One loop serves projection (latents, noise), pivotal tuning (weights), text edits and encoders. It is an iterator of small
reports, so that the caller owns progress, snapshots and stopping; abandoning it between two steps is safe. What a step draws at
random follows from (seed, step) alone, so a fit that was killed goes on from its last state as if nothing had happened.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, NamedTuple, Protocol

import safetensors
import torch
from torch import Tensor

from frugan.checks import Limits, Seed, check_fields
from frugan.errors import FruganError
from frugan.networks.serialization import save_tensors


@dataclass(frozen=True)
class Schedule:
    """Steps and learning rate. As in StyleGAN2's projector (Karras et al. 2020, appendix D) the rate rises linearly over the
    first `ramp_up` of the steps and falls as half a cosine over the last `ramp_down`."""

    steps: Annotated[int, Limits(at_least=1, at_most=10_000_000)] = 400
    lr: Annotated[float, Limits(above=0, at_most=1e3)] = 0.1
    ramp_up: Annotated[float, Limits(at_least=0, at_most=1)] = 0.05
    ramp_down: Annotated[float, Limits(at_least=0, at_most=1)] = 0.25
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        check_fields(self)

    def rate(self, step: int) -> float:
        """The learning rate of step 0, 1, …, `steps` - 1."""
        t = step / self.steps
        down = min(1.0, (1 - t) / self.ramp_down) if self.ramp_down else 1.0
        up = min(1.0, (step + 1) / (self.ramp_up * self.steps)) if self.ramp_up else 1.0
        return self.lr * (0.5 - 0.5 * math.cos(math.pi * down)) * up


class Terms(NamedTuple):
    """The terms of the loss in one step, for R images."""

    distance: Tensor
    """`[R]`: what is to become small, and what `target` is compared with."""
    penalty: Tensor
    """`[R]` or 0-d: regularisers, already weighted."""
    images: Tensor
    """`[R, C, H, W]`, to be shown."""


class Problem(Protocol):
    """A fitting problem. The loss is the sum over images of distance + penalty, so that images do not influence each other."""

    variables: dict[str, Tensor]
    """Leaves that Adam moves. Those of `shared` belong to all images; the first axis of the others is the images'."""
    shared: frozenset[str]
    count: int
    """Images N."""

    def __call__(self, rows: Tensor, progress: float, rng: torch.Generator) -> Terms:
        """The terms of images `rows` (int64 `[R]`, on the variables' device) at `progress` in [0, 1); `rng` is this step's own."""
        ...

    def settle(self) -> None:
        """Called after each step, for instance to normalise noise maps."""
        ...


class FitReport(NamedTuple):
    """After a step."""

    step: int
    """1 for the first."""
    steps: int
    distance: Tensor
    """float32 `[N]` on the CPU: the last known of each image."""
    reached: Tensor
    """bool `[N]`: the target was reached; such an image's variables stay as they were then."""
    images: Tensor
    """`[N, C, H, W]` on the CPU as last made, zeros where none was made yet."""


def fit(
    problem: Problem,
    schedule: Schedule,
    *,
    seed: Seed = 0,
    target: float | None = None,
    state: Path | None = None,
    state_every: int = 50,
    facts: str = "",
    kept: Mapping[str, Tensor] = MappingProxyType({}),
) -> Iterator[FitReport]:
    """Fits `problem` in place, a report after each step; ends early when every image's distance is `target` or less.

    Args:
        state: a file that the fit is kept in every `state_every` steps and at its end, and resumed from where it was begun by
            the same `facts`, schedule and seed; its caller removes it.
        facts: whatever else the numbers depend on, for instance hashes of the images and the weights.
        kept: further tensors that the problem writes to in place; they are saved with the state, and taken up from it.
    """
    loop = _Loop(problem, schedule, seed, target, kept)
    key = hashlib.sha256(json.dumps([2, facts, asdict(schedule), seed, target]).encode()).hexdigest()
    if state is not None:
        loop.load(state, key)
        yield loop.report()
    while not loop.finished:
        loop.advance()
        if state is not None and (loop.step % state_every == 0 or loop.finished):
            loop.save(state, key)
        yield loop.report()


class _Loop:
    def __init__(
        self, problem: Problem, schedule: Schedule, seed: int, target: float | None, kept: Mapping[str, Tensor]
    ) -> None:
        self.problem, self.schedule, self.seed, self.target, self.kept = problem, schedule, seed, target, kept
        self.leaves = {k: v.requires_grad_() for k, v in problem.variables.items()}
        self.adam = torch.optim.Adam(list(self.leaves.values()), betas=schedule.betas)
        self.device = next(iter(self.leaves.values())).device
        self.step = 0
        self.distance = torch.full((problem.count,), math.inf)
        self.reached = torch.zeros(problem.count, dtype=torch.bool)
        self.images = torch.zeros(0)

    @property
    def finished(self) -> bool:
        return self.step >= self.schedule.steps or bool(self.reached.all())

    def report(self) -> FitReport:
        images = self.images
        return FitReport(self.step, self.schedule.steps, self.distance.clone(), self.reached.clone(), images)

    def advance(self) -> None:
        problem, rows = self.problem, torch.nonzero(~self.reached).flatten()
        rng = torch.Generator().manual_seed((self.seed << 24) + self.step)
        terms = problem(rows.to(self.device), self.step / self.schedule.steps, rng)
        self._note(rows, terms)
        kept = self._of_reached()
        for group in self.adam.param_groups:
            group["lr"] = self.schedule.rate(self.step)
        self.adam.zero_grad(set_to_none=True)
        loss = (terms.distance + terms.penalty).sum()
        if not torch.isfinite(loss):
            raise FruganError(
                f"the fit became not finite at step {self.step + 1} of {self.schedule.steps}: give a smaller learning rate"
            )
        loss.backward()
        self.adam.step()
        with torch.no_grad():
            problem.settle()
            stay = torch.nonzero(self.reached).flatten().to(self.device)
            for name, value in kept.items():
                self.leaves[name].index_copy_(0, stay, value)
        self.step += 1

    def _note(self, rows: Tensor, terms: Terms) -> None:
        """Distances and images of this step's beginning; an image that reached the target is not moved by this step either."""
        self.distance[rows] = terms.distance.detach().float().cpu()
        shown = terms.images.detach().float().cpu()
        if self.images.numel() == 0:
            self.images = torch.zeros(self.problem.count, *shown.shape[1:])
        self.images[rows] = shown
        if self.target is not None:
            near = self.distance <= self.target
            alone = self.leaves.keys() - self.problem.shared
            self.reached = (
                self.reached | near if alone else near.all().expand_as(near)
            )  # shared variables move all images

    def _of_reached(self) -> dict[str, Tensor]:
        if not self.reached.any():
            return {}
        stay = torch.nonzero(self.reached).flatten().to(self.device)
        return {k: v.detach()[stay] for k, v in self.leaves.items() if k not in self.problem.shared}

    def save(self, file: Path, key: str) -> None:
        tensors = {f"variable.{k}": v for k, v in self.leaves.items()}
        for name, leaf in self.leaves.items():
            tensors |= {f"adam.{part}.{name}": value for part, value in self.adam.state[leaf].items()}
        tensors |= {f"kept.{name}": tensor for name, tensor in self.kept.items()}
        tensors |= {"distance": self.distance, "reached": self.reached, "images": self.images}
        save_tensors(tensors, file, metadata={"key": key, "step": str(self.step)})

    def load(self, file: Path, key: str) -> None:
        """Takes the state up where it is of this very fit; a damaged one, or another's, is ignored."""
        try:
            with safetensors.safe_open(file, "pt") as opened:
                facts = opened.metadata() or {}
                if facts.get("key") != key:
                    return
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
                step = int(facts["step"])
        except (OSError, safetensors.SafetensorError, KeyError, ValueError):
            return
        with torch.no_grad():
            for name, leaf in self.leaves.items():
                leaf.copy_(tensors[f"variable.{name}"])
                if (count := tensors.get(f"adam.step.{name}")) is not None:  # none: it has not been moved yet
                    moments = {m: tensors[f"adam.{m}.{name}"].to(leaf.device) for m in ("exp_avg", "exp_avg_sq")}
                    self.adam.state[leaf] = {"step": count, **moments}
            for name, tensor in self.kept.items():
                tensor.copy_(tensors[f"kept.{name}"])
        self.step, self.distance, self.reached = step, tensors["distance"], tensors["reached"].bool()
        self.images = tensors["images"]
