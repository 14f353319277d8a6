"""Directions: each source against a closed form or an independent computation; algebra, files, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from frugan.errors import FruganError
from frugan.latent.direction import (
    Direction,
    Identity,
    find_direction,
    load_directions,
    orthonormalised,
    overlap,
    save_directions,
)
from frugan.latent.directions import (
    boundary_direction,
    channels_from_examples,
    channels_in_region,
    difference_direction,
    find_boundary,
    ganspace_directions,
    import_ws_range,
    sefa_directions,
)
from frugan.latent.directions.boundary import check_scores
from frugan.latent.edit import Edit, Truncation, edited_styles, render_edited
from frugan.latent.levels import level_names, parse_levels
from frugan.latent.statistics import Statistics, flat_styles
from frugan.networks import Generator

Make = Callable[..., Generator]


def test_ganspace_is_pca_in_numpy(G: Generator, statistics: Statistics) -> None:
    values, vectors = np.linalg.eigh(statistics.covariance.numpy())
    for i, direction in enumerate(ganspace_directions(G, statistics, 12)):
        assert abs(float(direction.vector.double() @ torch.from_numpy(vectors[:, -1 - i]))) > 1 - 1e-6
        assert np.isclose(direction.sigma, np.sqrt(values[-1 - i]))
        assert direction.vector[direction.vector.abs().argmax()] > 0


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("levels", [None, (1,), (0, 2)])
def test_sefa_against_a_dense_reference(
    G: Generator, statistics: Statistics, normalize: bool, levels: tuple[int, ...] | None
) -> None:
    """Singular vectors of the affines, read from the state dict by name."""
    state = {k: v.double().numpy() for k, v in G.state_dict().items()}
    names = [
        f"b{3 << k}x{5 << k}.{conv}"
        for k in (levels or (0, 1, 2))
        for conv in ("conv0", "conv1")
        if k or conv == "conv1"
    ]
    names += ["b12x20.torgb"] if levels is None or 2 in levels else []
    A = np.concatenate([state[f"synthesis.{name}.affine.weight"] for name in names])  # [ΣC, D]
    if normalize:
        A = A / np.linalg.norm(A, axis=1, keepdims=True)
    _, singular, rows = np.linalg.svd(A)
    found = sefa_directions(G, statistics, 3, levels=levels, normalize=normalize)
    for i, direction in enumerate(found):
        assert abs(direction.vector.double().numpy() @ rows[i]) > 1 - 1e-5
        assert np.isclose(direction.source["eigenvalue"], singular[i] ** 2)
        assert np.isclose(direction.sigma, np.sqrt(rows[i] @ statistics.covariance.numpy() @ rows[i]))


@pytest.mark.parametrize("estimator", ["svm", "logistic"])
def test_a_boundary_finds_the_plane(G: Generator, statistics: Statistics, estimator: str) -> None:
    rng = torch.Generator().manual_seed(0)
    w = torch.randn(4000, 12, generator=rng)
    normal = F.normalize(torch.randn(12, generator=rng), dim=0)
    scores = w @ normal + 0.1 * torch.randn(4000, generator=rng)
    found = find_boundary(w, scores, estimator=estimator)  # pyright: ignore[reportArgumentType]
    assert float(found.normal.float() @ normal) > 0.9
    assert found.accuracy > 0.95
    assert found.rest_accuracy > 0.8
    direction = boundary_direction(G, statistics, found, name="toy")
    assert direction.sigma == pytest.approx(statistics.deviation_along(found.normal))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from([0.0, 1.0, 0.5, 2.0]), min_size=1, max_size=10))
def test_too_few_scores_are_refused_and_no_others(values: list[float]) -> None:
    """Whatever `check_scores` lets pass, before anything is drawn, gives a boundary in the end."""
    scores = torch.tensor(values, dtype=torch.float64)
    w = torch.randn(len(values), 6, generator=torch.Generator().manual_seed(0))
    kinds = sorted(set(values))
    few = min(map(values.count, kinds)) if len(kinds) == 2 else len(values) // 2
    if len(kinds) == 1 or few < 3:
        for refused in (lambda: check_scores(scores), lambda: find_boundary(w, scores)):
            with pytest.raises(FruganError, match=r"at least 3 of either; score more images|are the same"):
                refused()
    else:
        check_scores(scores)
        assert 0 <= find_boundary(w, scores).accuracy <= 1


def test_a_boundary_in_z_moves_z(G: Generator, statistics: Statistics) -> None:
    z = G.latents(range(2000))
    normal = F.normalize(torch.randn(12, generator=torch.Generator().manual_seed(3)), dim=0)
    direction = boundary_direction(G, statistics, find_boundary(z, z @ normal, chosen=0.3), name="z", space="z")
    assert (direction.space, direction.sigma, direction.centre) == ("z", 1.0, 0.0)
    assert float(direction.vector @ normal) > 0.95
    moved = edited_styles(G, z[:3], edits=[Edit(direction, 2.0)])
    expected = edited_styles(G, z[:3] + 2 * direction.vector)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(moved, expected))


def test_few_labels_take_the_shrunk_estimator_and_two_classes_all_examples() -> None:
    rng = torch.Generator().manual_seed(0)
    w = torch.randn(80, 64, generator=rng)
    found = find_boundary(w, (w[:, 0] > 0).float())
    assert found.estimator == "logistic"
    assert found.fitted == pytest.approx(0.7 * 80, abs=2)
    assert found.normal[0] > 0.4
    assert found.normal[0] > find_boundary(w, (w[:, 0] > 0).float(), estimator="svm").normal[0]


def test_conditional_directions_do_not_move_the_others(G: Generator, statistics: Statistics) -> None:
    a, b, c = sefa_directions(G, statistics, 3)
    mixed = Direction("m", "w", F.normalize(a.vector + 0.5 * b.vector + 0.2 * c.vector, dim=0), 1.0, Identity.of(G))
    free = mixed.projected_out([b, c])
    assert abs(float(free.vector @ b.vector)) < 1e-5
    assert abs(float(free.vector @ c.vector)) < 1e-5
    assert float(free.vector @ a.vector) > 0.99
    near = Direction("b2", "w", F.normalize(b.vector + 1e-5 * c.vector, dim=0), 1.0, Identity.of(G))
    assert abs(float(mixed.projected_out([b, near, c]).vector @ b.vector)) < 1e-3  # nearly parallel conditions
    with pytest.raises(FruganError, match="nothing is left"):
        a.projected_out([a])
    gram = overlap(orthonormalised([a, mixed, b]))
    assert torch.allclose(gram, torch.eye(3), atol=1e-4)


def test_stylespace_finds_the_channels_that_examples_share(G: Generator, statistics: Statistics, make: Make) -> None:
    """Examples picked for the value of one channel: it comes first, with its sign and unit."""
    z = torch.randn(6000, 12, generator=torch.Generator().manual_seed(3))
    w = G.mapping.features(z, None)
    styles = flat_styles(G, w)
    channel = int(statistics.style_std[16:].argmax()) + 16
    low = styles[:, channel].argsort()[:25]
    best = channels_from_examples(G, statistics, w[low][:, None].expand(-1, G.num_ws, -1), 3)[0]
    assert best.source["channel"] == channel
    assert best.vector[channel] == -1
    assert best.sigma == pytest.approx(float(statistics.style_std[channel]))


def test_region_scores_are_those_of_finite_differences(G: Generator, statistics: Statistics) -> None:
    """The random-sign estimate against the influence of each channel, rendered one by one."""
    mask = torch.zeros(*G.resolution)
    mask[:6, :10] = 1
    found = {
        d.source["channel"]: d.source["score"] for d in channels_in_region(G, statistics, mask, 20, images=4, probes=64)
    }
    flat = flat_styles(G, G.mapping.features(G.latents([0, 1, 2, 3]), None)).double()
    network = G.synthesis.double()
    try:
        for channel, score in list(found.items())[:6]:
            step = torch.zeros_like(flat)
            step[:, channel] = 1e-4
            widths = [layer.width for layer in network.style_layers]
            render = lambda s, widths=widths: network.render(  # noqa: E731
                list(s.split(widths, 1)), noise="const", dtype=torch.float64
            )
            change = ((render(flat + step) - render(flat - step)) / 2e-4).square().sum((0, 1))
            assert score == pytest.approx(float((change * mask).sum() / change.sum()), abs=0.12)
    finally:
        G.synthesis.float()


def test_a_difference_goes_from_one_mean_to_the_other(G: Generator, statistics: Statistics) -> None:
    w, v = torch.randn(2, 5, 12)
    a, b = (x[:, None].expand(-1, G.num_ws, -1) for x in (w, v))
    direction = difference_direction(G, statistics, a, b, name="ab")
    assert direction.vector.shape == (12,)
    assert torch.allclose(w.mean(0) + direction.displacement(G)[0], v.mean(0), atol=1e-5)
    codes = b + torch.randn(5, G.num_ws, 12)
    by_level = difference_direction(G, statistics, a, codes, name="ac")
    assert torch.allclose(a.mean(0) + by_level.displacement(G), codes.mean(0), atol=1e-5)
    assert float(by_level.vector.norm(dim=1).max()) == pytest.approx(1, abs=1e-5)
    with pytest.raises(FruganError, match="both sides are the same"):
        difference_direction(G, statistics, a, a, name="aa")


# algebra and files


def test_adding_scaling_and_restricting(G: Generator, statistics: Statistics) -> None:
    a, b = ganspace_directions(G, statistics, 2)
    both = a.plus(b.restricted((1,)), G)
    assert torch.allclose(both.displacement(G), a.displacement(G) + b.restricted((1,)).displacement(G), atol=1e-6)
    assert torch.allclose(a.scaled(-2).displacement(G), -2 * a.displacement(G))
    assert a.scaled(-2).slider == (-1.5, 1.5)
    only = a.restricted((0, 2)).displacement(G)
    assert only[[2, 3]].abs().max() == 0
    assert (only[[0, 1, 4, 5]] == a.displacement(G)[[0, 1, 4, 5]]).all()
    with pytest.raises(FruganError, match="acts on none"):
        a.restricted((0,)).restricted((2,))


def test_directions_come_back_from_disk(G: Generator, statistics: Statistics, tmp_path: Path) -> None:
    made = [
        *ganspace_directions(G, statistics, 2, levels=(1, 2), order="before"),
        *channels_from_examples(G, statistics, torch.randn(3, G.num_ws, 12), 2),
        import_ws_range(G, torch.randn(12), 1, 3, name="published", sigma=2.0),
    ]
    save_directions(made, tmp_path / "d")
    for a, b in zip(made, load_directions(tmp_path / "d")):
        assert torch.equal(a.vector, b.vector)
        assert torch.equal(a.generator.probe, b.generator.probe)
        for name in ("name", "space", "sigma", "centre", "levels", "order", "slider", "source"):
            assert getattr(a, name) == getattr(b, name), name
        b.check(G)
    assert find_direction(f"{tmp_path}/d:1").name == "pc1"
    assert find_direction(f"{tmp_path}/d:published").sigma == 2.0
    with pytest.raises(FruganError, match=r"no direction 'nose'.*pc0"):
        find_direction(f"{tmp_path}/d:nose")


@pytest.mark.parametrize(
    "damage", ["[]", "{", '{"generator": {}}', '{"generator": {"digest": "", "levels": 3}}', "[" * 100_000]
)
def test_damaged_files_of_directions_end_in_a_sentence(
    G: Generator, statistics: Statistics, tmp_path: Path, damage: str
) -> None:
    save_directions(ganspace_directions(G, statistics, 1), tmp_path)
    (tmp_path / "directions.json").write_text(damage)
    with pytest.raises(FruganError, match="damaged"):
        load_directions(tmp_path)
    with pytest.raises(FruganError, match="holds no directions"):
        load_directions(tmp_path / "nowhere")


def test_nan_vectors_in_a_file_are_refused(G: Generator, statistics: Statistics, tmp_path: Path) -> None:
    save_directions(ganspace_directions(G, statistics, 1), tmp_path)
    facts = json.loads((tmp_path / "directions.json").read_text())
    facts["directions"][0]["sigma"] = float("nan")
    (tmp_path / "directions.json").write_text(json.dumps(facts))
    with pytest.raises(FruganError, match="sigma"):
        load_directions(tmp_path)


def test_published_ranges_end_before_their_end(G: Generator) -> None:
    direction = import_ws_range(G, torch.randn(12), 2, 4, name="x")
    moved = direction.displacement(G).norm(dim=1)
    assert torch.allclose(moved, torch.tensor([0.0, 0, 1, 1, 0, 0]), atol=1e-6)
    assert direction.order == "before"
    for first, end in ((0, 0), (3, 2), (0, 7), (-1, 2)):
        with pytest.raises(FruganError):
            import_ws_range(G, torch.randn(12), first, end, name="x")


# which generator


def test_strangers_and_other_shapes_are_refused_children_are_not(
    G: Generator, statistics: Statistics, make: Make
) -> None:
    direction = ganspace_directions(G, statistics, 1)[0]
    child = make(G.resolution)
    for parameter in child.parameters():
        parameter.data.add_(0.02 * parameter.std() if parameter.numel() > 1 else 0.01)
    direction.check(child)
    with pytest.raises(FruganError, match="another generator"):
        direction.check(make(G.resolution, seed=7))
    with pytest.raises(FruganError, match="of 12 dimensions, and this"):
        direction.check(make(G.resolution, latent=8))
    style = channels_from_examples(G, statistics, torch.randn(3, G.num_ws, 12), 1)[0]
    with pytest.raises(FruganError, match="space style"):
        style.check(make((32, 32)))
    with pytest.raises(FruganError, match="for each of 6 ws"):
        import_ws_range(G, torch.randn(12), 0, 2, name="x").check(make((32, 32)))


# edits


def z_of(G: Generator, n: int = 3) -> torch.Tensor:
    return G.latents(list(range(n)))


def test_no_edit_is_the_plain_image_bit_for_bit(G: Generator) -> None:
    z = z_of(G)
    plain = G.synthesis(G.mapping(z, truncation=0.7), noise="const").clamp(-1, 1)
    assert torch.equal(render_edited(G, z, truncation=Truncation(0.7)), plain)
    whole = G.synthesis(G.mapping(z), noise="const").clamp(-1, 1)
    assert torch.equal(render_edited(G, z), whole)


def test_an_edit_reaches_its_levels_only(G: Generator, statistics: Statistics) -> None:
    direction = ganspace_directions(G, statistics, 1, levels=(2,))[0]
    before, after = edited_styles(G, z_of(G)), edited_styles(G, z_of(G), edits=[Edit(direction, 2.0)])
    for layer, a, b in zip(G.synthesis.style_layers, before, after):
        assert torch.equal(a, b) == (layer.ws_index < 4)


@pytest.mark.parametrize("psi", [0.0, 0.5, 1.0])
def test_order_against_truncation(G: Generator, statistics: Statistics, psi: float) -> None:
    """Added before, ψ shrinks the edit; added after, it does not."""
    for order, factor in (("after", 1.0), ("before", psi)):
        direction = ganspace_directions(G, statistics, 1, order=order)[0]  # pyright: ignore[reportArgumentType]
        plain = G.mapping(z_of(G), truncation=psi)
        expected = G.synthesis.styles(plain + factor * 3 * direction.displacement(G))
        found = edited_styles(G, z_of(G), edits=[Edit(direction, 3.0)], truncation=Truncation(psi))
        for a, b in zip(found, expected):
            assert torch.allclose(a, b, atol=1e-4)


def test_modes_place_the_coordinate(G: Generator, statistics: Statistics, monkeypatch: pytest.MonkeyPatch) -> None:
    direction = ganspace_directions(G, statistics, 1)[0]
    seen: list[torch.Tensor] = []
    styles = G.synthesis.styles
    monkeypatch.setattr(G.synthesis, "styles", lambda ws: seen.append(ws) or styles(ws))
    for mode, target in (("centred", direction.centre + 2 * direction.sigma), ("absolute", 2 * direction.sigma)):
        edited_styles(G, z_of(G), edits=[Edit(direction, 2.0, mode)])  # pyright: ignore[reportArgumentType]
        assert torch.allclose(seen[-1] @ direction.vector, torch.tensor(target), atol=1e-4)
    own = G.mapping(z_of(G)) @ direction.vector
    edited_styles(G, z_of(G), edits=[Edit(direction, 2.0)])
    assert torch.allclose(seen[-1] @ direction.vector, own + 2 * direction.sigma, atol=1e-4)


def test_a_vector_for_each_w_is_placed_and_projected_row_by_row(
    G: Generator, statistics: Statistics, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, end = torch.randn(2, 1, G.num_ws, 12)
    direction, plain = (
        difference_direction(G, statistics, start, end, name="codes"),
        ganspace_directions(G, statistics, 1),
    )
    seen: list[torch.Tensor] = []
    styles = G.synthesis.styles
    monkeypatch.setattr(G.synthesis, "styles", lambda ws: seen.append(ws) or styles(ws))
    edited_styles(G, z_of(G), edits=[Edit(direction, 2.0, "absolute")])
    along = (seen[-1] * direction.vector).sum(-1) / direction.vector.square().sum(-1) / direction.sigma
    assert torch.allclose(along, torch.tensor(2.0), atol=1e-3)
    with pytest.raises(FruganError, match="a vector for each of the ws"):
        edited_styles(G, z_of(G), edits=[Edit(direction, 2.0, "centred")])
    rest = direction.projected_out(plain)
    assert (rest.displacement(G) @ plain[0].vector).abs().max() < 1e-5
    assert float(rest.vector.norm(dim=1).max()) == pytest.approx(1, abs=1e-5)
    assert torch.allclose(
        rest.displacement(G),
        direction.displacement(G) - (direction.displacement(G) @ plain[0].vector)[:, None] * plain[0].vector,
        atol=1e-5,
    )


def test_style_edits_change_one_channel(G: Generator, statistics: Statistics) -> None:
    direction = channels_from_examples(G, statistics, torch.randn(3, G.num_ws, 12), 1)[0]
    before, after = (torch.cat(edited_styles(G, z_of(G), edits=e), 1) for e in ([], [Edit(direction, 2.0)]))
    changed = (before != after).any(0).nonzero().flatten().tolist()
    assert changed == [direction.source["channel"]]


def test_truncation_by_level_and_towards_another_centre(G: Generator) -> None:
    ws = G.mapping(z_of(G))
    assert torch.allclose(Truncation(0.3)(G, ws), G.mapping(z_of(G), truncation=0.3), atol=1e-6)
    some = Truncation(0.3, levels=(1,))(G, ws)
    assert torch.equal(some[:, [0, 1, 4, 5]], ws[:, [0, 1, 4, 5]])
    centre = torch.randn(12)
    assert torch.allclose(Truncation(0.0, centre=centre)(G, ws), centre.expand_as(ws), atol=1e-6)


def test_bad_strengths_and_modes(G: Generator, statistics: Statistics) -> None:
    direction = ganspace_directions(G, statistics, 1)[0]
    for edit in (Edit(direction, float("nan")), Edit(direction, 1e9), Edit(direction, 1.0, "sideways")):  # pyright: ignore[reportArgumentType]
        with pytest.raises(FruganError):
            edited_styles(G, z_of(G), edits=[edit])


# levels


def test_levels_by_name(make: Make) -> None:
    G = make((32, 32))
    assert level_names(G) == ["4", "8", "16", "32"]
    assert parse_levels("8-16", G) == (1, 2)
    assert parse_levels("32,4", G) == (0, 3)
    assert parse_levels(None, G) == (0, 1, 2, 3)
    wide = make((24, 48))
    assert level_names(wide) == ["3x6", "6x12", "12x24", "24x48"]
    assert parse_levels("12x24-48", wide) == (2, 3)
    assert parse_levels("6", wide) == (0,)
    for wrong in ("5", "64", "", "8-", "16-8", "a", "8x16"):
        with pytest.raises(FruganError, match="level"):
            parse_levels(wrong, G)
