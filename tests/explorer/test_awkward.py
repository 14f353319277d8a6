"""Networks that are not RGB squares without labels: on the server and as a page, both show what the network makes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from frugan.errors import FruganError
from frugan.explorer.network import Network
from frugan.images import to_uint8
from frugan.label_parts import Measured
from frugan.networks import Generator
from frugan.pixel_format import PixelFormat
from tests.explorer.test_browser import ENGINES, Explorer, labelled, opened
from tests.latent.conftest import make_generator


def varied(G: Generator, seed: int = 0, *, measured: tuple[Measured, ...] = (), **synthesis: Any) -> Generator:
    """The generator with other settings, its weights drawn again."""
    torch.manual_seed(seed)
    config = replace(G.config, measured=measured, synthesis=replace(G.config.synthesis, **synthesis))
    made = Generator(config)
    for name, parameter in made.named_parameters():
        if "noise_strength" in name or name.endswith(".bias"):
            torch.nn.init.normal_(parameter, mean=1.0 if "affine" in name else 0.0, std=0.3)
    return made


WIDTH = Measured(2, "width", mean=5.0, std=2.0, minimum=1.0, maximum=9.0)
NETWORKS: dict[str, Callable[[], Network]] = {
    "measured labels": lambda: Network(
        "measured", varied(make_generator((8, 8), label_size=3), measured=(WIDTH,)), (), ["kind=a", "kind=b", "width"]
    ),
    "16-bit grey": lambda: Network(
        "grey", make_generator((8, 8), channels=1, pixels=PixelFormat("uint16", ((100, 3000),)))
    ),
    "grey and opacity": lambda: Network("alpha", make_generator((8, 8), channels=2, pixels=PixelFormat(alpha=True))),
    "five bands": lambda: Network("bands", make_generator((8, 8), channels=5)),
    "portrait": lambda: Network("portrait", make_generator((24, 8))),
    "landscape": lambda: Network("landscape", make_generator((12, 20))),
    "tiled": lambda: Network("tiled", varied(make_generator((16, 16)), tile="xy")),
    "residual": lambda: Network("residual", make_generator((8, 8), architecture="resnet")),
    "without noise": lambda: Network("silent", varied(make_generator((8, 8)), use_noise=False)),
}


def label(network: Network) -> torch.Tensor | None:
    """The page's first label: class 0, numbers in the middle of their range."""
    if not network.G.label_size:
        return None
    return torch.tensor([1.0, 0.0, 5.0])


def shown(network: Network, seed: int) -> np.ndarray:
    """An image as a canvas has it, uint8 `[H, W, 4]`."""
    (made,) = to_uint8(network.G.sample([seed], c=label(network), truncation=0.7))
    grey, has_alpha = made.shape[-1] < 3, made.shape[-1] in (2, 4)
    rgb = made[..., [0, 0, 0]] if grey else made[..., :3]
    return np.concatenate([rgb, made[..., -1:] if has_alpha else np.full_like(made[..., :1], 255)], axis=-1)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", NETWORKS)
def test_shown_and_saved(engine: str, kind: str, browser: Any, serving: Callable[..., Any], tmp_path: Path) -> None:
    """The image, a seed of the grid, mixing, truncation by level, and every file that can be saved."""
    network = NETWORKS[kind]()
    for explorer in opened(browser, address(engine, network, serving, tmp_path), 2 if engine == "page" else 1):
        explorer.click("Seed 5")
        expected = shown(network, 5).astype(int)
        found = explorer.image().astype(int)
        assert found.shape == expected.shape
        visible = (
            expected[..., 3:] > 128 if network.G.channels == 2 else True
        )  # a canvas keeps colours by their opacity
        assert (np.abs(found - expected) * visible).max() <= explorer.near * (1 if visible is True else 2)
        before = explorer.image()
        for change in ("Random B", "Coarse from B", "Child 1", "Add key frame"):
            explorer.click(change)
            explorer.settle()
        assert not np.array_equal(explorer.image(), before)
        if network.G.label_size:
            change_label(explorer)
        for name in ("Save PNG", "Save code", *(["Save all as .npy"] if network.G.channels == 5 else [])):
            with explorer.page.expect_download():
                explorer.click(name)
        assert "Failed" not in explorer.page.inner_text("#status")


def change_label(explorer: Explorer) -> None:
    explorer.reset({"a": {"seed": 5}})
    before = explorer.image()
    labelled(explorer, "First kind", "b")
    explorer.set("First width (1 to 9)", 9)
    assert explorer.state["label"] == [0, 1, 9]
    assert not np.array_equal(explorer.image(), before)


def address(engine: str, network: Network, serving: Callable[..., Any], folder: Path) -> str:
    if engine == "server":
        return serving([network]).address
    from frugan.explorer.export import export_page
    from frugan.explorer.runtime import read_runtime

    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    try:
        runtime = read_runtime(os.environ.get("FRUGAN_TEST_RUNTIME"))
    except FruganError as error:
        pytest.skip(f"onnxruntime-web is not at hand: {error}")
    return export_page(folder / "page.html", [network], runtime).page.as_uri()
