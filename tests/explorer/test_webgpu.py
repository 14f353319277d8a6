"""The page in a browser that has WebGPU, and in one that has none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from frugan.explorer import export
from frugan.explorer.network import Network
from frugan.explorer.runtime import WEBGPU_FILES
from tests.browser import launched
from tests.explorer.conftest import exported
from tests.explorer.test_browser import NEAR, Explorer, Reference, opened

PROCESSOR = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
"""Chromium's adapter that computes on the processor: its shaders take minutes on a busy machine."""
PATIENCE = 600_000


FAILS = """
Object.defineProperty(navigator, "gpu", {value: {requestAdapter: async () => ({})}});
const sizes = SIZES;
export const env = {wasm: {}};
export class Tensor { constructor(kind, data, dims) { this.dims = dims; } }
export const InferenceSession = {create: async (file, {executionProviders: [provider]}) => ({
  outputNames: ["y"],
  run: async (given) => {
    if (provider === "webgpu") throw new Error("device lost");
    const [{dims: [n]}] = Object.values(given);
    return {y: {data: new Float32Array(n * sizes[file[0]])}};
  },
})};
"""
"""A runtime whose WebGPU has an adapter and fails when it computes; its WebAssembly makes grey images."""


@pytest.mark.parametrize("fails", ["device lost", "no shader"])
def test_webgpu_that_fails_later(fails: str, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a part is loaded, or when it runs: the page goes on with WebAssembly, and says why."""
    G, facts = network.G, network.facts()
    sizes = [G.num_ws * G.w_dim, facts["style_size"], 3 * 16 * 16]
    monkeypatch.setattr(export, "onnx_parts", lambda _: {part: bytes([i]) for i, part in enumerate(export.PARTS)})
    monkeypatch.setattr(export, "distances", lambda *_: (0.0, 0.0))
    module = FAILS.replace("SIZES", json.dumps(sizes))
    if fails == "no shader":
        module = module.replace("=> ({\n", '=> provider === "webgpu" ? Promise.reject(new Error("no shader")) : ({\n')
    runtime = dict(zip(WEBGPU_FILES, (module.encode(), b"")))
    done = export.export_page(tmp_path / "page.html", [network], runtime, "float32")
    with launched() as browser:  # not the module's, beside which no other can be launched
        for explorer in opened(browser, done.page.as_uri(), 0):
            explorer.shows(np.full((16, 16, 3), 128, np.uint8))
            assert explorer.page.evaluate("document.body.dataset.engine") == "wasm"
            assert f"Computed with WebAssembly, not WebGPU: {fails}." in explorer.page.inner_text("#status")
            explorer.click("Seed 5")
            explorer.settle()
            assert "seed 5" in explorer.page.locator("#stage canvas").get_attribute("aria-label")


def first_image(arguments: tuple[str, ...], address: str, network: Network) -> tuple[str, str]:
    """What the page computed its first image with, and what its status line says; the image must be the network's."""
    wrong: list[str] = []
    with launched(*arguments) as browser:
        page = browser.new_page()
        page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: wrong.append(str(e)))
        page.goto(address)
        page.wait_for_selector("#stage canvas:not([aria-label='not made yet'])", timeout=PATIENCE)
        explorer = Explorer(page, NEAR["page"])
        explorer.settle = lambda: None  # thumbnails are not waited for
        explorer.shows(Reference(network).seed())
        assert wrong == []
        return page.evaluate("document.body.dataset.engine"), page.inner_text("#status")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_webgpu_and_a_browser_without(network: Network, onnx: dict[str, bytes], tmp_path: Path) -> None:
    """Both make the network's images; where there is no adapter the page says so."""
    address = exported(tmp_path / "page.html", {network: onnx}, webgpu=True).as_uri()
    engine, said = first_image(("--disable-features=WebGPU,WebGPUService",), address, network)
    assert engine == "wasm"
    assert "Computed with WebAssembly, not WebGPU: this browser offers no WebGPU adapter." in said
    with launched(*PROCESSOR) as browser:
        page = browser.new_page()
        page.goto(Path(__file__).as_uri())
        has_adapter = page.evaluate("async () => Boolean(await navigator.gpu?.requestAdapter())")
    if not has_adapter:
        pytest.skip("this Chromium has no WebGPU adapter")
    engine, said = first_image(PROCESSOR, address, network)
    assert engine == "webgpu"
    assert "WebAssembly" not in said
