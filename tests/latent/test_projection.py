"""Projection: the generator's own images are found again, in all spaces; targets, masks, labels, noise; tuning; the encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from frugan.errors import FruganError
from frugan.latent.code import render_points
from frugan.latent.encoder import EncoderConfig, load_encoder, save_encoder, train_encoder
from frugan.latent.fitting import Schedule, fit
from frugan.latent.fitting.distances import Embedding, Pixels
from frugan.latent.projection import (
    SPACES,
    LatentProblem,
    PnCoordinates,
    ProjectionConfig,
    Target,
    choose_start,
    constant_noise,
    estimate_labels,
    noise_penalty,
    project,
    reduced,
)
from frugan.latent.statistics import Statistics, compute_statistics, to_p
from frugan.latent.tuning import TuningConfig, save_tuned, tune
from frugan.networks import Generator, load_generator, save_generator
from frugan.networks.serialization import weights_digest
from tests.latent.conftest import make_generator

Make = Callable[..., Generator]
QUICK = ProjectionConfig(steps_w=100, steps=60, start="mean")


@pytest.fixture(scope="module")
def G() -> Generator:
    """Its images keep within the range, as those of a trained one do."""
    return calm(make_generator((12, 20)))


def calm(G: Generator) -> Generator:
    for name, parameter in G.synthesis.named_parameters():
        if "torgb" in name and "affine" not in name:
            parameter.mul_(0.2)
    return G


@pytest.fixture(scope="module")
def statistics(G: Generator) -> Statistics:
    return compute_statistics(G, samples=5000, style_samples=100)


def own(G: Generator, seeds: list[int], psi: float = 0.7) -> tuple[Tensor, Tensor]:
    """ws and images of seeds."""
    ws = G.mapping(G.latents(seeds), truncation=psi)
    return ws, G.synthesis(ws, noise="const").clamp(-1, 1)


@pytest.mark.parametrize("space", SPACES)
def test_own_images_are_recovered(G: Generator, statistics: Statistics, space: str) -> None:
    """To 3 % of the distance of the start and, in W, to w itself."""
    ws, images = own(G, [3, 4, 5])
    config = ProjectionConfig(space=space, steps_w=150, steps=40, start="mean")  # pyright: ignore[reportArgumentType]
    made = project(G, images, Pixels(), statistics, config)
    assert [rung.name for rung in made.rungs] == ["start", "w"] + ([space] if space != "w" else [])
    assert (made.last.distance < 0.03 * made.rungs[0].distance).all()
    assert (made.last.psnr > 30).all()
    error = (made.rungs[1].ws[:, 0] - ws[:, 0]).norm(dim=1) / (ws[:, 0] - statistics.mean.float()).norm(dim=1)
    assert (error < 0.1).all()
    again = render_points(G, made.codes(G, ["a", "b", "c"]))
    assert torch.allclose(again, made.last.images, atol=1e-5)
    assert (made.last.offset is None) == (space != "s")


def test_each_rung_fits_closer_and_the_ladder_says_which_suffices(G: Generator, statistics: Statistics) -> None:
    _, images = own(G, [8])
    strange = (images + 0.3 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    made = project(G, strange, Pixels(), statistics, QUICK)
    start, w, pn = (float(rung.distance) for rung in made.rungs)
    assert pn < w < start
    assert made.sufficient(0, target=w + 1e-6) == "w"
    assert made.sufficient(0, target=pn + 1e-6) == "pn"
    assert made.sufficient(0, target=pn / 2) == "none"
    assert made.sufficient(0) == ("w" if w <= pn / 0.9 else "pn")


def test_a_target_ends_the_climb_early(G: Generator, statistics: Statistics) -> None:
    _, images = own(G, [3])
    made = project(G, images, Pixels(), statistics, ProjectionConfig(steps_w=300, target=0.1, start="mean"))
    assert made.last.name == "w"
    assert made.last.steps < 300
    assert float(made.last.distance) <= 0.1 + 1e-6


def test_pn_coordinates_are_standardised_and_go_back(G: Generator, statistics: Statistics) -> None:
    w = G.mapping.features(torch.randn(4000, G.z_dim, generator=torch.Generator().manual_seed(1)), None)
    coordinates = PnCoordinates(statistics)
    p = coordinates.of(w)
    assert torch.allclose(coordinates.ws(p), w, atol=1e-4)
    assert torch.allclose(p.std(0), torch.ones(G.w_dim), atol=0.1)
    assert torch.allclose(to_p(w).mean(0), statistics.p_mean.float(), atol=0.1)


def test_the_noise_penalty_by_hand_and_maps_stay_normalised(G: Generator, statistics: Statistics) -> None:
    n = torch.zeros(1, 1, 4, 4)
    n[..., ::2] = 1.0
    n[..., 1::2] = -1.0  # columns alternate: -1 along x, +1 along y
    assert float(noise_penalty([n])) == pytest.approx(2.0)
    assert float(noise_penalty([torch.zeros(1, 1, 16, 16)])) == 0
    _, images = own(G, [3])
    config = ProjectionConfig(space="w", steps_w=5, noise="keep", start="mean")
    made = project(G, images, Pixels(), statistics, config)
    assert len(made.last.noise) == len(constant_noise(G, 1))
    for kept, constant in zip(made.last.noise, constant_noise(G, 1)):
        assert kept.shape == constant.shape
        assert float(kept.mean()) == pytest.approx(0, abs=1e-5)
        assert float(kept.square().mean()) == pytest.approx(1, abs=1e-4)


def test_only_what_the_mask_keeps_counts(G: Generator, statistics: Statistics) -> None:
    """Whatever stands in the hole, the result is the same to the bit; and the rest is found."""
    _, images = own(G, [3])
    mask = torch.ones(12, 20, dtype=torch.bool)
    mask[4:10, 4:10] = False
    holes = [torch.where(mask, images, value) for value in (-1.0, 1.0)]
    made = [project(G, hole, Pixels(), statistics, QUICK, mask=mask) for hole in holes]
    assert torch.equal(made[0].last.ws, made[1].last.ws)
    assert float(made[0].last.psnr) > 25
    filled = (made[0].last.images - images)[..., 4:10, 4:10].abs().mean()
    assert float(filled) < 0.25  # against 1 and more for what stood there
    for bad in (torch.ones(20, 12), torch.zeros(12, 20)):
        with pytest.raises(FruganError, match="mask"):
            Target(images, Pixels(), bad)


def test_labels_are_estimated_and_starts_chosen(make: Make) -> None:
    G = calm(make((12, 20), label_size=3))
    statistics = compute_statistics(G, samples=3000, style_samples=10)
    labels = torch.eye(3)[torch.arange(12) % 3]
    w = torch.lerp(
        statistics.class_means.float()[labels.argmax(1)], G.mapping.features(G.latents(list(range(12))), labels), 0.3
    )
    images = G.synthesis(w[:, None].expand(-1, G.num_ws, -1), noise="const").clamp(-1, 1)
    estimated = estimate_labels(G, Target(images, Pixels()))
    assert int((estimated.argmax(1) == labels.argmax(1)).sum()) >= 11  # of 12; 4 by chance
    images, labels, ws = images[:3], labels[:3], w[:3, None].expand(-1, G.num_ws, -1)
    unlabelled = project(G, images, Pixels(), statistics, ProjectionConfig("w", steps_w=2, start="mean"))
    assert unlabelled.labels is not None
    assert torch.equal(unlabelled.labels, estimated[:3])
    given = project(G, images, Pixels(), statistics, ProjectionConfig("w", steps_w=2, start="mean"), labels=labels[0])
    assert torch.allclose(given.rungs[0].ws[:, 0], statistics.class_means[0].float().expand(3, -1))
    target = Target(images, Pixels())
    from_mean, from_any = (choose_start(G, target, statistics, labels, start) for start in ("mean", "centres"))
    nearer = [target.compare(G.synthesis(start, noise="const")) for start in (from_mean, from_any)]
    assert (nearer[1] <= nearer[0] + 1e-6).all()
    assert torch.allclose(choose_start(G, target, statistics, labels, "auto", ws), ws)


def test_an_image_that_a_rung_makes_worse_stays_as_it_was(G: Generator, statistics: Statistics) -> None:
    """Rates that throw PN and W+ far away: codes, images and distances of the W rung remain; an offset of styles is 0."""
    _, images = own(G, [3, 8])
    for space in ("pn", "w+", "s"):
        config = ProjectionConfig(space, steps_w=60, steps=1, lr_levels=50.0, start="mean", noise="keep")  # pyright: ignore[reportArgumentType]
        made = project(G, images, Pixels(), statistics, config)
        w, last = made.rungs[1:]
        assert last.name == space
        assert torch.equal(last.distance, w.distance)
        assert torch.equal(last.ws, w.ws)
        assert torch.equal(last.images, w.images)
        assert all(torch.equal(a, b) for a, b in zip(last.noise, w.noise))
        assert last.offset is None or not last.offset.any()


@pytest.mark.parametrize(
    ("size", "seen"), [((256, 200), (256, 200)), ((512, 384), (256, 192)), ((260, 1024), (65, 256))]
)
def test_images_above_256_pixels_are_compared_at_256(size: tuple[int, int], seen: tuple[int, int]) -> None:
    """By the mean of areas, the targets and what is made alike."""
    sizes = []

    class Watched(Pixels):
        def embed(self, images: Tensor) -> Embedding:
            sizes.append(tuple(images.shape[2:]))
            return super().embed(images)

    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    target = Target(images, Watched())
    assert float(target.compare(images)) == pytest.approx(0, abs=1e-6)
    assert sizes == [seen, seen]
    assert float(reduced(images).mean()) == pytest.approx(float(images.mean()), abs=1e-5)


def test_a_projection_does_not_depend_on_its_company(G: Generator, statistics: Statistics) -> None:
    _, images = own(G, [3, 4])
    config = ProjectionConfig("w", steps_w=40, start="mean")
    both = project(G, images, Pixels(), statistics, config)
    alone = project(G, images[1:], Pixels(), statistics, config)
    assert torch.allclose(both.last.ws[1], alone.last.ws[0], atol=0.01)


def test_a_killed_projection_resumes(G: Generator, statistics: Statistics, tmp_path: Path) -> None:
    _, images = own(G, [3])
    whole = project(G, images, Pixels(), statistics, QUICK)

    class Killed(Exception):
        pass

    def kill(rung: str, report: object) -> None:
        if rung == "pn" and report.step == 55:  # pyright: ignore[reportAttributeAccessIssue]
            raise Killed

    with pytest.raises(Killed):
        project(G, images, Pixels(), statistics, QUICK, states=tmp_path, watch=kill)
    heard: list[tuple[str, int]] = []
    again = project(
        G, images, Pixels(), statistics, QUICK, states=tmp_path, watch=lambda r, report: heard.append((r, report.step))
    )
    assert heard[:2] == [("w", 100), ("pn", 50)]
    assert torch.equal(again.last.ws, whole.last.ws)


def test_other_shapes(make: Make) -> None:
    G = make((12, 20), channels=1)
    statistics = compute_statistics(G, samples=2000, style_samples=10)
    _, images = own(G, [1])
    made = project(G, images, Pixels(4), statistics, ProjectionConfig("w", steps_w=120, start="mean"))
    assert float(made.last.distance) < 0.3 * float(made.rungs[0].distance)
    with pytest.raises(FruganError, match="this generator's are"):
        project(G, images[..., :12], Pixels(), statistics)


def strange_target(G: Generator) -> tuple[Tensor, Target]:
    ws, images = own(G, [3])
    ramp = torch.linspace(-0.5, 0.5, 20)
    return ws, Target((images + ramp).clamp(-1, 1), Pixels())


def test_tuning_comes_closer_and_locality_keeps_other_seeds(G: Generator, statistics: Statistics) -> None:
    ws, target = strange_target(G)
    before = weights_digest(G)
    found = {}
    for locality in (0.0, 3.0):
        config = TuningConfig(steps=60, lr=3e-3, locality=locality)
        tuned, report = tune(G, target, ws, statistics, config)
        near = float(target.compare(tuned.synthesis(ws, noise="const")))
        moved = float((tuned.sample(range(20, 32)) - G.sample(range(20, 32))).square().mean())
        found[locality] = near, moved
        assert report.step == 60
        assert torch.equal(tuned.mapping.w_avg, G.mapping.w_avg)
    start = float(target.compare(G.synthesis(ws, noise="const")))
    assert found[0.0][0] < 0.6 * start
    assert found[3.0][0] < 0.8 * start
    assert found[3.0][1] < 0.6 * found[0.0][1]
    assert weights_digest(G) == before
    with pytest.raises(FruganError, match="30 at most"):
        tune(G, target, ws.expand(31, -1, -1), statistics)


@pytest.mark.parametrize("rank", [None, 2])
def test_a_tuned_network_is_a_small_file_that_loads_like_any(
    G: Generator, statistics: Statistics, tmp_path: Path, rank: int | None
) -> None:
    ws, target = strange_target(G)
    tuned, _ = tune(G, target, ws, statistics, TuningConfig(steps=20, lr=3e-3))
    (tmp_path / "parent").mkdir()
    save_generator(tmp_path / "parent", G)
    save_tuned(tuned, G, tmp_path / "parent", tmp_path / "tuned", rank=rank)
    read = load_generator(tmp_path / "tuned")
    images = [N.synthesis(ws, noise="const") for N in (read, tuned, G)]
    assert float((images[0] - images[1]).abs().max()) < (2e-3 if rank is None else 1) * float(
        (images[2] - images[1]).abs().max()
    )
    assert float(target.compare(images[0])) < float(target.compare(images[2]))
    sizes = [(tmp_path / name).stat().st_size for name in ("tuned/difference.safetensors", "parent/model.safetensors")]
    assert sizes[0] < 0.6 * sizes[1]
    (tmp_path / "tuned").rename(tmp_path / "parent" / "moved")  # the absolute path still holds
    assert weights_digest(load_generator(tmp_path / "parent" / "moved")) == weights_digest(read)
    with torch.no_grad():
        G.mapping.w_avg.add_(1.0)
        save_generator(tmp_path / "parent", G)
        G.mapping.w_avg.sub_(1.0)
    with pytest.raises(FruganError, match="now holds another"):
        load_generator(tmp_path / "parent" / "moved")
    (tmp_path / "parent" / "model.safetensors").unlink()
    with pytest.raises(FruganError, match="no longer there"):
        load_generator(tmp_path / "parent" / "moved")


def test_an_encoder_learns_from_own_samples(G: Generator, tmp_path: Path, make: Make) -> None:
    config = EncoderConfig(steps=150, batch=16, width=8)
    encoder, error = train_encoder(G, config, state=tmp_path / "fit")
    assert error < 0.7  # 1: knows nothing but the mean
    save_encoder(encoder, G, tmp_path, config, error)
    ws, images = own(G, [3, 4])
    read = load_encoder(tmp_path, G)
    assert torch.equal(read.encode(images), encoder.encode(images))
    assert read.encode(images).shape == ws.shape
    with pytest.raises(FruganError, match="another generator"):
        load_encoder(tmp_path, make((12, 20), seed=9))
    with pytest.raises(FruganError, match="holds no encoder"):
        load_encoder(tmp_path / "none", G)


def test_exploration_fades_and_is_one_draw_for_all(G: Generator, statistics: Statistics) -> None:
    _, images = own(G, [3, 3])
    ws = statistics.mean.float().expand(2, G.num_ws, -1)
    config = ProjectionConfig(exploration=0.05)
    problem = LatentProblem(G, "w", Target(images, Pixels()), statistics, ws, config)
    rng = torch.Generator().manual_seed(0)
    early, late = (problem(torch.arange(2), progress, rng).images for progress in (0.0, 0.8))
    plain = G.synthesis(ws, noise="const")
    assert torch.allclose(early[0], early[1], atol=1e-5)
    assert not torch.allclose(early, plain, atol=1e-2)
    assert torch.allclose(late, plain, atol=1e-5)
    assert next(fit(problem, Schedule(2))).images.shape == images.shape
    still = LatentProblem(G, "w", Target(images, Pixels()), statistics, ws, ProjectionConfig())
    assert torch.allclose(still(torch.arange(2), 0.0, rng).images, plain, atol=1e-5)  # by default there is none
