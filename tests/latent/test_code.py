"""Codes: files that give the same image again, among seeds, edited, refused where they do not belong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from frugan.cli.common import parse_points
from frugan.errors import FruganError
from frugan.latent.code import (
    Code,
    different,
    file_stems,
    find_codes,
    load_code,
    point_names,
    point_ws,
    render_points,
    save_code,
)
from frugan.latent.direction import Direction, Identity
from frugan.latent.edit import Edit, Truncation, render_edited
from frugan.latent.path import edit_path, loop, tour, truncation_path
from frugan.latent.projection import constant_noise
from frugan.networks import Generator

Make = Callable[..., Generator]


def make_code(G: Generator, seed: int = 3, *, noise: bool = False, name: str = "me") -> Code:
    ws = G.mapping(G.latents([seed]))[0]
    rng = torch.Generator().manual_seed(seed)
    maps = tuple(torch.randn(n[0].shape, generator=rng) for n in constant_noise(G, 1)) if noise else ()
    return Code(name, ws, Identity.of(G), maps, torch.eye(3)[1], {"distance": {"w": 0.5}})


@pytest.mark.parametrize("noise", [False, True])
def test_a_code_file_is_the_same_image_again(G: Generator, tmp_path: Path, noise: bool) -> None:
    code = make_code(G, noise=noise)
    read = load_code(save_code(code, tmp_path / "me.safetensors"))
    assert (read.name, read.facts, read.generator.digest) == (code.name, code.facts, code.generator.digest)
    assert read.c is not None
    assert torch.equal(read.c, torch.eye(3)[1])
    assert torch.equal(render_points(G, [read]), render_points(G, [code]))
    plain = G.sample([3])
    assert torch.allclose(render_points(G, [read]), plain, atol=1e-5) != noise


def test_seeds_and_codes_side_by_side(G: Generator) -> None:
    """Seeds are truncated and have the network's noise, codes are as they are."""
    code = make_code(G, noise=True)
    direction = Direction("d", "w", torch.eye(G.w_dim)[0], 0.5, Identity.of(G))
    edits = [Edit(direction, 2.0)]
    both = render_points(G, [5, code], None, edits, Truncation(0.5))
    assert torch.allclose(both[:1], render_edited(G, G.latents([5]), None, edits, Truncation(0.5)), atol=1e-5)
    assert torch.allclose(both[1:], render_points(G, [code], edits=edits), atol=1e-5)
    moved = Code("moved", code.ws + direction.displacement(G) * 2, code.generator, code.noise)
    assert torch.allclose(both[1:], render_points(G, [moved]), atol=1e-5)
    assert point_names([5, code]) == ["5", "me"]
    with pytest.raises(FruganError, match="one of z"):
        render_points(G, [code], edits=[Edit(Direction("z", "z", torch.eye(G.z_dim)[0], 1.0, Identity.of(G)), 1.0)])


def test_videos_go_through_codes(G: Generator) -> None:
    code, end = make_code(G), torch.tensor([1.0])
    assert torch.allclose(tour(G, [7, code]).ws(end)[0], code.ws, atol=1e-5)
    assert torch.allclose(loop(G, [7, code, 9]).ws(end)[0], code.ws, atol=1e-4)
    assert torch.allclose(truncation_path(G, code, 0.0, 1.0).ws(end)[0], code.ws, atol=1e-5)
    direction = Direction("d", "w", torch.eye(G.w_dim)[0], 0.5, Identity.of(G))
    assert torch.allclose(edit_path(G, code, direction, -1, 1).render(end * 0), render_points(G, [code]), atol=1e-5)
    noisy = make_code(G, noise=True)  # videos between images have the network's own noise
    assert not torch.allclose(render_points(G, [noisy]), render_points(G, [code]), atol=1e-5)
    for path in (tour(G, [7, noisy]), loop(G, [7, noisy, 9])):
        assert torch.allclose(path.render(end), render_points(G, [code]), atol=1e-4)
    with pytest.raises(FruganError, match="no z"):
        tour(G, [7, code], space="z")


def test_lists_of_seeds_and_files(G: Generator, tmp_path: Path) -> None:
    file = save_code(make_code(G), tmp_path / "a.safetensors")
    save_code(make_code(G, 4, name="b"), tmp_path / "b.safetensors")
    comma = save_code(make_code(G, 5, name="c"), tmp_path / "c, d.safetensors")

    def names(text: str) -> list[str]:
        return [found.name if isinstance(found, Code) else found for found in find_codes(text)]

    assert names(f"{file},0-3,{file},9") == ["me", "0-3", "me", "9"]
    assert names(str(tmp_path)) == ["me", "b", "c"]
    assert names(str(comma)) == ["c"]
    assert names("0,x") == ["0", "x"]  # refused by whoever reads the seeds
    assert point_names(parse_points(f"{file},0-1,{file}")) == ["me", "0", "1", "me"]


def test_a_tour_keeps_its_order_and_is_closed_by_the_same_code(G: Generator, tmp_path: Path) -> None:
    file = save_code(make_code(G), tmp_path / "me.safetensors")
    path = tour(G, parse_points(f"{file},7,{file}"))
    assert path.closed
    for t, seed in enumerate([3, 7, 3]):
        assert torch.allclose(path.ws(torch.tensor([float(t)])), G.mapping(G.latents([seed])), atol=1e-5)
    assert not tour(G, [make_code(G), 7, make_code(G, 4)]).closed


def test_names_of_files_stay_apart(G: Generator) -> None:
    assert different(["a-2", "a", "a", "A", "sheet"], ["sheet"]) == ["a-2", "a", "a-3", "A-4", "sheet-2"]
    assert file_stems([3, make_code(G), make_code(G)]) == ["seed0003", "me", "me-2"]


@pytest.mark.parametrize("damage", [lambda t: t.fill_(torch.nan), lambda t: t.fill_(torch.inf), lambda t: t.long()])
def test_numbers_that_are_none_are_refused(G: Generator, tmp_path: Path, damage: Callable[[Tensor], Tensor]) -> None:
    file = save_code(make_code(G), tmp_path / "me.safetensors")
    with safe_open(file, "pt") as opened:
        whole = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        metadata = opened.metadata()
    for name in whole:
        save_file({**whole, name: damage(whole[name].clone())}, file, metadata)
        with pytest.raises(FruganError, match="not those of a code"):
            load_code(file)


@pytest.mark.parametrize("name", ["../me", "a/b", "", "/me"])
def test_names_that_lead_elsewhere_are_refused(G: Generator, tmp_path: Path, name: str) -> None:
    file = save_code(make_code(G, name=name), tmp_path / "x.safetensors")
    with pytest.raises(FruganError, match="without slashes"):
        load_code(file)
    with pytest.raises(FruganError, match="without slashes"):
        Direction(name, "w", torch.eye(G.w_dim)[0], 0.5, Identity.of(G))


def test_codes_that_do_not_belong_are_refused(G: Generator, make: Make, tmp_path: Path) -> None:
    code = make_code(G)
    with pytest.raises(FruganError, match="belongs to another generator"):
        point_ws(make(G.resolution, seed=9), [code])
    with pytest.raises(FruganError, match="and this generator reads"):
        point_ws(make((32, 32)), [1, code])
    with pytest.raises(FruganError, match=r"end in \.safetensors"):
        save_code(code, tmp_path / "me.png")
    (tmp_path / "x.safetensors").write_bytes(b"1234")
    for name, message in (("x.safetensors", "damaged"), ("y.safetensors", "there is no code"), ("z", "holds no codes")):
        (tmp_path / "z").mkdir(exist_ok=True)
        with pytest.raises(FruganError, match=message):
            find_codes(str(tmp_path / name))
    noisy = Code("n", code.ws, code.generator, tuple(torch.zeros(1, 2, 2) for _ in constant_noise(G, 1)))
    with pytest.raises(FruganError, match="noise maps"):
        render_points(G, [noisy])
