"""One training step: both networks are updated on a minibatch, in micro-batches.

Each of the four phases has a function `…_step`, which updates a network, and a function `…_gradients`, which draws
random tensors for one micro-batch, computes the loss and adds its gradient to `p.grad`. The latter take and return
tensors only, so that a GPU can replay them as a graph.
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


def own_micro_batches(config: TrainingConfig) -> range:
    """The numbers of the micro-batches of a minibatch, of `batch_per_device` images each, that this process works on.

    Raises `FruganError` where the processes cannot share them evenly.
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
    """A minibatch in work.

    Attributes:
        state: the training state.
        phases: the losses.
        config: batch sizes and the optimiser.
        stats: where losses and logits are recorded.
        labels: `[N, K]`, from whose rows the labels of generated images are drawn.
        micro_batches: those of this process.
        run: executes the work of a micro-batch: directly, or by replaying a graph.
    """

    state: TrainState
    phases: Phases
    config: TrainingConfig
    stats: Stats
    labels: Tensor
    micro_batches: list[MicroBatch]
    run: Runner = eagerly

    @property
    def rounds(self) -> int:
        """The number of micro-batches in the whole minibatch, including those of other processes."""
        return self.config.batch // self.config.batch_per_device

    def each(self, stream: int, work: Work, *given: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """The results of `work` for each micro-batch of this process.

        Args:
            stream: the phase's number; each micro-batch draws from a random stream of its own, made from (seed, step,
                phase, micro-batch).
            work: a function `…_gradients`.
            given: its further tensors.
        """
        for number, real, c in self.micro_batches:
            rng = self.state.random(stream, number)
            yield self.run(work, self.phases, rng, self.rounds, real, c, self.labels, *given)

    def update(self, name: str, shared: Sequence[Tensor] = ()) -> None:
        """An optimiser step of the network `name`, see `update`."""
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
    """Updates both networks once, on this process's share of a minibatch.

    Gradients and running means are means over the micro-batches of all processes.

    Args:
        state: which is changed in place.
        phases: the losses.
        images: this process's real images `[n, C, H, W]` in [-1, 1], micro-batch after micro-batch.
        c: their labels `[n, K]`.
        labels: `[N, K]`, from whose rows the labels of generated images are drawn.
        config: batch sizes and the optimiser.
        stats: where losses and logits are recorded.
        run: executes the work of a micro-batch: directly, or by replaying a graph.
    """
    n, objective = config.batch_per_device, phases.config
    batch = Minibatch(
        state, phases, config, stats, labels, list(zip(own_micro_batches(config), images.split(n), c.split(n))), run
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
    """Updates D by its loss, and passes its logits to the controller.

    Returns the minibatch with the images that D took for real: with APA (pseudo augmentation) some of them are
    generated.
    """
    state, stats, controller = batch.state, batch.stats, batch.state.controller
    w, means = torch.zeros_like(state.G.mapping.w_avg), torch.zeros_like(state.logit_means)
    window = torch.zeros_like(controller.sums)
    taken: list[MicroBatch] = []
    results = batch.each(DISCRIMINATOR, discriminator_gradients, controller.p, state.logit_means)
    for (number, real, c), result in zip(batch.micro_batches, results):
        loss, logits, mean_w, *pseudo = result
        among = None
        if pseudo:
            real, c, among = pseudo
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
    """Updates D by R1, and by R2 where the objective has it."""
    for penalties in batch.each(R1, r1_gradients, batch.state.controller.p):
        for name, penalty in zip(("penalty/r1", "penalty/r2"), penalties):
            batch.stats.mean(name, penalty)
    batch.update("D")


@torch.no_grad()
def _mean_w(phases: Phases, latents: Latents) -> Tensor:
    """The mean `[D]` of w over some latents, before truncation."""
    return phases.G.mapping.features(latents.z, latents.c).mean(0)


def generator_gradients(
    phases: Phases, rng: torch.Generator, rounds: int, real: Tensor, c_real: Tensor, labels: Tensor, p: Tensor
) -> tuple[Tensor, Tensor]:
    """Adds 1/`rounds` of the gradient of G's loss for one micro-batch to `p.grad`.

    Args:
        phases: the losses.
        rng: this micro-batch's random stream.
        rounds: number of micro-batches in the minibatch.
        real: real images `[n, C, H, W]`: as many are generated; only a paired loss uses them.
        c_real: their labels `[n, K]`.
        labels: `[N, K]`, from whose rows the labels of generated images are drawn.
        p: augmentation probability, 0-d.

    Returns:
        The loss (0-d), and the mean of w, `[D]`.
    """
    n = len(real)
    drawn = phases.draw_latents(n, labels, rng)
    view = phases.draw_view(n, p, rng)
    pair = (real, c_real, phases.draw_view(n, p, rng)) if phases.loss.paired else (None, None, None)
    loss, _ = phases.generator_loss(drawn, view, *pair)
    (loss / rounds).backward()
    return loss.detach(), _mean_w(phases, drawn)


def path_length_gradients(
    phases: Phases, rng: torch.Generator, rounds: int, real: Tensor, c_real: Tensor, labels: Tensor, mean: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Adds 1/`rounds` of the gradient of the path-length penalty for one micro-batch to `p.grad`.

    The arguments are those of `generator_gradients`, but for `mean`, the running mean of path lengths (0-d). Fewer
    images are generated than there are in `real`, by `path_length_shrink`.

    Returns:
        The penalty (0-d), the running mean after these lengths (0-d), and the mean of w, `[D]`.
    """
    objective = phases.config
    count = max(len(real) // objective.path_length_shrink, 1)
    drawn = phases.draw_latents(count, labels, rng)
    y = path_length_noise(torch.Size((count, *real.shape[1:])), rng)
    penalty, moved = phases.path_length_penalty(drawn, y, mean)
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
    """Adds 1/`rounds` of the gradient of D's loss for one micro-batch, and as many generated images, to `p.grad`.

    The arguments are those of `generator_gradients`; `logit_means` `[2]` are moving averages of the logits of real and
    of generated images.

    Returns:
        The loss (0-d), logits of real and generated images `[2, n]`, and the mean of w, `[D]`. With APA also the images
        that were used as real ones, their labels, and a mask `[n]` of those that are real.
    """
    n, objective = len(real), phases.config
    pseudo: tuple[Tensor, ...] = ()
    if objective.pseudo:
        pseudo = _deceive(phases, real, c_real, phases.draw_latents(n, labels, rng), p, rng)
        real, c_real, _ = pseudo
    drawn = phases.draw_latents(n, labels, rng)
    views = phases.draw_view(2 * n, p, rng)
    targets, drawn = drawn.c, drawn._replace(c=phases.draw_vicinity(drawn.c, rng))
    fake = phases.fakes(drawn)
    perturbed = phases.fakes(neighbours(drawn)) if objective.latent_consistency_discriminator else None
    loss, *logits = phases.discriminator_loss(real, c_real, fake, targets, views, perturbed, logit_means)
    (loss / rounds).backward()
    return loss.detach(), torch.stack(logits), _mean_w(phases, drawn), *pseudo


def r1_gradients(
    phases: Phases, rng: torch.Generator, rounds: int, real: Tensor, c_real: Tensor, labels: Tensor, p: Tensor
) -> tuple[Tensor, ...]:
    """Adds 1/`rounds` of the gradient of R1 for one micro-batch (and of R2 for as many generated images, if the
    objective has it) to `p.grad`.

    The arguments are those of `generator_gradients`.

    Returns:
        The penalties (0-d).
    """
    n, objective = len(real), phases.config
    penalties = [phases.gradient_penalty(real, c_real, phases.draw_view(n, p, rng), objective.r1_gamma)]
    if objective.r2:
        drawn = phases.draw_latents(n, labels, rng)
        view = phases.draw_view(n, p, rng)
        fakes = phases.measured(phases.fakes(drawn), view)
        penalties.append(phases.gradient_penalty(fakes, drawn.c, view, objective.r1_gamma))
    (sum(penalties[1:], penalties[0]) * (objective.r1_interval / rounds)).backward()
    return tuple(penalty.detach() for penalty in penalties)


def _deceive(
    phases: Phases, real: Tensor, c: Tensor, latents: Latents, p: Tensor, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """APA: replaces each real image by a generated one with probability p.

    Jiang et al., "Deceive D: Adaptive Pseudo Augmentation for GAN Training with Limited Data", 2021, section 3.2.

    Returns:
        The images, their labels, and a mask `[n]` of those that are real.
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
    """An optimiser step with the sum of all processes' gradients.

    Gradients that are not finite are replaced (nan → 0, ±inf → ±1e5) and counted; `state.bad_streak` counts such steps
    in a row.

    Args:
        state: which is changed in place.
        name: "G" or "D".
        config: of the optimiser.
        stats: where the gradient's norm is recorded.
        shared: further tensors to be summed over processes, in place.
        run: executes the check of the gradients: directly, or by replaying a graph.
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
    """Replaces numbers in the gradients that are not finite, in place; returns the gradients' norm before that.

    On a CPU, where reading the norm needs no synchronisation, finite gradients are left alone.
    """
    norm = torch.nn.utils.get_total_norm(grads)
    if norm.device.type != "cpu" or not torch.isfinite(norm):
        replace_non_finite(grads)
    return norm


def replace_non_finite(grads: Sequence[Tensor]) -> None:
    """nan → 0, ±inf → ±1e5, in place; vectors and scalars, of which networks have many, at once."""
    small = [grad for grad in grads if grad.ndim < 2]
    flat = torch.cat([grad.flatten() for grad in small]) if small else None
    for grad in (*(grad for grad in grads if grad.ndim >= 2), *([] if flat is None else [flat])):
        torch.nan_to_num_(grad, nan=0.0, posinf=1e5, neginf=-1e5)
    if flat is not None:
        found = flat.split([grad.numel() for grad in small])
        parts = [part.view_as(grad) for part, grad in zip(found, small)]
        torch._foreach_copy_(small, parts)  # pyright: ignore[reportPrivateImportUsage]
