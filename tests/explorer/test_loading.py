"""The page as a file while its network is loaded: the worker's reading of packed weights, and what is there to see before."""

from __future__ import annotations

from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frugan.explorer import export
from frugan.explorer.network import Network
from frugan.explorer.page import asset
from frugan.explorer.weights import WEIGHTS, Weights, pack, unpack
from tests.explorer.test_export import products

UNPACKED = """([source, packed]) => {
  const unpacked = new Function("onmessage", `${source}; return unpack`)()(Uint8Array.from(atob(packed), (c) => c.charCodeAt(0)));
  return new Promise((done) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.split(",")[1]);
    reader.readAsDataURL(new Blob([unpacked]));
  });
}"""


@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_worker_unpacks_as_python_does(weights: Weights, browser: Any) -> None:
    """Bit by bit, weights of any size and rows or columns alike; among float16 are all that are finite."""
    rng = np.random.default_rng(0)
    content, W = products(rng, [(33, 40), (40, 25), (25, 41), (41, 1000), (1000, 64)])
    if weights == "float16":
        halves = np.arange(65536, dtype=np.uint16).view(np.float16)[:64000].astype(np.float32)
        content = content.replace(W[-1].tobytes(), np.where(np.isnan(halves), 0, halves).tobytes())
    packed = pack(content, weights)
    assert (len(packed) < len(content)) == (weights != "float32")
    page = browser.new_page()
    found = page.evaluate(UNPACKED, [asset("worker.js"), b64encode(packed).decode()])
    page.close()
    assert b64decode(found) == unpack(packed)


RUNTIME = """
export const env = {wasm: {}};
export class Tensor {}
export const InferenceSession = {create: () => LOADED};
"""


@pytest.mark.parametrize(
    ("loaded", "says"),
    [("new Promise(() => {})", "Opening the network …"), ('Promise.reject(new Error("no memory"))', "no memory")],
    ids=["takes long", "fails"],
)
def test_the_controls_are_there_before_the_network(
    loaded: str, says: str, browser: Any, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the network cannot be loaded, the page says why."""
    monkeypatch.setattr(export, "onnx_parts", lambda _: dict.fromkeys(export.PARTS, b""))
    monkeypatch.setattr(export, "distances", lambda *_: (0.0, 0.0))
    runtime = {"module": RUNTIME.replace("LOADED", loaded).encode(), "wasm": b""}
    done = export.export_page(tmp_path / "page.html", [network], runtime, "float32")
    page = browser.new_page()
    page.goto(done.page.as_uri())
    page.get_by_label("Truncation ψ", exact=True).wait_for()
    page.locator("#status").filter(has_text=says).wait_for()
    assert page.locator("#stage canvas").get_attribute("aria-label") == "not made yet"
    page.close()
