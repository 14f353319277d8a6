"""The page in a browser that has WebGPU, and in one that has none."""

from __future__ import annotations

from pathlib import Path

import pytest

from frugan.explorer.network import Network
from tests.browser import launched
from tests.explorer.conftest import exported
from tests.explorer.test_browser import NEAR, Explorer, Reference

PROCESSOR = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
"""Chromium's adapter that computes on the processor: its shaders take minutes on a busy machine."""
PATIENCE = 600_000


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
    address = exported(tmp_path / "page.html", network, onnx, webgpu=True).as_uri()
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
