"""Explorer as one file: the page with the generator and its runtime inside; it opens from disk and asks nothing of a network."""

from __future__ import annotations

import gzip
import json
import tempfile
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from frugan.errors import FruganError
from frugan.explorer.network import Network, constant_noise
from frugan.explorer.page import file_page, folder_page
from frugan.explorer.runtime import WEBGPU_FILES
from frugan.explorer.weights import Weights, pack, unpack
from frugan.files import building, write_text
from frugan.interop.export import ExportConfig, Part, export_onnx
from frugan.networks import typical_labels
from frugan.telemetry import import_onnxruntime

PARTS: tuple[Part, ...] = ("mapping", "styles", "render")
LARGEST_FILE = 50 << 20
"""Bytes of a page in one file; above, it is a folder of a page and its data."""
LIMITS: Mapping[Weights, float] = {"float16": 0.5, "int8": 8.0, "float32": 0.1}
"""Mean distance of a page's images from the network's, in steps of 8 bits, above which no page is written."""
_COMPARED = 8


@dataclass(frozen=True)
class ExportedPage:
    """A written page: its path, the bytes of all its files, and its images' distance from the network's, in steps of 8 bits."""

    page: Path
    size: int
    mean_distance: float
    largest_distance: float


def export_page(
    path: Path, networks: Sequence[Network], runtime: Mapping[str, bytes], weights: Weights = "float16"
) -> ExportedPage:
    """Writes the explorer of networks as one page or, above `LARGEST_FILE`, as a folder of that name without the ending.

    Args:
        path: ends in .html.
        networks: the generators with their statistics and directions; the first is edited, the others are shown beside it.
        runtime: files of the browser's ONNX runtime, by name (`read_runtime`).
        weights: how they are stored.

    Raises `FruganError`, before anything is written, where the page's images would differ too much from the network's.
    """
    check_name(path)
    parts = [packed(onnx_parts(network), weights) for network in networks]
    apart = [distances(*pair) for pair in zip(networks, parts)]
    mean, largest = (max(values) for values in zip(*apart))
    if mean > LIMITS[weights]:
        raise FruganError(
            f"with {weights} weights the page's images are on average {mean:.2f} steps of 8 bits from the network's, "
            f"above {LIMITS[weights]:g}: choose another --weights"
        )
    blocks = _blocks(networks, parts, runtime)
    total = sum(map(len, blocks.values()))
    if total <= LARGEST_FILE:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, file_page(blocks))
        return ExportedPage(path, path.stat().st_size, mean, largest)
    folder = path.with_suffix("")
    if folder.exists():
        raise FruganError(
            f"{folder} exists: a page of {total >> 20} MB is written as a folder of that name; choose another"
        )
    html, scripts = folder_page(blocks)
    with building(folder) as made:
        made.mkdir()
        for name, content in {"index.html": html, **scripts}.items():
            write_text(made / name, content)
    return ExportedPage(folder / "index.html", sum(f.stat().st_size for f in folder.iterdir()), mean, largest)


def check_name(path: Path) -> None:
    """Raises `FruganError` where a page cannot be called so."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise FruganError(f"{path}: name a file that ends in .html")


def onnx_parts(network: Network) -> dict[str, bytes]:
    """The ONNX files of `PARTS`, in float32."""
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for part in PARTS:
            has_noise = part == "render" and network.G.synthesis.use_noise
            file = Path(scratch) / f"{part}.onnx"
            export_onnx(file, network.G, ExportConfig(part=part, noise="input" if has_noise else "const"))
            found[part] = file.read_bytes()
    return found


def packed(parts: Mapping[str, bytes], weights: Weights) -> dict[str, bytes]:
    """The parts as the page stores them. With int8 the mapping network stays float16: an error in w is one in everything."""
    kinds: dict[str, Weights] = {"mapping": "float16"} if weights == "int8" else {}
    return {part: pack(content, kinds.get(part, weights)) for part, content in parts.items()}


def distances(network: Network, parts: Mapping[str, bytes]) -> tuple[float, float]:
    """Mean and largest difference of the packed parts' images from the network's own, over a few seeds, in steps of 8 bits."""
    onnxruntime = import_onnxruntime()
    G = network.G
    sessions = {
        name: onnxruntime.InferenceSession(unpack(content), providers=["CPUExecutionProvider"])
        for name, content in parts.items()
    }

    def run(part: str, **inputs: np.ndarray) -> np.ndarray:
        return np.asarray(sessions[part].run(None, inputs)[0])

    z = G.latents(list(range(_COMPARED)))
    c = None
    if G.label_size:
        labels = typical_labels(G.label_size, G.config.measured)
        c = labels[torch.arange(_COMPARED) % len(labels)]
    noise = {f"noise_{i}": m.expand(_COMPARED, -1, -1, -1).numpy() for i, m in enumerate(constant_noise(G))}
    ws = run("mapping", z=z.numpy(), **({} if c is None else {"c": c.numpy()}))
    made = np.clip(run("render", styles=run("styles", ws=ws), **noise), -1, 1)
    own = network.render(network.map(z, c)[:, None].expand(-1, G.num_ws, -1), None).numpy()
    apart = np.abs(made - own) * 127.5
    return float(apart.mean()), float(apart.max())


def _blocks(
    networks: Sequence[Network], parts: Sequence[Mapping[str, bytes]], runtime: Mapping[str, bytes]
) -> dict[str, str]:
    """The page's data by name, each base64 of gzip; those of network i begin with i."""
    module, wasm = runtime.values()
    settings = {"webgpu": {*runtime} == {*WEBGPU_FILES}}
    contents = {"settings": json.dumps(settings).encode(), "runtime": module, "wasm": wasm}
    for i, (network, files) in enumerate(zip(networks, parts)):
        noise = b"".join(m.numpy().astype("<f4").tobytes() for m in constant_noise(network.G))
        own = {"facts": json.dumps(network.facts()).encode(), "noise": noise, **files}
        contents |= {f"{i}-{name}": content for name, content in own.items()}
    return {name: b64encode(gzip.compress(content, 9, mtime=0)).decode("ascii") for name, content in contents.items()}
