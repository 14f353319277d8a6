"""One training step: both networks updated on a minibatch, micro-batch by micro-batch.

Each of the four phases has a step, which updates a network, and a function `…_gradients`, which draws for one micro-batch, computes
the loss and adds to the gradients. The latter take and return tensors only, so that a GPU can replay them as a graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from frugan.augment import logit_sums
from frugan.distributed import add_up, rank, world_size
from frugan.errors import FruganError
from frugan.losses import path_length_noise
from frugan.training.graphs import Runner, Work, eagerly
from frugan.training.phases import Latents, Phases, neighbours, training_only
from frugan.training.state import TrainingConfig, TrainState
from frugan.training.stats import Stats

GENERATOR, PATH_LENGTH, DISCRIMINATOR, R1, VALIDATION, VICINITY = range(6)
"""The phases, as their random streams are numbered."""

MicroBatch = tuple[int, Tensor, Tensor]
"""(its number within the minibatch, real images `[n, C, H, W]`, their labels `[n, K]`)."""


def own_parts(config: TrainingConfig) -> range:
    """Which parts of the minibatch, of `batch_per_device` images each, this process works on.

    Raises `FruganError` where they cannot be divided evenly.
    """
    parts, processes = config.batch // config.batch_per_device, world_size()
    if parts % processes:
        raise FruganError(
            f"a batch of {config.batch} in parts of {config.batch_per_device} gives {parts} parts, which {processes} processes "
            "cannot share evenly; use a number that divides it"
        )
    return range(rank(), parts, processes)


@dataclass(frozen=True)
class Minibatch:
    """This process's micro-batches of real images, and `labels` `[N, K]` that those of generated images are drawn from."""

    state: TrainState
    phases: Phases
    config: TrainingConfig
    stats: Stats
    labels: Tensor
    micro_batches: list[MicroBatch]
    run: Runner = eagerly

    @property
    def rounds(self) -> int:
        """Micro-batches of the whole minibatch, those of other processes too."""
        return self.config.batch // self.config.batch_per_device

    def each(self, stream: int, work: Work, *given: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """The results of `work` for each micro-batch, which draws from a random stream of its own."""
        for number, real, c in self.micro_batches:
            rng = self.state.random(stream, number)
            yield self.run(work, self.phases, rng, self.rounds, real, c, self.labels, *given)

    def update(self, name: str, shared: Sequence[Tensor] = ()) -> None:
        update(self.state, name, self.config, self.stats, shared, self.run)


def train_step(
    state: TrainState,
    phases: Phases,
    images: Tensor,
    c: Tensor,
    labels: Tensor,
    config: TrainingConfig,
    stats: Stats,
    run: Runner = eagerly,
) -> None:
    """One update of both networks on this process's micro-batches: real images `[n, C, H, W]`, labels c `[n, K]`.

    All that a step learns, gradients and running means alike, is a mean over all micro-batches, whoever worked on them. `run` does
    the work of each micro-batch: at once, or by replaying a graph of it.
    """
    n, objective = config.batch_per_device, phases.config
    batch = Minibatch(
        state, phases, config, stats, labels, list(zip(own_parts(config), images.split(n), c.split(n))), run
    )
    with training_only(state.G, state.D):
        generator_step(batch)
        if objective.path_length_weight and state.step % objective.path_length_interval == 0:
            path_length_step(batch)
    state.D.power_iteration()
    with training_only(state.D, state.G):
        batch = discriminator_step(batch)
        if objective.r1_gamma and state.step % objective.r1_interval == 0:
            r1_step(batch)


def generator_step(batch: Minibatch) -> None:
    """Updates G by its loss."""
    state = batch.state
    w = torch.zeros_like(state.G.mapping.w_avg)
    for loss, mean_w in batch.each(GENERATOR, generator_gradients, state.controller.p):
        w += mean_w / batch.rounds
        batch.stats.mean("loss/generator", loss)
    batch.update("G", [w])
    state.G.mapping.update_average(w[None])


def path_length_step(batch: Minibatch) -> None:
    """Updates G by the path-length penalty, and moves the running mean of path lengths."""
    state = batch.state
    mean, w = torch.zeros_like(state.path_length_mean), torch.zeros_like(state.G.mapping.w_avg)
    for penalty, moved, mean_w in batch.each(PATH_LENGTH, path_length_gradients, state.path_length_mean):
        mean += moved / batch.rounds
        w += mean_w / batch.rounds
        batch.stats.mean("penalty/path_length", penalty)
    batch.update("G", [mean, w])
    state.G.mapping.update_average(w[None])
    state.path_length_mean = mean
    batch.stats.mean("path_length", mean)


def discriminator_step(batch: Minibatch) -> Minibatch:
    """Updates D by its loss, observes its logits → the minibatch that D took for real, which differs with APA alone."""
    state, stats, controller = batch.state, batch.stats, batch.state.controller
    w, means = torch.zeros_like(state.G.mapping.w_avg), torch.zeros_like(state.logit_means)
    window = torch.zeros_like(controller.sums)
    taken: list[MicroBatch] = []
    results = batch.each(DISCRIMINATOR, discriminator_gradients, controller.p, state.logit_means)
    for (number, real, c), (loss, logits, mean_w, *pseudo) in zip(batch.micro_batches, results):
        real, c, among = pseudo or (real, c, None)
        taken.append((number, real, c))
        w += mean_w / batch.rounds
        window += logit_sums(real=logits[0], generated=logits[1], among=among)
        means += logits.mean(dim=1) / batch.rounds
        stats.mean("loss/discriminator", loss)
        stats.logits["real"].add(logits[0])
        stats.logits["generated"].add(logits[1])
    batch.update("D", [w, means, window])
    state.G.mapping.update_average(w[None])
    controller.merge(window)
    decay = batch.phases.config.lecam_decay if state.step else 0.0
    state.logit_means = torch.lerp(means, state.logit_means, decay)
    return replace(batch, micro_batches=taken)


def r1_step(batch: Minibatch) -> None:
    """Updates D by R1, and R2 where the objective has it."""
    for penalties in batch.each(R1, r1_gradients, batch.state.controller.p):
        for name, penalty in zip(("penalty/r1", "penalty/r2"), penalties):
            batch.stats.mean(name, penalty)
    batch.update("D")


@torch.no_grad()
def _mean_w(phases: Phases, latents: Latents) -> Tensor:
    """Mean of w, before truncation, over some latents: `[D]`."""
    return phases.G.mapping.features(latents.z, latents.c).mean(0)


def generator_gradients(
    phases: Phases, rng: torch.Generator, rounds: int, real: Tensor, c_real: Tensor, labels: Tensor, p: Tensor
) -> tuple[Tensor, Tensor]:
    """Adds 1/`rounds` of the gradient of G's loss on as many images as `real` → (loss, mean w `[D]`)."""
    n = len(real)
    drawn = phases.draw_latents(n, labels, rng)
    view = phases.draw_view(n, p, rng)
    pair = (real, c_real, phases.draw_view(n, p, rng)) if phases.loss.paired else (None, None, None)
    loss, _ = phases.generator(drawn, view, *pair)
    (loss / rounds).backward()
    return loss.detach(), _mean_w(phases, drawn)


def path_length_gradients(
    phases: Phases, rng: torch.Generator, rounds: int, real: Tensor, c_real: Tensor, labels: Tensor, mean: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The same for the path-length penalty on fewer images than `real`; `mean` is the running mean of lengths.

    → (penalty, the mean moved by these lengths, mean w `[D]`)
    """
    objective = phases.config
    count = max(len(real) // objective.path_length_shrink, 1)
    drawn = phases.draw_latents(count, labels, rng)
    y = path_length_noise(torch.Size((count, *real.shape[1:])), rng)
    penalty, moved = phases.path_length(drawn, y, mean)
    (penalty * (objective.path_length_weight * objective.path_length_interval / rounds)).backward()
    return penalty.detach(), moved, _mean_w(phases, drawn)


def discriminator_gradients(
    phases: Phases,
    rng: torch.Generator,
    rounds: int,
    real: Tensor,
    c_real: Tensor,
    labels: Tensor,
    p: Tensor,
    logit_means: Tensor,
) -> tuple[Tensor, ...]:
    """The same for D's loss on `real` and as many generated images → (loss, logits of both `[2, n]`, mean w `[D]`).

    With APA also the images that were taken for real ones, their labels, and which of them are real.
    """
    n, objective = len(real), phases.config
    pseudo: tuple[Tensor, ...] = ()
    if objective.pseudo:
        pseudo = _deceive(phases, real, c_real, phases.draw_latents(n, labels, rng), p, rng)
        real, c_real, _ = pseudo
    drawn = phases.draw_latents(n, labels, rng)
    views = phases.draw_view(2 * n, p, rng)
    targets, drawn = drawn.c, drawn._replace(c=phases.draw_near(drawn.c, rng))
    fake = phases.fakes(drawn)
    near = phases.fakes(neighbours(drawn)) if objective.near_discriminator else None
    loss, *logits = phases.discriminator(real, c_real, fake, targets, views, near, logit_means)
    (loss / rounds).backward()
    return loss.detach(), torch.stack(logits), _mean_w(phases, drawn), *pseudo


def r1_gradients(
    phases: Phases, rng: torch.Generator, rounds: int, real: Tensor, c_real: Tensor, labels: Tensor, p: Tensor
) -> tuple[Tensor, ...]:
    """The same for R1 on `real`, and R2 on as many generated images where the objective has it → the penalties."""
    n, objective = len(real), phases.config
    penalties = [phases.gradient(real, c_real, phases.draw_view(n, p, rng), objective.r1_gamma)]
    if objective.r2:
        drawn = phases.draw_latents(n, labels, rng)
        view = phases.draw_view(n, p, rng)
        fakes = phases.measured(phases.fakes(drawn), view)
        penalties.append(phases.gradient(fakes, drawn.c, view, objective.r1_gamma))
    (sum(penalties[1:], penalties[0]) * (objective.r1_interval / rounds)).backward()
    return tuple(penalty.detach() for penalty in penalties)


def _deceive(
    phases: Phases, real: Tensor, c: Tensor, latents: Latents, p: Tensor, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Real images, each a generated one with probability p, their labels, and which are real (1) and which not (0).

    Jiang et al., "Deceive D: Adaptive Pseudo Augmentation for GAN Training with Limited Data", 2021, section 3.2.
    """
    kept = torch.rand(len(real), generator=rng, device=real.device) >= p
    real = torch.where(kept[:, None, None, None], real, phases.fakes(latents))
    return real, torch.where(kept[:, None], c, latents.c), kept


def update(
    state: TrainState,
    name: str,
    config: TrainingConfig,
    stats: Stats,
    shared: Sequence[Tensor] = (),
    run: Runner = eagerly,
) -> None:
    """An optimiser step with the gradients, and `shared` numbers, of all processes added up.

    Non-finite gradients are replaced (nan → 0, ±inf → ±1e5), counted, and their streak noted.
    """
    network: nn.Module = state.networks()[name]
    grads = [p.grad for p in network.parameters() if p.grad is not None]
    add_up([*grads, *shared])
    norm = run.in_place(finite, grads)
    bad = ~torch.isfinite(norm)
    state.bad_streak = torch.where(bad, state.bad_streak + 1, 0)
    stats.total("non_finite", bad)
    stats.maximum("bad_streak", state.bad_streak)
    stats.mean(f"grad_norm/{'generator' if name == 'G' else 'discriminator'}", torch.nan_to_num(norm, 0.0, 0.0, 0.0))
    optimizer = state.optimizers()[name]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def finite(grads: Sequence[Tensor]) -> Tensor:
    """Replaces what is not finite in the gradients → their norm before that."""
    norm = torch.nn.utils.get_total_norm(grads)
    if norm.device.type != "cpu" or not torch.isfinite(norm):  # looking costs nothing on a CPU
        for grad in grads:
            torch.nan_to_num_(grad, nan=0.0, posinf=1e5, neginf=-1e5)
    return norm
