"""What happens around the page: a server that ends, an address of another machine, dropped files, links that are not whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from frugan.explorer.network import Network
from frugan.explorer.server import Place
from frugan.images import to_uint8
from tests.browser import launched
from tests.explorer.conftest import make_network
from tests.explorer.test_browser import Explorer, opened

NAME = "gpu-box.test"
"""The server's machine, under a name by which a browser does not trust it as much as its own."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched(f"--host-resolver-rules=MAP {NAME} 127.0.0.1") as found:
        yield found


@pytest.fixture(scope="module")
def place(serving: Callable[..., Place], network: Network) -> Place:
    return serving([network])


@pytest.fixture
def explorer(browser: Any, place: Place) -> Iterator[Explorer]:
    yield from opened(browser, place.address, 1)


def test_from_another_machine(browser: Any, serving: Callable[..., Place], network: Network) -> None:
    """A page that the browser holds for no secure context works, but for the clipboard, which it does not have."""
    address = serving([network], host=NAME).address
    assert f"//{NAME}:" in address
    context = browser.new_context()
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#stage canvas[aria-label^='seed 0']")
    assert not page.evaluate("isSecureContext")
    explorer = Explorer(page, 1)
    before = explorer.image()
    explorer.click("Next seed")
    assert not np.array_equal(explorer.image(), before)
    explorer.click("Copy link")
    explorer.hears("copy it from the address bar")
    context.close()
    assert wrong == []


def test_the_server_does_not_answer(browser: Any, place: Place) -> None:
    """A sentence for whatever is pressed; when it answers again, the page goes on."""
    context = browser.new_context()
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(place.address)
    explorer = Explorer(page, 1)
    explorer.page.wait_for_selector("#stage canvas[aria-label^='seed 0']")
    explorer.settle()
    context.set_offline(True)
    for name in ("Random seed", "Save PNG", "Save code"):
        page.evaluate("document.getElementById('status').textContent = ''")
        explorer.click(name)
        explorer.hears("the server does not answer")
    context.set_offline(False)
    before = explorer.image()
    explorer.click("Seed 7")
    assert not np.array_equal(explorer.image(), before)
    assert page.inner_text("#status") == ""
    context.close()
    assert wrong == []


def test_every_network_is_shown(browser: Any, serving: Callable[..., Place]) -> None:
    networks = [make_network(name, seed) for seed, name in enumerate("abc")]
    for explorer in opened(browser, serving(networks).address, 1):
        explorer.click("Seed 3")
        for i, network in enumerate(networks):
            shown = explorer.image(f"#stage figure:nth-of-type({i + 1}) canvas")
            made = to_uint8(network.G.sample([3], c=torch.eye(3)[0], truncation=0.7))[0]
            assert np.abs(shown[..., :3].astype(int) - made).max() <= 1


def test_a_link_is_of_the_image_that_is_shown(explorer: Explorer) -> None:
    """Copied in the moment of a change, too; and what was said of the image before is not said of the next one."""
    explorer.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    explorer.page.evaluate(
        """() => { const press = (name) => [...document.querySelectorAll("button")].find((b) => b.textContent === name).click();
           press("Next seed"); press("Copy link"); }"""
    )
    explorer.hears("in the clipboard")
    copied = explorer.page.evaluate("navigator.clipboard.readText()")
    explorer.settle()
    assert explorer.state["a"] == {"seed": 1}
    assert copied == explorer.page.url
    explorer.click("Next seed")
    assert explorer.page.inner_text("#status") == ""


def test_codes_of_one_name(explorer: Explorer, tmp_path: Path) -> None:
    """The second does not take the first one's place in what was done before; a link to one says that it is not in it."""
    images, file = [], tmp_path / "code.safetensors"
    for seed in (5, 6):
        explorer.click(f"Seed {seed}")
        images.append(explorer.image())
        with explorer.page.expect_download() as saved:
            explorer.click("Save code")
        saved.value.save_as(file)
        explorer.page.get_by_label("Open a code", exact=True).set_input_files(file)
        explorer.hears("The code is open")
        assert np.abs(explorer.image().astype(int) - images[-1]).max() <= 1
    explorer.click("Undo")  # to seed 6
    explorer.click("Undo")  # to the first code
    assert explorer.state["a"] == {"code": "code.safetensors"}
    assert np.abs(explorer.image().astype(int) - images[0]).max() <= 1
    explorer.page.reload()
    explorer.hears("the code code.safetensors, which is not part of it")


def test_a_file_dropped_beside_its_place(explorer: Explorer, tmp_path: Path) -> None:
    """A code is opened wherever on the page it falls; the browser does not leave the page for it."""
    explorer.click("Seed 5")
    with explorer.page.expect_download() as saved:
        explorer.click("Save code")
    content = list(Path(saved.value.path()).read_bytes())
    stays = explorer.page.evaluate(
        """content => { const given = new DataTransfer();
           given.items.add(new File([new Uint8Array(content)], "own.safetensors"));
           const event = (kind) => new DragEvent(kind, {dataTransfer: given, bubbles: true, cancelable: true});
           const target = document.querySelector("h1");
           return ["dragover", "drop"].map((kind) => !target.dispatchEvent(event(kind))); }""",
        content,
    )
    assert stays == [True, True]
    explorer.hears("The code is open")
    assert explorer.state["a"] == {"code": "own.safetensors"}


@pytest.mark.parametrize("size", [0, 3, 8, 9, 100])
def test_what_is_no_code(size: int, explorer: Explorer, tmp_path: Path) -> None:
    (tmp_path / "own.safetensors").write_bytes(bytes(size))
    before = explorer.image()
    explorer.page.get_by_label("Open a code", exact=True).set_input_files(tmp_path / "own.safetensors")
    explorer.hears("own.safetensors cannot be opened as a code: no safetensors file")
    assert np.array_equal(explorer.image(), before)


@pytest.mark.slow
def test_an_image_dropped_where_no_server_is(browser: Any, page_file: Path) -> None:
    for explorer in opened(browser, page_file.as_uri(), 2):
        explorer.page.evaluate(
            """() => { const given = new DataTransfer();
               given.items.add(new File([new Uint8Array(9)], "own.png"));
               document.querySelector("h1").dispatchEvent(new DragEvent("drop", {dataTransfer: given, bubbles: true})); }"""
        )
        explorer.hears("own images are for frugan explore")


def test_training_images_that_are_alike(browser: Any, serving: Callable[..., Place], network: Network) -> None:
    """Where they are copies of each other, a copy of one is called very near all the same."""
    pixels = {"h": 1, "w": 1, "data": "AAAA/w=="}

    class Alike:
        def nearest(self, image: Any) -> dict[str, Any]:
            return {"usual": 0.0, "nearest": [{"name": "a.png", "distance": 0.0, "pixels": pixels}]}

    known = replace(network, training_images=lambda: Alike())
    for explorer in opened(browser, serving([known]).address, 1):
        explorer.click("Find the nearest training images")
        explorer.page.get_by_text("That is very near").wait_for()
