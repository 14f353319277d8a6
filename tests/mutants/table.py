"""Mutations of the package, each with the tests that must fail: what the tests pin, and would notice if it went wrong."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLACE = "frugan"
"""The package's folder within src, which files are named from."""


@dataclass(frozen=True)
class Mutation:
    """`old`, which stands once in `file` of the package, becomes `new`; one of `tests` (pytest's node ids) must fail."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    why: str

    @property
    def key(self) -> str:
        """Tells the rows apart."""
        return f"{self.file}\n{self.old}\n{self.new}\n{self.tests}"


def fault_of(mutation: Mutation) -> str | None:
    """Why a mutation cannot be tried, or None: its text does not stand once, or a test does not exist."""
    count = (ROOT / "src" / PLACE / mutation.file).read_text("utf-8").count(mutation.old)
    if count != 1:
        return f"{mutation.file}: {mutation.old!r} stands {count} times in it"
    if mutation.old == mutation.new:
        return f"{mutation.file}: {mutation.old!r} stays as it is"
    for test in mutation.tests:
        file, _, name = test.partition("::")
        if name.partition("[")[0] not in _functions_of(file):
            return f"{test} does not exist"
    return None


@cache
def _functions_of(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text("utf-8")) if (ROOT / file).is_file() else ast.Module([], [])
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def _table() -> Iterator[Mutation]:
    for file, tests, rows in _BY_FILE:
        for old, new, names, why in rows:
            yield Mutation(file, old, new, tuple(f"{tests}::{name}" for name in names.split(" & ")), why)


METHOD = "test_every_method_trains_as_its_paper_says[{}]".format
PLAIN = METHOD("none augment=fixed p=0.4")
RISING = METHOD("ada batch_per_device=2 target=-0.9")
OPTION = "test_every_option_reaches_its_field_and_no_other[{}]".format
REFERENCE = "tests/training/test_reference.py"
RUN = "tests/run/test_session.py"
STATE = "tests/training/test_state.py"
EVALUATION = "tests/run/test_evaluation.py"
CONFIG = "tests/config/test_resolve.py"

Row = tuple[str, str, str, str]  # old text, new text, names of tests joined by " & ", why
# fmt: off
_BY_FILE: tuple[tuple[str, str, tuple[Row, ...]], ...] = (
    ("training/phases.py", REFERENCE, (
        ("torch.randint(1, num_ws, ()", "torch.randint(0, num_ws, ()", PLAIN, "style mixing cuts off before the first layer"),
        ("layers < latents.cutoff", "layers <= latents.cutoff", PLAIN, "style mixing cuts off a layer late"),
        ("torch.cat([latents.z, latents.z_mix])", "torch.cat([latents.z, latents.z])", PLAIN, "style mixing with equal latents"),
        ("< self.config.style_mixing", "< 1 - self.config.style_mixing", PLAIN, "style mixing seldom"),
        ("torch.where(mix, cutoff, num_ws)", "torch.where(mix, cutoff, 1)", PLAIN, "latents that are not mixed come from the second z"),
        ("torch.randint(len(labels), (n,), generator=rng, device=device)", "torch.arange(n, device=device) % len(labels)", PLAIN, "labels in turn instead of drawn"),
        ("torch.cat([c, c_fake])", "torch.cat([c_fake, c])", PLAIN, "labels of real and generated halves exchanged"),
        ("views, batches=2)", "views, batches=1)", PLAIN, "minibatch std of real and generated images together"),
        ("logits = self._judge(shown, latents.c, view)\n", "logits = self._judge(fakes, latents.c, view)\n", RISING, "G's images are not augmented"),
        ("z=latents.z + latents.step", "z=latents.z - latents.step", METHOD("zcr"), "zCR's step backwards"),
        ("self._logits(x, c, view), images, gamma)", "self._judge(x, c, view), images, gamma)", PLAIN, "R1 at images that are not augmented"),
        ("p.requires_grad_(False)", "p.requires_grad_(True)", PLAIN, "G's step leaves gradients in D"),
        ("if self.measure is None or view", "if self.measure is not None or view", METHOD("diffaugment,r2 measurement=noise:0.2"), "generated images are not measured"),
    )),
    ("losses/terms.py", REFERENCE, (
        ("self.augment.draw(n, 1.0, generator=rng)", "self.augment.draw(n, 0.5, generator=rng)", METHOD("bcr consistency_reach=4.0"), "consistency's augmentation at p = 0.5"),
        ("self.generator_weight * diversity", "-self.generator_weight * diversity", METHOD("zcr"), "zCR's sign in G"),
        ("self.discriminator_weight * consistency", "-self.discriminator_weight * consistency", METHOD("zcr"), "zCR's sign in D"),
        ("* self.sigma", "* self.sigma**2", METHOD("zcr"), "zCR's step by its variance"),
        (" + self.drift * real.logits.square().mean()", "", METHOD("wgan-gp"), "WGAN-GP without drift"),
        ("self.drift * real.logits", "self.drift * fake.logits", METHOD("wgan-gp"), "drift of generated logits"),
        ("torch.lerp(fake.images, real.images, drawn_real)", "torch.lerp(fake.images, real.images, 0.5)", METHOD("wgan-gp"), "the gradient penalty half-way instead of anywhere"),
        ("self.weight * lecam_penalty", "self.weight / 2 * lecam_penalty", METHOD("lecam"), "LeCam's weight halved"),
        ("weight * consistency(seen.logits, augmented)", "weight * consistency(fake.logits, augmented)", METHOD("cr"), "CR across the two kinds"),
        ("(self.fake_weight, fake, drawn_fake)", "(0.0, fake, drawn_fake)", METHOD("bcr consistency_reach=4.0"), "bCR without generated images"),
        ("self.discriminator_weight * self._loss(real", "self.generator_weight * self._loss(real", METHOD("auxiliary-rotation"), "weights of auxiliary rotation exchanged"),
    )),
    ("training/step.py", REFERENCE, (
        ("objective.path_length_weight * objective.path_length_interval / rounds", "objective.path_length_weight / rounds", PLAIN, "path length not scaled by its interval"),
        ("* (objective.r1_interval / rounds)).backward()", "/ rounds).backward()", PLAIN, "R1 not scaled by its interval"),
        ("max(len(real) // objective.path_length_shrink, 1)", "len(real)", PLAIN, "path length of the whole batch"),
        ("batch.each(GENERATOR,", "replace(batch, micro_batches=[(0, *b[1:]) for b in batch.micro_batches]).each(GENERATOR,", PLAIN, "micro-batches draw the same latents"),
        ("self.state.random(stream, number)", "self.state.random(stream, 0)", PLAIN, "micro-batches draw alike"),
        ("logit_means)\n    (loss / rounds).backward()", "logit_means)\n    loss.backward()", PLAIN, "D's gradient is added up instead of averaged"),
        ("view, *pair)\n    (loss / rounds).backward()", "view, *pair)\n    loss.backward()", PLAIN, "G's gradient is added up instead of averaged"),
        ("torch.lerp(means, state.logit_means, decay)", "torch.lerp(state.logit_means, means, decay)", METHOD("lecam"), "LeCam's averages decay the other way"),
        ("batch.phases.config.lecam_decay if state.step else 0.0", "batch.phases.config.lecam_decay", METHOD("lecam"), "LeCam's averages begin at 0"),
        ("means += logits.mean(dim=1) / batch.rounds", "means += logits.mean(dim=1).flip(0) / batch.rounds", METHOD("lecam"), "LeCam's averages exchanged"),
        ("state.step % objective.path_length_interval == 0", "state.step % objective.path_length_interval == 1", PLAIN, "path length a step late"),
        ("state.step % objective.r1_interval == 0", "state.step % objective.r1_interval == 1", PLAIN, "R1 a step late"),
        ("mean += moved / batch.rounds", "mean = moved", PLAIN, "path length's mean of the last micro-batch alone"),
        ("state.path_length_mean = mean\n", "state.path_length_mean = state.path_length_mean.lerp(mean, 0.5)\n", PLAIN, "path length's mean moves by half"),
        ("sum(penalties[1:], penalties[0])", "sum(penalties[1:], sum(penalties))", METHOD("r2"), "R2 twice as strong as R1"),
        ("fakes = phases.measured(phases.fakes(drawn), view)", "fakes = phases.fakes(drawn)", METHOD("diffaugment,r2 measurement=noise:0.2"), "R2 at clean images behind a measurement"),
        ("device=real.device) >= p", "device=real.device) < p", METHOD("ada,apa,hinge target=-0.9"), "APA passes real images as generated ones"),
        ("torch.where(kept[:, None], c, latents.c)", "c", METHOD("ada,apa,hinge target=-0.9"), "APA keeps the real images' labels"),
        ("among=among)", "among=None)", METHOD("ada,apa,hinge target=-0.9"), "r_t counts APA's generated images as real"),
        ("    state.D.power_iteration()\n", "", METHOD("spectral-norm"), "spectral norms are never estimated again"),
        ("mapping.features(latents.z, latents.c).mean(0)", "mapping.features(latents.z_mix, latents.c).mean(0)", PLAIN, "w's average of the second latents"),
        ("    optimizer.zero_grad(set_to_none=True)", "    pass", PLAIN, "gradients pile up"),
    )),
    ("training/loop.py", REFERENCE, (
        ("picks = held_out[np.arange(state.step * n, (state.step + 1) * n) % len(held_out)]", "picks = np.arange(n)", METHOD("ada controller=rv target=0.1"), "r_v scores training images"),
        ("(state.step + 1) * n) % len(held_out)]", "state.step * n + 1) % len(held_out)]", METHOD("ada controller=rv target=0.1"), "r_v scores a single image"),
        ("state.controller.update(config.batch)", "state.controller.update(config.batch_per_device)", RISING, "p moves by micro-batches"),
    )),
    ("training/step.py", RUN, (
        ("torch.nan_to_num_(grad, nan=0.0, posinf=1e5, neginf=-1e5)", "pass", "test_one_bad_step_is_survived", "gradients that are not finite stay"),
        ("state.bad_streak = torch.where(bad, state.bad_streak + 1, 0)", "state.bad_streak = state.bad_streak * 0", "test_non_finite_gradients_roll_back", "bad steps in a row are not counted"),
    )),
    ("training/loop.py", RUN, (
        ("config.kind == \"rv\" or state.step % config.interval == config.interval - 1", "state.step % config.interval == config.interval - 1", "test_held_out_images_never_train[rv]", "r_v is fed once a window"),
    )),
    ("training/state.py", STATE, (
        ("c = 1.0 if interval is None else interval / (interval + 1)", "c = 1.0", "test_rates_of_adam[paper256]", "Adam's lazy correction dropped"),
        ("(config.beta1**c, config.beta2**c)", "(config.beta1, config.beta2)", "test_rates_of_adam[paper256]", "Adam's betas not corrected"),
        ("lr=lr * c, betas", "lr=lr, betas", "test_rates_of_adam[paper256]", "Adam's rate not corrected"),
        ("lazy_adam(self.D, config.discriminator_lr, config, lazy_d)", "lazy_adam(self.D, config.discriminator_lr, config, lazy_g)", "test_rates_of_adam[paper256]", "D's Adam corrected by G's interval"),
        ("half_life = min(half_life, self.images * ramp)", "pass", "test_the_ema_copies_buffers_and_ramps_up_with_the_images_before_the_batch", "EMA ramp-up dropped"),
        ("kept.copy_(live)", "kept.lerp_(live, 1 - beta)", "test_the_ema_copies_buffers_and_ramps_up_with_the_images_before_the_batch", "EMA averages w's average once more"),
        ("self.images * ramp)", "(self.images + images) * ramp)", "test_the_ema_copies_buffers_and_ramps_up_with_the_images_before_the_batch", "EMA ramp counts the batch at hand"),
        ("half_life_kimg * 1000", "half_life_kimg * 1024", "test_the_ema_copies_buffers_and_ramps_up_with_the_images_before_the_batch", "EMA's half-life in other thousands"),
        ("if objective.has_r1_phase else None", "if objective.r1_gamma else None", "test_rates_follow_the_phases", "Adam of D forgets the phase without weight"),
        ("beta2: Annotated[float, Limits(at_least=0, below=1)] = 0.99", "beta2: Annotated[float, Limits(at_least=0, below=1)] = 0.999", "test_rates_of_adam[paper256]", "Adam's β₂"),
        ("beta1: Annotated[float, Limits(at_least=0, below=1)] = 0.0", "beta1: Annotated[float, Limits(at_least=0, below=1)] = 0.9", "test_rates_of_adam[paper256]", "Adam's β₁"),
    )),
    ("training/state.py", "tests/run/test_rollback.py", (
        ("(self.seed + 0x9E3779B97F4A7C15 * (salt + 1)) % 2**63", "self.seed", "test_a_rollback_has_new_random_numbers_and_leaves_no_stale_records", "no new random numbers after a roll-back"),
        ("group.setdefault(\"initial_lr\", group[\"lr\"]) * factor", "group.setdefault(\"initial_lr\", group[\"lr\"])", "test_rollback_with_lower_rates", "rates are not lowered after a roll-back"),
    )),
    ("training/state.py", "tests/run/test_resume.py", (
        ("            \"logit_means\": self.logit_means,\n", "", "test_the_state_is_whole", "LeCam's averages are not kept"),
        ("            \"path_length_mean\": self.path_length_mean,\n", "            \"path_length_mean\": self.path_length_mean * 0,\n", "test_the_state_is_whole", "path length's mean is not kept"),
        ("        self.sampler.load_state_dict(facts[\"sampler\"])\n", "", "test_the_state_is_whole", "a resume begins the epoch anew"),
    )),
    ("training/checkpoint.py", "tests/training/test_checkpoint.py", (
        ("not name.startswith(\"controller/\")", "not name.startswith((\"controller/\", \"optimizer\"))", "test_one_value_that_is_not_finite_is_found", "optimisers left out of the finite check"),
        ("not name.startswith(\"controller/\")", "not name.startswith((\"controller/\", \"ema\"))", "test_one_value_that_is_not_finite_is_found", "the EMA left out of the finite check"),
        (" and not name.startswith(\"controller/\")", "", "test_what_the_controller_has_not_observed_is_nan", "what was not observed is taken for divergence"),
    )),
    ("training/checkpoint.py", RUN, (
        ("(file.stat().st_size, _sha256(file)) != written", "file.stat().st_size != written[0]", "test_damaged_checkpoint_is_passed_over", "checksums are not compared"),
        ("    _remove_unfinished(directory)\n\n\ndef recover", "\n\ndef recover", "test_unfinished_checkpoint_is_not_seen", "what a killed writer left stays"),
        ("[: -keep_last or None]", "[: -keep_last - 1 or None]", "test_unfinished_checkpoint_is_not_seen", "one checkpoint more is kept"),
    )),
    ("training/stats.py", "tests/training/test_stats.py", (
        ("torch.where(torch.isfinite(sums).all(), sums, 0)", "sums", "test_a_broken_window_is_left_out", "a window that is not finite counts"),
        ("sums if self._windows is None else self._windows + sums", "sums", "test_heuristics_cover_all_windows_since_the_last_record", "r_t of the last window alone"),
        ("        self._windows: Tensor | None = None\n", "        self._windows: Tensor | None = getattr(self, \"_windows\", None)\n", "test_a_record_begins_anew", "windows of earlier records count"),
    )),
    ("training/transfer.py", "tests/training/test_transfer.py", (
        ("given[:3].mean(dim=0) if mean else given[:3].sum(dim=0)", "given[:3].mean(dim=0)", "test_grey_from_rgb_is_the_mean_and_back", "D sees grey three times too weak"),
        ("rows.transpose(0, 1) * math.sqrt(after / before)", "rows.transpose(0, 1)", "test_grey_from_rgb_is_the_mean_and_back", "the scale of 1/√fan-in is forgotten"),
        ("wider * scale, \"labels gained", "wider, \"labels gained", "test_labels_gained_count_for_nothing_at_first", "the wider layer is scaled otherwise"),
        ("_copy(G, source.raw_generator or source.generator,", "_copy(G, source.generator,", "test_fine_tuning_a_run", "training goes on from the EMA"),
        ("max(size) >= number if at_least else", "max(size) > number if at_least else", "test_freezing", "Freeze-D leaves out the size that it names"),
    )),
    ("losses/penalties.py", "tests/losses/test_penalties.py", (
        ("math.sqrt(image_shape[2] * image_shape[3])", "image_shape[2]", "test_path_length_noise_of_rectangles", "path-length noise of non-square images"),
        (".mean() * (gamma / 2)", ".mean() * gamma", "test_r1_has_a_gradient_in_the_parameters", "R1 twice as strong"),
        ("grad.square().sum(dim=(1, 2, 3))", "grad.square().mean(dim=(1, 2, 3))", "test_gradient_norm_of_a_quadratic", "gradients' norm per pixel"),
        ("grad.square().sum(dim=2).mean(dim=1).sqrt()", "grad.square().sum(dim=2).sum(dim=1).sqrt()", "test_path_lengths_of_a_linear_generator", "path lengths added up over layers"),
        ("(lengths - moved).square().mean(), moved.detach()", "(lengths - moved.detach()).square().mean(), moved.detach()", "test_path_length_gradient_passes_through_the_running_mean", "no gradient through the running mean"),
        ("(lengths - moved).square().mean(), moved", "(lengths - mean).square().mean(), moved", "test_path_length_mean_moves_first", "lengths against the mean before them"),
    )),
    ("losses/penalties.py", "tests/losses/test_adversarial.py", (
        ("(real - means[1]).square().mean() + (fake - means[0])", "(real - means[0]).square().mean() + (fake - means[1])", "test_lecam_penalty", "LeCam's averages exchanged in the penalty"),
        ("target: float = 1.0", "target: float = 0.0", "test_gradient_penalty_of_a_linear_critic", "the gradient penalty is centred at 0"),
    )),
    ("losses/adversarial.py", "tests/losses/test_adversarial.py", (
        ("F.relu(1 - real) + F.relu(1 + fake)", "F.relu(-real) + F.relu(fake)", "test_closed_forms", "the hinge without its margin"),
        ("F.softplus(real - fake)", "F.softplus(fake - real)", "test_closed_forms", "the relativistic G plays for D"),
    )),
    ("losses/consistency.py", "tests/losses/test_adversarial.py", (
        ("-(one - other)", "(one - other)", "test_consistency_and_diversity", "diversity is punished"),
    )),
    ("augment/controller.py", "tests/augment/test_controller.py", (
        ("(self.config.speed_kimg * 1000)\n            p = ", "(self.config.speed_kimg * 1024)\n            p = ", "test_the_papers_step_at_batch_64", "p's step"),
        ("p = self.p + excess.sign()", "p = self.p - excess.sign()", "test_rv_steers_towards_one_half", "p moves the wrong way"),
        ("excess.sign().nan_to_num(0)", "excess.nan_to_num(0)", "test_the_papers_step_at_batch_64", "p's step grows with the excess"),
        ("p.clamp(0, self.config.p_max or None)", "p.clamp(0, 1)", "test_cap[0.85]", "p has no cap"),
        ("(real - held_out) / (real - generated)", "(real - held_out) / (held_out - generated)", "test_heuristics", "r_v's denominator"),
        ("(real - generated).clamp_min(1e-8)", "(real - generated)", "test_the_denominator_of_r_v_is_floored_and_its_value_bounded", "r_v's denominator without its floor"),
        ("r_v.clamp(-R_V_LIMIT, R_V_LIMIT)", "r_v", "test_the_denominator_of_r_v_is_floored_and_its_value_bounded", "r_v of any size"),
        ("x.sign() * weight", "x * weight", "test_heuristics", "r_t of logits instead of signs"),
        ("logits is not real", "logits is not generated", "test_only_real_images_count_among_pseudo_real_ones", "weights go to the generated logits"),
        ("\"rt\": Rule(\"r_t\", 0.6, (-1, 1))", "\"rt\": Rule(\"r_t\", 0.5, (-1, 1))", "test_default_targets", "r_t's default target"),
        ("(1 - cos(pi * done)) / 2", "done", "test_schedule_is_half_a_cosine", "the schedule is a line"),
    )),
    ("augment/transforms.py", "tests/augment/test_distributions.py", (
        ("\"scale\": Transform(\"geometry\", \"n\", lambda n, _: n * 0.2", "\"scale\": Transform(\"geometry\", \"n\", lambda n, _: n * 0.3", "test_continuous_parameters[scale]", "isotropic scaling's deviation"),
        ("\"brightness\": Transform(\"color\", \"n\", lambda n, _: n * 0.2", "\"brightness\": Transform(\"color\", \"n\", lambda n, _: n * 0.5", "test_continuous_parameters[brightness]", "brightness's deviation"),
        ("\"noise\": Transform(\"noise\", \"n\", lambda n, _: n.abs() * 0.1)", "\"noise\": Transform(\"noise\", \"n\", lambda n, _: n.abs() * 0.2)", "test_continuous_parameters[noise]", "the noise's deviation"),
        ("lambda u, _: (u * 4).floor(), lambda i: _turn", "lambda u, _: (u * 3).floor(), lambda i: _turn", "test_discrete_parameters[rotate90]", "three quarter turns are never drawn"),
        ("((u * 2 - 1) * 0.125 * size).round()", "((u * 2 - 1) * 0.25 * size).round()", "test_discrete_parameters[xint]", "whole-pixel translation reaches further"),
    )),
    ("augment/transforms.py", "tests/augment/test_transforms.py", (
        ("lambda b: b, _OFFSET[None])", "lambda b: -b, _OFFSET[None])", "test_matrices_have_their_closed_forms[brightness]", "brightness downwards"),
        ("lambda c: c.exp2() - 1, _RGB[None])", "lambda c: c.exp() - 1, _RGB[None])", "test_matrices_have_their_closed_forms[contrast]", "contrast by powers of e"),
        ("lambda i: i, -2 * _LUMA[None])", "lambda i: i, -1 * _LUMA[None])", "test_matrices_have_their_closed_forms[lumaflip]", "the luma is removed, not inverted"),
        ("torch.cat([(-s).exp2(), s.exp2()], dim=1) - 1", "torch.cat([(-s).exp2(), (-s).exp2()], dim=1) - 1", "test_matrices_have_their_closed_forms[aniso]", "anisotropic scaling is isotropic"),
        ("    \"bgc\": (\"blit\", \"geometry\", \"color\"),", "    \"bgc\": (\"blit\", \"geometry\", \"filter\"),", "test_presets", "bgc's groups"),
    )),
    ("augment/transforms.py", "tests/augment/test_pipeline.py", (
        ("BAND_POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)", "BAND_POWER = (1 / 13, 1 / 13, 1 / 13, 10 / 13)", "test_agrees_with_golden", "the spectrum upside down"),
    )),
    ("augment/pipeline.py", "tests/augment/test_distributions.py", (
        ("torch.where(self._rotation, 1 - (1 - p).sqrt(), p)", "p", "test_rotation_fires_before_or_after_with_probability_p", "two rotations, each with p"),
        ("order.insert(order.index(\"aniso\") + 1, \"rotate\")", "order.insert(order.index(\"aniso\"), \"rotate\")", "test_the_second_rotation_comes_after_the_anisotropic_scaling", "both rotations before the scaling"),
        ("torch.rand(n, len(self.steps), generator=generator, device=device) < rates", "torch.rand(n, 1, generator=generator, device=device) < rates", "test_transforms_fire_independently", "all transforms fire together"),
    )),
    ("augment/pipeline.py", "tests/augment/test_pipeline.py", (
        ("lambda before, matrix: matrix @ before, self._color", "lambda before, matrix: before @ matrix, self._color", "test_agrees_with_golden", "colour transforms in the other order"),
        ("return along_h @ x @ along_w.mT", "return along_h @ x", "test_agrees_with_golden", "the filter acts along one axis"),
        ("            p = p.clamp(0, 1)\n", "", "test_p_is_clipped", "p beyond 1"),
        ("half = box[:, :1] / 2", "half = box[:, :1]", "test_agrees_with_golden", "cutout of twice the size"),
    )),
    ("augment/diffaugment.py", "tests/augment/test_diffaugment.py", (
        ("(brightness - 0.5)", "(brightness - 0.4)", "test_color_by_hand", "DiffAugment's brightness is off centre"),
        ("(saturation * 2)", "(saturation + 0.5)", "test_color_by_hand", "DiffAugment's saturation"),
        ("half = round(size / 2)", "half = round(size / 4)", "test_cutout_is_half_of_each_side", "DiffAugment's cutout"),
        ("return moved * inside[:, None]", "return moved", "test_translation_by_hand", "translation repeats the border"),
    )),
    ("ops/tiling.py", "tests/ops/test_tiling.py", (
        ("x.narrow(axis, size - before, before), x", "x.narrow(axis, 0, before), x", "test_every_operation_is_the_plain_one_among_copies", "the wrong end before"),
    )),
    ("run/build.py", "tests/run/test_tiling.py", (
        ("if shift and judged == generated:", "if shift:", "test_all_are_shown_from_anywhere_where_they_repeat_else_generated_ones_only", "crops moved around their border"),
    )),
    ("ops/rotations.py", "tests/augment/test_measurements.py", (
        ("x.rot90(k, (2, 3))", "x.rot90(-k, (2, 3))", "test_turns_are_numpys_in_their_shares", "quarter turns the other way"),
    )),
    ("augment/measurements.py", "tests/augment/test_measurements.py", (
        ("_DROPPED = -1.0", "_DROPPED = 0.0", "test_what_is_dropped_is_black_and_the_rest_untouched", "what is dropped is grey"),
        ("return (x + noise).clamp(-1, 1)", "return x + noise", "test_shape_range_gradient[noise]", "noise beyond the range"),
        ("-(taps**2) / (2 * blur**2)", "-(taps**2) / blur**2", "test_blur_is_scipys", "a narrower blur"),
    )),
    ("networks/stylegan2/synthesis.py", "tests/networks/test_precision.py", (
        ("level >= len(self.sizes) - self.num_low_precision", "level < self.num_low_precision", "test_the_four_highest_resolutions_compute_in_low_precision[skip]", "low precision at the coarsest blocks of G"),
        ("self.clamp * gain)", "self.clamp)", "test_activations_are_clamped_in_every_layer[resnet]", "the clamp of a resnet generator's branch"),
    )),
    ("networks/stylegan2/synthesis.py", "tests/networks/test_render.py", (
        ("layers.append(StyleLayer(level, kind, layer.affine.weight.shape[0], first + i))", "layers.append(StyleLayer(level, kind, layer.affine.weight.shape[0], first))", "test_each_layer_reads_its_own_w", "all layers of a block read one w"),
    )),
    ("networks/stylegan2/synthesis.py", "tests/networks/test_golden.py", (
        ("gain_in = gain * ACTIVATION_GAIN[\"lrelu\"]", "gain_in = gain", "test_generator", "G's activations without their gain"),
        ("self.weight, style, demodulate=False", "self.weight, style, demodulate=True", "test_generator", "ToRGB demodulates"),
    )),
    ("networks/stylegan2/discriminator.py", "tests/networks/test_precision.py", (
        ("dtype if i < self.num_low_precision else torch.float32", "dtype if i >= len(self.sizes) - 1 - self.num_low_precision else torch.float32", "test_the_four_highest_resolutions_compute_in_low_precision[resnet]", "low precision at the coarsest blocks of D"),
    )),
    ("networks/stylegan2/discriminator.py", "tests/networks/test_networks.py", (
        ("x.float().reshape(batches, group, n // group, channels", "x.float().reshape(batches, n // group, group, channels", "test_minibatch_std_by_hand", "groups of neighbours instead of strided ones"),
        (".sqrt().mean(dim=(4, 5, 6))", ".mean(dim=(4, 5, 6))", "test_minibatch_std_by_hand", "the variance instead of the deviation"),
    )),
    ("networks/stylegan2/discriminator.py", "tests/networks/test_golden.py", (
        ("shortcut = self.skip(x, gain=math.sqrt(0.5))", "shortcut = self.skip(x)", "test_discriminator", "D's shortcut without its gain"),
        (".sum(dim=1) / math.sqrt(self.cmap_dim)", ".sum(dim=1)", "test_discriminator", "the projection is not scaled"),
    )),
    ("networks/stylegan2/discriminator.py", "tests/networks/test_variants.py", (
        ("/ 0.5 + 1).clamp(0, 1) / 2", "/ 0.5 + 1).clamp(0, 1)", "test_bits_come_in_one_by_one", "PA-GAN's bits are always set"),
        ("(normal * p).exp()", "normal.exp()", "test_dropout_factors_are_log_normal", "dropout's strength does not follow p"),
    )),
    ("networks/layers.py", "tests/networks/test_variants.py", (
        ("F.normalize(self.weight.flatten(1) @ self._right(), dim=0)", "F.normalize(self.singular, dim=0)", "test_spectral_norm_is_the_largest_singular_value", "the power iteration stands still"),
    )),
    ("networks/mapping.py", "tests/networks/test_networks.py", (
        ("self.w_avg.lerp(head, truncation)", "head.lerp(self.w_avg, truncation)", "test_truncation_and_average", "truncation towards the image itself"),
        ("ws[:, :truncation_cutoff]", "ws[:, :]", "test_truncation_and_average", "the cutoff of truncation"),
    )),
    ("networks/mapping.py", REFERENCE, (
        ("decay: float = 0.995", "decay: float = 0.998", PLAIN, "w's average decays slower"),
    )),
    ("networks/stylegan2/generator.py", "tests/networks/test_sampling.py", (
        ("made.append(images.clamp(-1, 1))", "made.append(images)", "test_images_stay_in_their_range", "images beyond their range"),
        ("None if labels is None else labels[i : i + batch].to(device)", "None if labels is None else labels[: len(some)].to(device)", "test_a_seed_is_the_same_image_whatever_is_made_beside_it & test_labels_have_the_generators_shape", "labels of the first batch for all"),
    )),
    ("networks/sampling.py", "tests/networks/test_sampling.py", (
        ("SeedSequence((s, _NOISE_STREAM))", "SeedSequence((seeds[0], _NOISE_STREAM))", "test_a_seed_is_the_same_image_whatever_is_made_beside_it", "noise follows from the batch's first seed"),
        ("(torch.as_tensor(total) / AVERAGE_LATENTS)", "(torch.as_tensor(total) / _CHUNK)", "test_the_estimated_average_is_that_of_w", "the estimated average of w"),
    )),
    ("ops/modulated_conv.py", "tests/networks/test_golden.py", (
        ("weight.square().sum(dim=(2, 3))", "weight.square().mean(dim=(2, 3))", "test_generator", "demodulation by means"),
    )),
    ("metrics/distances.py", "tests/metrics/test_distances.py", (
        ("return k * k * k", "return k * k", "test_kernel_distance_agrees_with_sklearn", "KID's kernel of degree 2"),
        ("total += 2 * block.sum() - own.sum() - np.trace(own)", "total += 2 * block.sum() - own.sum()", "test_kernel_distance_agrees_with_sklearn", "KID counts pairs of a sample with itself"),
        ("chosen @ itself) / (size * (size - 1))", "chosen @ itself) / size**2", "test_kernel_distance_of_subsets & test_subsets_share_their_pairs_and_change_nothing", "KID of subsets is biased"),
        ("(sums(x, x, chosen, chosen) - chosen @ itself)", "sums(x, x, chosen, chosen)", "test_kernel_distance_of_subsets & test_subsets_share_their_pairs_and_change_nothing", "KID of subsets counts pairs of a sample with itself"),
        ("self.count * other.count / total)\n", "self.count)\n", "test_streaming_moments_equal_batch", "merged scatters"),
        ("self.scatter / (self.count - 1)", "self.scatter / self.count", "test_streaming_moments_equal_batch & test_frechet_distance_agrees_with_sqrtm", "the covariance over count"),
        ("+ trace - 2 * cross)", "+ trace - cross)", "test_frechet_distance_of_commuting_gaussians", "FID's cross term"),
        ("np.square(mean - other_mean).sum() + trace", "np.abs(mean - other_mean).sum() + trace", "test_frechet_distance_of_commuting_gaussians", "FID's means by absolute differences"),
        ("np.sort(rng.choice(n, count, replace=False))", "np.arange(count)", "test_extrapolation_draws_its_subsets", "FID∞'s subsets are the first samples"),
        ("line = np.stack([np.ones(len(counts)), 1 / counts], axis=1)", "line = np.stack([np.ones(len(counts)), 1.0 * counts], axis=1)", "test_extrapolation_takes_away_the_bias_of_few_samples", "FID∞'s line over N instead of 1/N"),
        ("np.exp((p * (log_p - log_marginal)).sum(axis=1).mean())", "np.exp((p * (log_p - log_marginal)).sum(axis=1)).mean()", "test_agreement_with_torchmetrics", "the Inception score's mean outside the exponential"),
    )),
    ("metrics/neighbours.py", "tests/metrics/test_neighbours.py", (
        ("np.partition(squared, k, axis=1)[:, k]", "np.partition(squared, k, axis=1)[:, k - 1]", "test_manifolds_agree_with_sklearn", "a sample is its own neighbour"),
        ("_share_covered(generated, real, k), _share_covered(real, generated, k)", "_share_covered(real, generated, k), _share_covered(generated, real, k)", "test_a_lost_mode_costs_recall_not_precision", "precision and recall exchanged"),
        ("inside / (k * len(generated))", "inside / len(generated)", "test_equal_distributions_have_unit_density_and_known_coverage", "density is not divided by k"),
    )),
    ("metrics/copying.py", "tests/metrics/test_copying.py", (
        ("(total + 1 - (ties", "(total - (ties", "test_z_is_that_of_scipy", "the variance of U"),
        ("        weights.append(n)\n", "        weights.append(m)\n", "test_cells_against_a_direct_computation", "cells weighted by generated images"),
        ("auc_estimate(-generated, -unseen,", "auc_estimate(generated, unseen,", "test_memorisation_is_the_probability_of_being_nearer", "memorisation the wrong way round"),
        ("(far < np.quantile(control, COPY_QUANTILE))", "(far < np.quantile(control, 1 - COPY_QUANTILE))", "test_simulated_copies_are_found", "copies by the farthest of the unseen"),
        ("is_authentic(unseen)", "is_authentic(generated)", "test_authenticity_and_distances_by_direct_computation", "the control is the samples"),
        ("    return free\n", "    return ~free\n", "test_a_control_shares_no_group", "the control is what shares groups"),
    )),
    ("metrics/likelihood.py", "tests/metrics/test_likelihood.py", (
        ("weight[seen] * self.dims", "weight[seen]", "test_density_and_optimum_are_those_of_pytorch", "variances are not per dimension"),
        ("of_train.mean() - of_unseen.mean(), error", "of_unseen.mean() - of_train.mean(), error", "test_copies_and_bad_samples_are_told_apart", "the excess has the wrong sign"),
    )),
    ("metrics/membership.py", "tests/metrics/test_membership.py", (
        ("1 - shares_below(negative, positive)", "shares_below(negative, positive)", "test_the_interval_is_that_of_delong", "placements of negative scores"),
        ("positive > threshold", "positive >= threshold", "test_a_score_that_ties_with_the_threshold_is_not_accused", "ties with the threshold are accused"),
    )),
    ("metrics/resampling.py", "tests/metrics/test_resampling.py", (
        ("count // 2]] = True", "count // 3]] = True", "test_halves_part_the_groups", "thirds for halves"),
        ("count / (count - 1) * np.square(sums)", "np.square(sums)", "test_images_of_a_group_are_one_observation", "the scatter of a sample is that of the whole"),
    )),
    ("metrics/utility.py", "tests/metrics/test_utility.py", (
        ("found[\"synthetic\"] - found[\"real\"]", "found[\"real\"] - found[\"synthetic\"]", "test_good_and_useless_synthetic_images_are_told_apart", "the difference has the wrong sign"),
        ("own.sum(axis=1) == 1)", "own.sum(axis=1) >= 1)", "test_tasks_of_labels", "an image of two classes has an answer"),
    )),
    ("metrics/path_length.py", "tests/metrics/test_path_length.py", (
        ("/ epsilon**2)", "/ epsilon)", "test_straight_paths_in_w_have_the_length_of_their_ends", "path length by ε instead of ε²"),
        ("a * angle.cos() + across", "a * (1 - angle) + across", "test_slerp & test_great_circles_in_z_have_the_length_of_their_angle", "no great circle"),
        ("(values >= low) & (values <= high)", "(values >= low)", "test_the_outermost_hundredths_do_not_count", "the highest path lengths count"),
        ("rng.uniform() if sampling == \"full\" else 0.0", "0.0", "test_full_paths_are_looked_at_anywhere_and_ends_at_their_beginning", "\"full\" is as \"end\""),
    )),
    ("metrics/sampling.py", "tests/metrics/test_evaluator.py", (
        ("rng.integers(len(labels)) if labels is not None", "number % len(labels) if labels is not None", "test_labels_are_drawn_from_the_rows_given", "labels in turn instead of drawn"),
        ("np.random.default_rng((seed, number))", "np.random.default_rng((seed, i))", "test_an_image_follows_from_seed_and_number_alone", "latents follow from the place in the batch"),
        ("{} if truncation == 1 else {\"truncation\": truncation}", "{}", "test_truncation_reaches_the_mapping", "truncation does not reach the mapping"),
        ("noise_seeds.append(int(rng.integers(1 << 63)))", "noise_seeds.append(seed)", "test_noise_is_fresh_for_every_image", "one noise for all images"),
    )),
    ("metrics/evaluator.py", "tests/metrics/test_evaluator.py", (
        ("kinds = np.unique(labels, axis=0)[::-1]", "kinds = np.unique(labels, axis=0)", "test_metrics_for_each_class", "the order of classes on the card"),
        ("hashlib.sha256(f\"{self.features.digest} {image_set.digest}\".encode())", "hashlib.sha256(f\"{self.features.name} {len(images)}\".encode())", "test_the_cache_knows_pixels_and_network", "features are found again by a set's size"),
        ("found.ndim == 2 and len(found) == count", "found.ndim == 2", "test_a_damaged_cache_is_mended", "cached features of another count"),
        ("np.isin(rows, label_rows)", "np.isin(rows, label_rows, invert=True)", "test_metrics_for_each_class", "samples of the other classes"),
        ("            \"samples\": config.samples,\n", "", "test_the_card_says_how", "the card does not say how many samples"),
    )),
    ("metrics/image_set.py", "tests/metrics/test_evaluator.py", (
        ("pixels[flipped] = pixels[flipped, :, ::-1]", "pixels[flipped] = pixels[flipped, ::-1]", "test_x_flipped_copies", "mirrored copies stand upside down"),
        ("own = row % len(self.pixels)\n", "own = 0\n", "test_memorisation_is_found_where_it_was_simulated", "neighbours are named wrongly"),
    )),
    ("metrics/card.py", "tests/metrics/test_card.py", (
        ("for k in names if a.protocol.get(k) != b.protocol.get(k)", "for k in a.values if a.protocol.get(k) != b.protocol.get(k)", "test_other_protocols_are_refused_by_name", "cards of other protocols are compared"),
        ("(a.values[k], b.values[k])", "(b.values[k], a.values[k])", "test_cards_measured_alike_are_compared", "cards compared the wrong way round"),
    )),
    ("metrics/metric.py", EVALUATION, (
        ("\"recall\":       Metric(_precision_recall, (\"precision\", \"recall\"), **_SHARES", "\"recall\":       Metric(_precision_recall, (\"precision\", \"recall\"), **{**_SHARES, \"higher_is_better\": False}", "test_the_best_checkpoint[recall-values2-1]", "recall is better the lower"),
        ("Metric(_kid_full, (\"kid_full\",), higher_is_better=False", "Metric(_kid_full, (\"kid_full\",), higher_is_better=True", "test_the_best_checkpoint[kid_full-values0-1]", "KID is better the higher"),
    )),
    ("run/load.py", EVALUATION, (
        ("found = run.best() or run.latest()", "found = run.latest() or run.best()", "test_the_best_checkpoint[kid_full-values0-1]", "the newest instead of the best checkpoint"),
    )),
    ("run/session.py", EVALUATION, (
        ("keep = {best.path} if best else set()", "keep = set()", "test_the_best_checkpoint[kid_full-values0-1]", "pruning removes the best checkpoint"),
        ("report.evaluate_kimg and due(report.evaluate_kimg)", "_passed(report.evaluate_kimg, tick.since, self.state.images)", "test_the_last_step_is_measured_though_none_was_due", "the last step is not measured"),
    )),
    ("run/periodic_evaluation.py", EVALUATION, (
        ("sign * known <= sign * value)", "sign * known >= sign * value)", "test_the_best_checkpoint[kid_full-values0-1]", "the worst checkpoint is kept as the best"),
        ("not math.isfinite(value) or ", "", "test_the_best_checkpoint[kid_full-values1-1]", "nan is the best"),
        ("unless_stopped(self.state.ema.without_masks(), may_stop", "unless_stopped(self.state.G, may_stop", "test_the_averaged_generator_is_measured_as_it_is_kept", "G is measured instead of its EMA"),
        ("may_stop = stop if world_size() == 1 else lambda: False", "may_stop = lambda: False", "test_a_stop_does_not_wait_for_a_measurement", "a stop waits for a measurement"),
    )),
    ("run/evaluate.py", EVALUATION, (
        ("        \"train\": dataset.train_indices,\n", "        \"train\": dataset.stream_indices,\n", "test_references", "x-flips are in the reference"),
    )),
    ("run/rollback.py", "tests/run/test_rollback.py", (
        ("        self.state.reseed(rollbacks)\n", "", "test_a_rollback_has_new_random_numbers_and_leaves_no_stale_records", "the same random numbers after a roll-back"),
        ("rollbacks > MAX_ROLLBACKS", "rollbacks > 100 * MAX_ROLLBACKS", "test_rollbacks_end", "roll-backs without end"),
    )),
    ("run/reporting.py", "tests/run/test_rollback.py", (
        ("        if self.writes:\n            self.stats.truncate(after_kimg=self.state.kimg)\n", "", "test_a_rollback_has_new_random_numbers_and_leaves_no_stale_records", "stale records after a roll-back"),
    )),
    ("run/rollback.py", "tests/run/test_rollback.py", (
        ("if self.training.rollback_lr < 1 else None", "if self.training.rollback_lr > 1 else None", "test_rollback_with_lower_rates", "outputs that blow up are not taken for divergence"),
    )),
    ("run/sample_grid.py", "tests/run/test_rollback.py", (
        ("math.sqrt(flat.shape[1])) if len(flat) > 1", "flat.shape[1]) if len(flat) > 1", "test_diversity", "diversity's scale"),
    )),
    ("run/reporting.py", RUN, (
        ("if controller.kind in (\"rt\", \"rv\") else 0.0", "if controller.kind == \"rt\" else 0.0", "test_resting_at_the_cap_is_told[rv]", "no warning at the cap under r_v"),
    )),
    ("config/presets.py", CONFIG, (
        ("\"stylegan2\":     Preset( 25000,   32,    4, 32768, .0020,  10.0,", "\"stylegan2\":     Preset( 25000,   32,    4, 32768, .0020,   1.0,", "test_every_constant_of_the_papers_table[stylegan2]", "stylegan2's γ"),
        ("\"paper256\":      Preset( 25000,   64,    8, 16384,", "\"paper256\":      Preset( 25000,   64,    8, 32768,", "test_every_constant_of_the_papers_table[paper256]", "paper256's widths"),
        ("\"paper512\":      Preset( 25000,   64,    8, 32768, .0025,   0.5,  20.0,", "\"paper512\":      Preset( 25000,   64,    8, 32768, .0025,   0.5,  10.0,", "test_every_constant_of_the_papers_table[paper512]", "paper512's EMA"),
        ("\"paper1024\":     Preset( 25000,   32,    4, 32768, .0020,", "\"paper1024\":     Preset( 25000,   32,    4, 32768, .0025,", "test_every_constant_of_the_papers_table[paper1024]", "paper1024's learning rate"),
        ("\"cifar\":         Preset(100000,   64,   32,", "\"cifar\":         Preset(100000,   64,    4,", "test_every_constant_of_the_papers_table[cifar]", "cifar's minibatch-std group"),
        ("\"cifarbaseline\": Preset(100000,   64,   32, 32768, .0025,  0.01, 500.0, 0.05,   8)", "\"cifarbaseline\": Preset(100000,   64,   32, 32768, .0025,  0.01, 500.0, 0.05,   2)", "test_every_constant_of_the_papers_table[cifarbaseline]", "cifarbaseline's mapping"),
        ("FINE_TUNING_ADA_KIMG = 100", "FINE_TUNING_ADA_KIMG = 500", "test_fine_tuning_is_five_times_as_fast", "p moves slowly when fine-tuning"),
    )),
    ("config/resolve.py", CONFIG, (
        ("0.0002 * side**2 / batch", "0.0002 * side / batch", "test_auto[128]", "auto's γ"),
        ("batch * 10 / 32,", "batch * 20 / 32,", "test_auto[128]", "auto's EMA"),
    )),
    ("data/dataset.py", "tests/data/test_dataset.py", (
        ("images.flip(3), images)", "images.flip(2), images)", "test_flips_and_residence", "mirrored images stand upside down"),
        ("        labels = self.labels[self.train_indices]\n        return torch", "        labels = self.labels\n        return torch", "test_labels_of_fakes_follow_the_training_images", "labels of held-out images are drawn"),
        ("        config.mirror,\n        float(config.held_out)", "        float(config.held_out)", "test_the_fingerprint_covers", "the fingerprint does not know x-flips"),
        ("np.concatenate([own, own + len(self)])", "np.concatenate([own, own])", "test_mirrored_copies_stay_on_their_side_of_the_split & test_flips_and_residence", "x-flips are no flips"),
    )),
    ("data/store.py", "tests/data/test_dataset.py", (
        ("f\"{seed}\\0{name}\"", "f\"{name}\"", "test_the_split_depends_on_names_and_seed_only", "the split does not follow its seed"),
        ("return np.sort(order[count:]), np.sort(order[:count])", "return np.sort(order[:-count or None]), np.sort(order[:count])", "test_split", "held-out images train"),
        ("count = round(held_out * images) if held_out < 1", "count = round(held_out * images) if held_out <= 1", "test_split", "holding out 1 image holds out all"),
    )),
    ("data/sampler.py", "tests/data/test_sampler.py", (
        ("default_rng([self._seed, self._epoch])", "default_rng([self._seed])", "test_shuffling_is_uniform", "each epoch in the same order"),
        ("default_rng([self._seed, self._epoch])", "default_rng([self._epoch])", "test_seeds_differ_and_repeat", "the order does not follow the seed"),
        ("return generator.permutation(self._indices)", "return generator.choice(self._indices, len(self._indices))", "test_every_epoch_holds_every_index_once", "drawn with replacement"),
        ("draws = generator.integers(len(kinds), size=count)", "draws = np.arange(count) * 0", "test_balanced_classes_are_equally_likely", "one class alone"),
        ("\"position\": self._position,", "\"position\": 0,", "test_resume_continues_exactly", "a resume begins the epoch anew"),
    )),
    ("data/groups.py", "tests/data/test_groups.py", (
        ("reached[: limit + 1 - size] & ~reached[size:]", "reached[: limit + 1 - size]", "test_no_subset_comes_nearer", "a group counts twice"),
        ("limit = min(sum(sizes) - 1,", "limit = min(sum(sizes),", "test_no_subset_comes_nearer", "all groups are held out"),
        ("np.abs(sums - wanted).argmin()", "(sums - wanted).argmax()", "test_no_subset_comes_nearer", "the largest sum is taken"),
    )),
    ("data/sources/crops.py", "tests/data/sources/test_crops.py", (
        ("crop.left : crop.left + size], crop.turns)", "crop.left : crop.left + size], -crop.turns)", "test_pixels_are_those_of_the_image", "crops are turned the other way"),
        ("f\"{config.seed}\\0{name}\"", "f\"{config.seed}\"", "test_places_at_random_are_spread_evenly_and_by_seed_and_name", "all images are cut alike"),
    )),
    ("training/vicinity.py", "tests/training/test_vicinity.py", (
        ("np.exp(-squares) if", "np.exp(-squares / 2) if", "test_soft_draws_in_proportion_to_its_weights", "soft vicinity is too wide"),
        (" & (self._candidate_codes == code)", "", "test_what_is_drawn_is_near_of_the_class_and_trains", "images of other classes are drawn"),
        ("float(np.diff(distinct[:, 0]).max())", "float(np.diff(distinct[:, 0]).mean())", "test_largest_gap_in_closed_form", "the mean gap"),
    )),
    ("data/values.py", "tests/data/test_values.py", (
        ("float((1 << bits) - 1)", "float(1 << bits)", "test_a_derived_range_holds_all_values_and_uses_half_of_itself", "a derived range ends a value late"),
        ("_table(pair, pixels.dtype)[part], alpha=alpha)", "_table(pair, pixels.dtype)[part], alpha=False)", "test_restore_undoes_stretch_exactly & test_alpha_is_not_stretched", "alpha is stretched"),
        ("clip(lo, hi) - lo) * (LARGEST", "clip(lo, hi)) * (LARGEST", "test_whole_numbers_of_any_type_come_back_exactly", "other numbers than uint8 and uint16 begin at 0"),
        ('== "uint16" else _shares', '!= "" else _shares', "test_floats_are_not_brought_to_steps", "floats in 65,536 steps"),
        ("_FEWEST_BITS = 8", "_FEWEST_BITS = 1", "test_a_derived_range_holds_all_values_and_uses_half_of_itself", "a dark set is taken for a coarse one"),
    )),
    ("pixel_format.py", "tests/data/test_values.py", (
        ("pair[0] + part * (pair[1] - pair[0])", "part * (pair[1] - pair[0])", "test_restore_undoes_stretch_exactly", "restored values begin at 0"),
    )),
    ("data/cache.py", "tests/data/test_cache.py", (
        ("            os.rename(scratch, folder)\n", "            shutil.copytree(scratch, folder)\n", "test_an_entry_is_renamed_into_place", "the cache is copied instead of renamed"),
        ("np.unique(np.linspace(0, len(meta.blocks) - 1, blocks_checked).round().astype(int))", "np.array([0])", "test_damage_is_noticed_in_any_block", "the cache is checked in its first block only"),
        ("pixels.astype(np.uint16) * 257", "pixels.astype(np.uint16) * 256", "test_sixteen_bits_give_a_sixteen_bit_cache", "white of 8 bits is not white of 16"),
        ("json.dumps([FORMAT, content, config.to_dict()])", "json.dumps([FORMAT, content])", "test_settings_have_entries_of_their_own", "settings share an entry"),
        ("host == socket.gethostname() and not _alive(int(pid))", "host == socket.gethostname()", "test_only_abandoned_scratch_is_removed", "a build at work is removed"),
        ("    finally:\n        shutil.rmtree(scratch, ignore_errors=True)\n", "    finally:\n        pass\n", "test_an_interrupted_build_cleans_up", "an interrupted build stays"),
    )),
    ("data/decode/resizing.py", "tests/data/test_decode.py", (
        ("planes[..., :-1] *= planes[..., -1:]", "pass", "test_alpha_weighs_colours", "transparent colours bleed"),
        ("max(0.0, (length - kept) / 2)", "0.0", "test_crop_is_the_largest_centred_one", "the crop is not centred"),
        ("[0.299, 0.587, 0.114]", "[0.333, 0.334, 0.333]", "test_convert_agrees_with_pillow", "grey is the mean"),
        ("(H - inner[0]) // 2, (W - inner[1]) // 2", "0, 0", "test_letterbox_keeps_everything_and_centres_it", "the letterbox is not centred"),
        ("behind = top if background == \"white\" else 0", "behind = 0", "test_convert_agrees_with_pillow & test_modes", "transparency always over black"),
    )),
    ("data/labels/encode.py", "tests/data/labels/test_labels.py", (
        ("classes = sorted(set(names))", "classes = sorted(set(names), reverse=True)", "test_folders", "classes in reverse order"),
    )),
    ("interop/nvidia.py", "tests/interop/test_nvidia.py", (
        ("value = value.flip(2, 3)  #", "value = value.flip(2)  #", "test_golden_files[tensorflow]", "transposed kernels are not turned"),
        ("value = value + 1  #", "pass  #", "test_golden_files[tensorflow]", "styles begin at 0"),
        (".conv{1 - n % 2}.noise_const", ".conv{n % 2}.noise_const", "test_golden_files[tensorflow]", "noises exchanged"),
        ("value.permute(3, 2, 0, 1)", "value.permute(3, 2, 1, 0)", "test_golden_files[tensorflow]", "kernels transposed"),
        ("(\"average\", \"G_ema\"), (\"raw\", \"G\")", "(\"average\", \"G\"), (\"raw\", \"G_ema\")", "test_golden_files[pytorch]", "G instead of its EMA"),
        ("raw, discriminator, average = content", "average, discriminator, raw = content", "test_a_tensorflow_release_is_g_d_and_their_average", "G instead of Gs"),
        ("for tap in taps / taps[0])", "for tap in taps / taps.sum())", "test_shapes_are_read_off_the_weights", "the filter's taps are scaled"),
        ("0.01 if layer.endswith(\"fc0\") else 0.1", "0.1 if layer.endswith(\"fc0\") else 0.01", "test_golden_files[tensorflow]", "the mapping's learning-rate multiplier"),
        ("torch.eye(outputs) * outputs", "torch.eye(outputs).flip(0) * outputs", "test_outputs_chosen_by_label", "outputs chosen by another label"),
        ("z_dim, w_dim = layers[0].shape[1] - embedding, len(layers[-1])", "z_dim, w_dim = layers[0].shape[1] - embedding, len(layers[0])", "test_shapes_are_read_off_the_weights", "w's width of the first layer"),
        ("hidden = len(layers[0]) if len(layers) > 1 and len(layers[0]) != w_dim else None", "hidden = None", "test_shapes_are_read_off_the_weights", "the mapping's inner width"),
    )),
    ("interop/pickles.py", "tests/fuzz/test_order.py", (
        ("self.names = self._stand_ins()", "self.names = _File.names = getattr(_File, 'names', None) or self._stand_ins()", "test_what_a_file_gets_is_its_own", "stand-ins shared by all files"),
        ("type(made.__name__, (made,), {\"__slots__\": ()})", "made", "test_what_a_file_gets_is_its_own", "classes shared by all files"),
    )),
    ("training/graphs.py", "tests/training/test_graphs.py", (
        ("            place.copy_(tensor)\n", "            pass\n", "test_replayed_steps_are_eager_ones", "a graph sees its first inputs for ever"),
        ("tuple(t.clone() for t in one.outputs)", "one.outputs", "test_replayed_steps_are_eager_ones", "results handed out are overwritten by the next replay"),
        ("p.grad = grad if alone else grad.clone()", "p.grad = grad", "test_replayed_steps_are_eager_ones", "micro-batches add up in the graph's own gradients"),
    )),
    ("data/sources/archives.py", "tests/fuzz/test_memory.py", (
        (" or member.issparse()", "", "test_a_sparse_member_of_a_tar_is_skipped_unread", "holes of a sparse member are set aside"),
        ("member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)", "False", "test_members_of_other_methods_than_store_and_deflate_are_told", "methods whose blocks unpack without a bound"),
        ("block := file.read(min(size, 1 << 20))", "block := file.read()", "test_members_are_read_in_bounded_memory_whatever_size_they_are_said_to_have", "a member unpacked at once"),
    )),
    ("leaks/recovery.py", "tests/leaks/test_recovery.py", (
        ("(ratio, ratio - 2 * error, ratio + 2 * error)", "(ratio, ratio - error, ratio + error)", "test_the_interval_of_recovery", "the interval of recovery"),
        ("float((total @ total - own.sum()) / (n * (n - 1)))", "float(total @ total / n**2)", "test_the_squared_norm_of_a_mean_is_not_biased", "the squared norm is biased"),
        ("if effect <= 2 * error:", "if effect <= 1.9 * error:", "test_an_effect_is_one_from_two_standard_errors_on", "the limit of an effect"),
        ("np.sqrt((len(without) - 1) * without.var())", "np.sqrt(without.var())", "test_the_squared_norm_of_a_mean_is_not_biased", "the jackknife's factor"),
    )),
    ("leaks/shares.py", "tests/leaks/test_shares.py", (
        ("(0.025, 0.975)", "(0.25, 0.75)", "test_the_interval_holds_the_share", "the interval of leaks"),
        ("_SYMMETRIC = 0.5", "_SYMMETRIC = 0.0", "test_symmetric_images_cannot_tell", "symmetric images are judged"),
        ("/ (_REPLICATES + 1) * len(questions)", "/ (_REPLICATES + 1) + 1", "test_a_function_of_ones_own", "nothing is significant"),
        ("return [x, x.flip(3)]", "return [x, x.flip(2)]", "test_states_are_what_they_are_called", "mirrored images are upside down"),
    )),
    ("leaks/groups.py", "tests/leaks/test_groups.py", (
        ("(1 - p) * np.eye(k)", "np.eye(k)", "test_a_certain_turn_is_undone_exactly", "shares that sum to more than 1"),
        ("matrix[permutation, np.arange(k)]", "matrix[np.arange(k), permutation]", "test_a_certain_turn_is_undone_exactly & test_an_uneven_draw_by_its_fourier_transform & test_the_draw_is_the_pipelines", "transitions the other way"),
        ("float(values[0] / values[-1])", "float(values[0] / values[1])", "test_the_condition_number_is_numpys", "the condition number"),
    )),
    ("leaks/spectra.py", "tests/leaks/test_spectra.py", (
        ("omega) ** 2) / 2)", "omega) ** 2))", "test_characteristic_functions_are_those_of_the_draws[scale]", "a normal's characteristic function"),
        ("m = side / 8\n", "m = side / 4\n", "test_characteristic_functions_are_those_of_the_draws[xint]", "whole pixels reach further"),
        ("0.0 if crosses else", "1.0 if crosses else", "test_the_smallest_modulus & test_whole_pixels_have_zeros_before_p_is_one", "zeros that are crossed"),
    )),
    ("tracking/monitors.py", "tests/tracking/test_monitors.py", (
        ("LOST_DIVERSITY * min(max(values), 1.0)", "LOST_DIVERSITY * min(values[0], 1.0)", "test_diversity_is_lost_against_its_best", "diversity is lost against its first value"),
        ("r[\"r_t\"] >= OVERFITTING", "r[\"r_t\"] >= 0", "test_a_healthy_run_is_silent", "overfitting is seen everywhere"),
        ("CAP_KIMG = 20", "CAP_KIMG = 40", "test_it_is_said_in_time_and_not_before[p at its cap]", "the cap is told late"),
        ("sign = -1 if setting.higher_is_better else 1", "sign = 1", "test_a_metric_that_gets_worse[True]", "a metric that rises gets worse"),
    )),
    ("cli/train.py", "tests/cli/test_options.py", (
        ("if not (options.conditional or by_class):", "if not options.conditional:", OPTION("train-balanced"), "--balanced without labels"),
    )),
    ("cli/signature.py", "tests/cli/test_options.py", (
        ("default=default if how.default is None else how.default", "default=default", OPTION("train-conditional"), "the command line's own defaults are ignored"),
        ("given[name] for name in how}", "given[name] for name in how if name != \"held_out\"}", OPTION("train-held_out"), "--held-out is ignored"),
    )),
    ("cli/signature.py", "tests/cli/test_signature.py", (
        ("for name in (name, how.alias) if name]", "for name in (name,)]", "test_aliases", "aliases are ignored"),
        ("f\"{flag}/--no-{flag[2:]}\"", "flag", "test_flags_can_be_switched_off", "flags without --no-"),
        ("name.startswith(last)", "True", "test_values_complete", "every name completes every word"),
        ("if parameter.name not in basics:", "if False:", "test_help_lists_the_basics_and_help_all_the_rest", "--help lists all"),
    )),
    ("cli/evaluate.py", "tests/cli/test_options.py", (
        ("mean=_rgb(\"mean\", mean),", "mean=_rgb(\"mean\", std),", OPTION("evaluate-mean"), "--mean is --std"),
        ("            per_class=per_class,\n", "", OPTION("evaluate-per_class"), "--per-class is ignored"),
    )),
    ("cli/evaluate.py", "tests/cli/test_cli.py", (
        ("f\"{b - a:+.3g}\"", "f\"{a - b:+.3g}\"", "test_differences_are_from_the_first_to_the_second", "differences the wrong way round"),
    )),
    ("resolution.py", "tests/cli/test_cli.py", (
        ("return int(parts[0]), int(parts[-1])", "return int(parts[-1]), int(parts[0])", "test_parsing", "width x height"),
    )),
    ("cli/common.py", "tests/cli/test_cli.py", (
        ("range(int(first), int(last or first) + 1)", "range(int(first), int(last or first))", "test_parsing", "ranges of seeds end early"),
    )),
    ("cli/app.py", "tests/cli/test_numbers.py", (
        ("sys.exit(error.exit_code)", "sys.exit(1)", "test_texts_of_numbers & test_by_name & test_numbers_that_make_no_sense", "mistakes end in exit code 1"),
    )),
    ("latent/statistics.py", "tests/latent/test_statistics.py", (
        ("/ (count - 1) for q, m", "/ count for q, m", "test_sums_are_those_of_numpy_and_do_not_depend_on_batches", "the covariance over count"),
        ("return F.leaky_relu(w, 5.0)", "return F.leaky_relu(w, 0.2)", "test_p_space_undoes_the_last_activation_and_comes_back", "P space"),
        ("class_counts.clamp_min(1)[:, None]", "count", "test_class_means_and_label_pools", "means of classes over all samples"),
        ("'-' + _digest_of(labels)", "''", "test_the_cache_follows_weights_samples_and_labels", "statistics are found again whatever the labels"),
    )),
    ("latent/edit.py", "tests/latent/test_directions.py", (
        ("for edit in _of(edits, \"w\", \"before\"):", "for edit in _of(edits, \"w\", \"none\"):", "test_order_against_truncation[0.5]", "edits before truncation are left out"),
        ("direction.centre if edit.mode == \"centred\" else 0.0", "0.0", "test_modes_place_the_coordinate", "centred is as absolute"),
        ("return (strength - away) * unit", "return (strength + away) * unit", "test_modes_place_the_coordinate", "absolute edits go the wrong way"),
        ("torch.lerp(centre.expand_as(ws), ws, psi.expand_as(ws))", "torch.lerp(ws, centre.expand_as(ws), psi.expand_as(ws))", "test_truncation_by_level_and_towards_another_centre", "truncation the wrong way"),
    )),
    ("latent/directions/ganspace.py", "tests/latent/test_directions.py", (
        ("max(float(found.deviations[i]), 1e-12)", "max(float(found.deviations[i] ** 2), 1e-12)", "test_ganspace_is_pca_in_numpy", "strengths in variances"),
    )),
    ("latent/directions/sefa.py", "tests/latent/test_directions.py", (
        ("A.norm(dim=0, keepdim=True)", "A.norm(dim=1, keepdim=True)", "test_sefa_against_a_dense_reference", "SeFa normalises rows"),
    )),
    ("latent/blending.py", "tests/latent/test_blending.py", (
        ("(level - self.at + 0.5) / self.width", "(level - self.at) / self.width", "test_a_soft_swap_is_a_sigmoid_over_levels", "a soft swap half a level late"),
        ("made.mapping.load_state_dict(A.mapping.state_dict())", "made.mapping.load_state_dict(B.mapping.state_dict())", "test_a_swap_takes_levels_from_either_side & test_other_resolutions_blend_by_level", "B's mapping network"),
        ("share = 1 - abs(1 - time)", "share = time / 2", "test_a_morph_is_one_network_at_its_start_and_the_other_half_way", "a morph does not come back"),
    )),
    ("latent/mixing.py", "tests/latent/test_blending.py", (
        ("columns[None, :, at]", "columns[None, :1, at]", "test_mixing_takes_the_columns_levels", "mixing takes the first column"),
    )),
    ("latent/path.py", "tests/latent/test_path.py", (
        ("x * x * (3 - 2 * x)", "x * x", "test_smooth_easing_stops_at_key_frames", "easing stops at one end only"),
        ("6 * bent)", "3 * bent)", "test_the_periodic_spline_is_scipys", "the spline's bend"),
        ("(frames if path.closed else frames - 1)", "(frames - 1)", "test_closed_paths_end_where_they_begin_and_are_continuous & test_tours_pass_through_their_seeds & test_even_frames_move_by_equal_distances", "a closed path's first frame comes twice"),
    )),
    ("latent/scores.py", "tests/latent/test_measure.py", (
        ("means[:, 0] - means[:, 2]", "means[:, 2] - means[:, 0]", "test_scores_rank_drawings_as_they_should", "warm is cold"),
        ("torch.linspace(-1, 1, weights.shape[2]", "torch.linspace(1, -1, weights.shape[2]", "test_scores_rank_drawings_as_they_should", "left is right"),
    )),
    ("cli/demo.py", "tests/cli/test_demo.py", (
        ("if r > target", "if r < target", "test_in_words_it_says_what_p_did", "r_t passes its target the other way"),
        ("if abs(r_t - target) > 0.05", "if abs(r_t - target) > 0.7", "test_in_words_it_says_what_p_did", "whatever p does counts as settled"),
    )),
    ("interop/model_card.py", "tests/interop/test_hub.py", (
        ('labels[torch.arange(NUM_SAMPLES) % len(labels)]', 'labels[:NUM_SAMPLES]', "test_the_card_says_whence_it_comes", "fewer labels than samples"),
        ('if "Data" in provenance.rows', 'if "Data" not in provenance.rows', "test_the_card_says_whence_it_comes", "asks for what it has"),
    )),
    ("data/tools/shapes.py", "tests/data/tools/test_avatars.py", (
        ("side * (0.24 + 0.08", "side * (0.40 + 0.08", "test_shapes_stay_whole_and_have_the_classes_that_they_show", "shapes are cut off"),
    )),
)
# fmt: on

MUTATIONS = list(_table())
