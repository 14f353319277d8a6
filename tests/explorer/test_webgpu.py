"""The page in a browser that has WebGPU, and in one that has none."""

from __future__ import annotations

from pathlib import Path

import pytest

from frugan.explorer.network import Network
from tests.browser import launched
from tests.explorer.conftest import exported
from tests.explorer.test_browser import NEAR, Explorer, Reference, opened

ADAPTER = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
"""Chromium's own adapter, which computes on the processor."""


def check(explorer: Explorer, network: Network) -> None:
    explorer.click("Seed 5")
    explorer.set("smile", 1.5)
    explorer.shows(Reference(network).seed(5, smile=1.5))


@pytest.mark.slow
def test_webgpu(network: Network, onnx: dict[str, bytes], tmp_path: Path) -> None:
    """Both make the network's images; where there is no adapter the page says so."""
    address = exported(tmp_path / "page.html", network, onnx, webgpu=True).as_uri()
    with launched(*ADAPTER) as browser:
        page = browser.new_page()
        page.goto(Path(__file__).as_uri())
        if not page.evaluate("async () => Boolean(await navigator.gpu?.requestAdapter())"):
            pytest.skip("this Chromium has no WebGPU adapter")
        for explorer in opened(browser, address, NEAR["page"]):
            assert explorer.page.evaluate("document.body.dataset.engine") == "webgpu"
            check(explorer, network)
            assert "WebAssembly" not in explorer.page.inner_text("#status")
    with launched("--disable-features=WebGPUService") as browser:
        for explorer in opened(browser, address, NEAR["page"]):
            explorer.hears("Computed with WebAssembly, not WebGPU: this browser offers no WebGPU adapter.")
            assert explorer.page.evaluate("document.body.dataset.engine") == "wasm"
            check(explorer, network)
