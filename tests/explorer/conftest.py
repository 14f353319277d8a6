"""A small conditional network with directions of every space, served, and as a page; a browser to look at both."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from frugan.errors import FruganError
from frugan.explorer.network import Network
from frugan.latent.direction import Direction, Identity
from frugan.latent.text import JointModel
from frugan.networks import Generator
from tests.latent.conftest import make_generator

HOSTILE = "<img src=x onerror=window.hurt=1>"
"""A name that would run a script where names were taken for HTML."""
MARKED_UP = "<s>owl</s>"
"""A class; "=" in it would make it one of several parts of a label."""


def make_directions(G: Generator) -> list[Direction]:
    torch.manual_seed(1)
    identity = Identity.of(G)

    def of(name: str, space: Any, size: int, **more: Any) -> Direction:
        vector = torch.nn.functional.normalize(torch.randn(size), dim=0)
        return Direction(name, space, vector, 0.8, identity, **more)

    styles = sum(layer.width for layer in G.synthesis.style_layers)
    return [
        of("smile", "w", G.w_dim, levels=(1, 2)),
        of("early", "w", G.w_dim, order="before"),
        of("latent", "z", G.z_dim, slider=(-2.0, 4.0)),
        of("channel", "style", styles),
        replace(of(HOSTILE, "w", G.w_dim), slider=(-1.0, 1.0)),
    ]


def make_network(name: str = "small", seed: int = 0, resolution: tuple[int, int] = (16, 16), **shape: Any) -> Network:
    G = make_generator(resolution, label_size=3, seed=seed, **shape)
    return Network(name, G, make_directions(G), ["cat", "dog", MARKED_UP])


@pytest.fixture(scope="session")
def network() -> Network:
    return make_network()


class Shades:
    """A joint model in closed form: an image stands on a quarter of a circle by its mean, from "bright" to "dark"."""

    name = "shades"
    templates: Sequence[str] = ("{}",)

    def images(self, images: torch.Tensor) -> torch.Tensor:
        angles = (1 - images.mean(dim=(1, 2, 3))) * torch.pi / 4
        return torch.stack([angles.cos(), angles.sin()], dim=1)

    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        for text in texts:
            if text not in ("bright", "dark"):
                raise FruganError(f"shades has never seen the word {text!r}")
        return torch.tensor([[1.0, 0.0] if text == "bright" else [0.0, 1.0] for text in texts])


@pytest.fixture(scope="session")
def text_model() -> JointModel:
    return Shades()


@pytest.fixture(scope="session")
def serving() -> Iterator[Callable[..., Any]]:
    """Starts servers: serving(networks) → its `Place`, under another host name where one is given."""
    import uvicorn

    from frugan.explorer.server import Service, listen, make_config

    running = []

    def start(networks: list[Network], *, host: str = "127.0.0.1", **options: Any) -> Any:
        bound, place = listen("127.0.0.1", 0)
        place = replace(place, host=host)
        server = uvicorn.Server(make_config(Service(networks, **options), place))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        running.append((server, thread, bound))
        return place

    yield start
    for server, thread, bound in running:
        server.should_exit = True
        thread.join(120)
        bound.close()


@pytest.fixture(scope="session")
def onnx(network: Network) -> dict[str, bytes]:
    """The network's parts as ONNX, in float32."""
    from frugan.explorer.export import onnx_parts

    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    return onnx_parts(network)


def exported(path: Path, parts: dict[Network, dict[str, bytes]], *, webgpu: bool = False) -> Path:
    """Networks as one file, from parts that were exported before."""
    from frugan.explorer import export
    from frugan.explorer.runtime import read_runtime

    try:
        runtime = read_runtime(os.environ.get("FRUGAN_TEST_RUNTIME"), webgpu=webgpu)
    except FruganError as error:
        pytest.skip(f"onnxruntime-web is not at hand: {error}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "onnx_parts", parts.__getitem__)
        return export.export_page(path, [*parts], runtime).page


@pytest.fixture(scope="session")
def page_file(network: Network, onnx: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network exported as one file."""
    return exported(tmp_path_factory.mktemp("page") / "a page.html", {network: onnx})
