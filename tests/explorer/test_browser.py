# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
"""The page in a real browser: every control changes what it says, on the server and from a file without a network."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import imagecodecs
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from frugan.explorer.network import Network
from frugan.image_files import choose_output
from frugan.images import is_own_output, to_uint8
from frugan.latent.code import load_code
from frugan.latent.direction import find_direction
from frugan.latent.edit import Edit, Truncation, apply_edits
from frugan.latent.levels import ws_of_levels
from frugan.latent.text import JointModel, prompt_vector
from frugan.latent.text.search import find_seeds
from frugan.pixel_format import PixelFormat
from tests.explorer.conftest import HOSTILE, MARKED_UP, exported, make_network

NEAR = {"server": 1, "page": 2}
"""Steps of 8 bits that an engine's image may differ from the one that frugan.latent makes; the page has float16 weights."""


def near(address: str) -> int:
    return NEAR["page" if address.startswith("file:") else "server"]


TIMERS = """(() => {
    const waiting = new Set(), {setTimeout, clearTimeout} = window;
    window.setTimeout = (work, ms, ...rest) => {
        const id = setTimeout(() => { waiting.delete(id); work(...rest); }, ms);
        if (!(ms > 1000)) waiting.add(id);
        return id;
    };
    window.clearTimeout = (id) => { waiting.delete(id); clearTimeout(id); };
    window.timersEnd = async () => {
        const begun = [...waiting];
        while (begun.some((id) => waiting.has(id))) await new Promise((resolve) => { setTimeout(resolve, 10); });
    };
})()"""
"""`timersEnd()`: when the short timers that run now have ended."""

ENGINES = ("server", pytest.param("page", marks=pytest.mark.slow))


class Explorer:
    """A page under test."""

    def __init__(self, page: Any, near: int) -> None:
        self.page, self.near = page, near

    def reset(self, state: dict[str, Any] | None = None) -> None:
        """Back to the start, or to a state by its address, also where that has not followed the last changes yet."""
        script = """async s => {
            const old = location.hash, changed = new Promise((resolve) => addEventListener("hashchange", resolve, {once: true}));
            location.hash = encodeURIComponent(JSON.stringify(s));
            if (location.hash === old) dispatchEvent(new HashChangeEvent("hashchange"));
            await changed;
        }"""
        self.page.evaluate(script, state or {})
        self.page.evaluate("window.getSelection().empty()")
        self.settle()

    def settle(self) -> None:
        """Waits until there is nothing left to compute."""
        self.page.evaluate("new Promise((come) => setTimeout(() => setTimeout(come)))")  # events on their way
        self.page.wait_for_selector("body[aria-busy=false]")

    def image(self, selector: str = "#stage canvas") -> np.ndarray:
        """What a canvas shows, uint8 `[H, W, 4]`."""
        self.settle()
        script = """c => [c.height, c.width, [...c.getContext("2d").getImageData(0, 0, c.width, c.height).data]]"""
        h, w, values = self.page.eval_on_selector(selector, script)
        return np.array(values, np.uint8).reshape(h, w, 4)

    def shows(self, expected: np.ndarray, selector: str = "#stage canvas") -> None:
        """Asserts that a canvas shows an image uint8 `[H, W, 3]`, to the rounding of the engine."""
        found = self.image(selector)[..., :3].astype(int)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= self.near

    def set(self, label: str, value: object) -> None:
        self.page.get_by_label(label, exact=True).fill(str(value))
        if isinstance(value, int):
            self.page.keyboard.press("Tab")

    def click(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def hears(self, text: str) -> None:
        """Waits until the status line says so."""
        self.page.locator("#status").filter(has_text=text).wait_for(timeout=150_000)

    @property
    def state(self) -> dict[str, Any]:
        self.page.evaluate("timersEnd()")  # the address follows after a moment
        return self.page.evaluate("() => JSON.parse(decodeURIComponent(location.hash.slice(1)) || '{}')")


def opened(browser: Any, address: str, near: int, *, width: int = 1280, **options: Any) -> Iterator[Explorer]:
    """A page with every panel open; at the end there must have been no error."""
    context = browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True, **options)
    context.add_init_script(TIMERS)
    page, wrong = context.new_page(), []
    page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: wrong.append(str(e)))
    if address.startswith("file:"):
        context.set_offline(True)
        page.on("request", lambda r: None if r.url.startswith(("file:", "blob:", "data:")) else wrong.append(r.url))
    page.goto(address)
    page.wait_for_selector("#stage canvas:not([aria-label='not made yet'])")
    page.evaluate("document.querySelectorAll('#panels details').forEach(d => { d.open = true })")
    explorer = Explorer(page, near)
    explorer.settle()
    yield explorer
    assert not page.evaluate("window.hurt || document.querySelector('s, body img')"), "a name was taken for HTML"
    context.close()
    assert wrong == []


@pytest.fixture(scope="module", params=ENGINES)
def address(request: pytest.FixtureRequest, serving: Callable[..., Any], network: Network) -> str:
    if request.param == "server":
        return serving([network]).address
    return request.getfixturevalue("page_file").as_uri()


@pytest.fixture(scope="module")
def explorer(browser: Any, address: str) -> Iterator[Explorer]:
    yield from opened(browser, address, near(address))


class Reference:
    """What frugan.latent makes of the same choices."""

    def __init__(self, network: Network) -> None:
        self.G = network.G
        self.directions = {d.name: d for d in network.directions}

    def w(self, seed: int, kind: int = 0) -> torch.Tensor:
        return self.G.mapping.features(self.G.latents([seed]), torch.eye(3)[[kind]])

    def seed(self, seed: int = 0, psi: float = 0.7, kind: int = 0, **edits: float) -> np.ndarray:
        chosen = [Edit(self.directions[name], strength) for name, strength in edits.items()]
        styles = apply_edits(self.G, self.G.latents([seed]), torch.eye(3)[[kind]], chosen, Truncation(psi))
        return self._pixels(self.G.synthesis.render(styles, noise="const"))

    def of_w(self, w: torch.Tensor, noise: Any = "const") -> np.ndarray:
        """From w before truncation, `[1, D]` or `[1, num_ws, D]`."""
        ws = w[:, None].repeat(1, self.G.num_ws, 1) if w.ndim == 2 else w
        return self._pixels(self.G.synthesis(Truncation(0.7)(self.G, ws), noise=noise))

    def drawn_noise(self, seed: int) -> np.ndarray:
        rng = np.random.RandomState(seed)
        shapes = [m.shape for m in self.G.synthesis.draw_noise(1, torch.Generator())]
        return self.of_w(self.w(0), [torch.from_numpy(rng.randn(*shape)).float() for shape in shapes])

    def mixed(self, levels: tuple[int, ...]) -> np.ndarray:
        ws, other = (self.w(seed)[:, None].repeat(1, self.G.num_ws, 1) for seed in (0, 1))
        ws[:, ws_of_levels(levels)] = other[:, ws_of_levels(levels)]
        return self.of_w(ws)

    def levels(self, psis: list[float]) -> np.ndarray:
        ws = self.w(0)[:, None].repeat(1, self.G.num_ws, 1)
        for level, psi in enumerate(psis):
            ws = Truncation(psi, (level,))(self.G, ws)
        return self._pixels(self.G.synthesis(ws, noise="const"))

    def pad(self, seeds: tuple[int, ...], x: float, y: float) -> np.ndarray:
        p, q, r, s = (self.w(seed) for seed in seeds)
        return self.of_w((p * (1 - x) + q * x) * (1 - y) + (r * (1 - x) + s * x) * y)

    def bred(self, steps: list[list[float]]) -> np.ndarray:
        w, mean = self.w(0), self.G.mapping.w_avg
        for n, t in steps:
            apart = self.w(2**31 + 2 * int(n)) - self.w(2**31 + 2 * int(n) + 1)
            w = mean + (1 - t * t) ** 0.5 * (w - mean) + t / 2**0.5 * apart
        return self.of_w(w)

    @staticmethod
    def _pixels(images: torch.Tensor) -> np.ndarray:
        return to_uint8(images)[0]


@pytest.fixture(scope="module")
def reference(network: Network) -> Reference:
    return Reference(network)


def labelled(explorer: Explorer, label: str, option: str) -> None:
    explorer.page.get_by_label(label, exact=True).select_option(label=option)


def framed(explorer: Explorer) -> None:
    for seed in (0, 7):
        explorer.set("Seed", seed)
        explorer.click("Add key frame")
    explorer.set("Time", 0.25)


def ticked(explorer: Explorer) -> None:
    explorer.page.get_by_label("4", exact=True).check()
    explorer.page.get_by_label("16", exact=True).check()


CORNERS = ("upper left", "upper right", "lower left", "lower right")
CONTROLS: dict[str, tuple[Callable[[Explorer], object], Callable[[Reference], np.ndarray]]] = {
    "start": (lambda e: None, lambda r: r.seed()),
    "seed typed": (lambda e: e.set("Seed", 4294967295), lambda r: r.seed(4294967295)),
    "next seed": (lambda e: e.click("Next seed"), lambda r: r.seed(1)),
    "seed of the grid": (lambda e: e.click("Seed 5"), lambda r: r.seed(5)),
    "later seeds": (lambda e: (e.click("Later seeds in the grid"), e.click("Seed 25")), lambda r: r.seed(25)),
    "first seed": (lambda e: (e.set("First seed", 100), e.click("Seed 123")), lambda r: r.seed(123)),
    "earlier seeds": (
        lambda e: (e.set("First seed", 30), e.click("Earlier seeds in the grid"), e.click("Seed 6")),
        lambda r: r.seed(6),
    ),
    "truncation": (lambda e: e.set("Truncation ψ", 1.2), lambda r: r.seed(psi=1.2)),
    "truncation of levels": (
        lambda e: (e.set("ψ of level 4", -0.5), e.set("ψ of level 16", 1.5)),
        lambda r: r.levels([-0.5, 0.7, 1.5]),
    ),
    "same truncation": (
        lambda e: (e.set("ψ of level 4", -0.5), e.click("Same ψ for all levels")),
        lambda r: r.seed(),
    ),
    "direction of w": (lambda e: e.set("smile", 2.4), lambda r: r.seed(smile=2.4)),
    "direction before truncation": (lambda e: e.set("early", -3), lambda r: r.seed(early=-3)),
    "direction of z": (lambda e: e.set("latent", 4), lambda r: r.seed(latent=4)),
    "direction of styles": (lambda e: e.set("channel", 3), lambda r: r.seed(channel=3)),
    "several directions": (
        lambda e: (e.set("smile", 1.5), e.set("latent", -2), e.set("channel", 1.5), e.set(HOSTILE, 0.5)),
        lambda r: r.seed(smile=1.5, latent=-2, channel=1.5, **{HOSTILE: 0.5}),
    ),
    "reset one": (lambda e: (e.set("smile", 1.5), e.click("Reset smile")), lambda r: r.seed()),
    "reset all but locked": (
        lambda e: (e.set("smile", 1.5), e.set("early", 1.5), e.click("Lock early"), e.click("Reset all")),
        lambda r: r.seed(early=1.5),
    ),
    "class": (lambda e: labelled(e, "First class", "dog"), lambda r: r.seed(kind=1)),
    "class of a hostile name": (lambda e: labelled(e, "First class", MARKED_UP), lambda r: r.seed(kind=2)),
    "class mixing": (
        lambda e: (labelled(e, "Second class", "dog"), e.set("Share of the second", 0.25)),
        lambda r: r.of_w(torch.lerp(r.w(0, 0), r.w(0, 1), 0.25)),
    ),
    "no noise": (lambda e: e.page.get_by_label("none", exact=True).check(), lambda r: r.of_w(r.w(0), "none")),
    "noise of a seed": (
        lambda e: (e.click("New noise"), e.set("Seed of the noise", 17)),
        lambda r: r.drawn_noise(17),
    ),
    "drawn noise": (
        lambda e: (e.page.get_by_label("drawn", exact=True).check(), e.set("Seed of the noise", 17)),
        lambda r: r.drawn_noise(17),
    ),
    "constant noise": (
        lambda e: (e.click("New noise"), e.page.get_by_label("constant", exact=True).check()),
        lambda r: r.seed(),
    ),
    "levels from B": (ticked, lambda r: r.mixed((0, 2))),
    "coarse from B": (lambda e: e.click("Coarse from B"), lambda r: r.mixed((0, 1))),
    "fine from B": (lambda e: e.click("Fine from B"), lambda r: r.mixed((2,))),
    "nothing from B": (lambda e: (e.click("Fine from B"), e.click("Nothing from B")), lambda r: r.seed()),
    "A and B swapped": (lambda e: e.click("Swap A and B"), lambda r: r.seed(1)),
    "seed of B": (
        lambda e: (e.set("Seed of B", 9), e.click("Swap A and B")),
        lambda r: r.seed(9),
    ),
    "current as B": (
        lambda e: (e.click("Seed 5"), e.click("Use current as B"), e.click("Seed 2"), e.click("Swap A and B")),
        lambda r: r.seed(5),
    ),
    "pad": (
        lambda e: (e.set("Left to right", 0.3), e.set("Top to bottom", 0.9), e.set("Seed lower left", 8)),
        lambda r: r.pad((0, 1, 8, 3), 0.3, 0.9),
    ),
    "corners": (
        lambda e: [e.set(f"Seed {corner}", 4 + i) for i, corner in enumerate(CORNERS)],
        lambda r: r.pad((4, 5, 6, 7), 0.5, 0.5),
    ),
    "scrubbing": (framed, lambda r: r.of_w(torch.lerp(r.w(0), r.w(7), 0.25))),
    "key frame": (
        lambda e: (framed(e), e.click("Key frame 2")),
        lambda r: r.seed(7),
    ),
    "undo": (lambda e: (e.click("Seed 3"), e.click("Seed 4"), e.click("Undo")), lambda r: r.seed(3)),
    "redo": (lambda e: (e.click("Seed 3"), e.click("Undo"), e.click("Redo")), lambda r: r.seed(3)),
    "undo by keys": (
        lambda e: (e.click("Seed 3"), e.click("Seed 4"), e.page.keyboard.press("Control+z")),
        lambda r: r.seed(3),
    ),
    "redo by keys": (
        lambda e: (e.click("Seed 3"), e.page.keyboard.press("Control+z"), e.page.keyboard.press("Control+Shift+z")),
        lambda r: r.seed(3),
    ),
}


@pytest.mark.parametrize("control", CONTROLS)
def test_controls(explorer: Explorer, reference: Reference, control: str) -> None:
    act, expected = CONTROLS[control]
    explorer.reset()
    act(explorer)
    explorer.shows(expected(reference))


@pytest.mark.parametrize("button", ["Random seed", "Random grid", "Random B", "Random corners", "Surprise me"])
def test_chance(explorer: Explorer, button: str) -> None:
    """Each press brings something else, which the address holds."""
    explorer.reset()
    states = []
    for _ in range(6):
        explorer.click(button)
        explorer.settle()
        states.append(json.dumps(explorer.state))
    assert len(set(states)) > 3


def test_breeding(explorer: Explorer, reference: Reference) -> None:
    explorer.reset()
    explorer.set("Distance", 0.8)
    explorer.settle()
    child = explorer.image("[aria-label='children'] button:nth-child(3) canvas")
    explorer.click("Child 3")
    assert np.abs(explorer.image().astype(int) - child).max() <= 1  # it is the one that was shown
    explorer.click("Child 1")
    steps = explorer.state["a"]["steps"]
    assert [t for _, t in steps] == [0.8, 0.8]
    explorer.shows(reference.bred(steps))
    before = explorer.image("[aria-label='children'] button:nth-child(3) canvas")
    explorer.click("Other children")
    assert not np.array_equal(before, explorer.image("[aria-label='children'] button:nth-child(3) canvas"))
    explorer.click("Back to the parent")
    explorer.shows(reference.bred(steps[:1]))


def test_the_pad_follows_the_pointer(explorer: Explorer, reference: Reference) -> None:
    explorer.reset()
    explorer.page.locator(".pad").scroll_into_view_if_needed()
    box = explorer.page.locator(".pad").bounding_box()
    explorer.page.mouse.move(box["x"] + 10, box["y"] + 10)
    explorer.page.mouse.down()
    explorer.page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"], steps=5)
    explorer.page.mouse.move(box["x"] + 2 * box["width"], box["y"] + 0.5 * box["height"])
    explorer.page.mouse.up()
    pad = explorer.state["a"]["pad"]
    assert pad["x"] == 1
    assert pad["y"] == pytest.approx(0.5, abs=0.02)
    explorer.shows(reference.pad((0, 1, 2, 3), 1, pad["y"]))


def test_search(explorer: Explorer) -> None:
    explorer.reset()
    explorer.page.get_by_label("Search directions").fill("EAR")
    assert explorer.page.locator(".slider:visible label").get_by_text("early").count() == 1
    assert not explorer.page.get_by_label("smile", exact=True).is_visible()
    explorer.page.get_by_label("Search directions").fill("")
    assert explorer.page.get_by_label("smile", exact=True).is_visible()


def test_a_locked_slider_stays(explorer: Explorer) -> None:
    explorer.reset()
    explorer.set("early", 1.5)
    explorer.click("Lock early")
    for _ in range(3):
        explorer.click("Surprise me")
    assert explorer.state["edits"]["early"] == 1.5
    assert explorer.page.get_by_label("early", exact=True).is_disabled()


def test_sliders_have_the_ranges_of_their_directions(explorer: Explorer, network: Network) -> None:
    for direction in network.directions:
        slider = explorer.page.get_by_label(direction.name, exact=True)
        assert (float(slider.get_attribute("min")), float(slider.get_attribute("max"))) == direction.slider


def test_the_address_restores_everything(explorer: Explorer) -> None:
    explorer.reset()
    for control in ("truncation of levels", "several directions", "class mixing", "noise of a seed", "levels from B"):
        CONTROLS[control][0](explorer)
    explorer.click("Child 2")
    explorer.click("Add key frame")
    before, address = explorer.image(), explorer.state
    explorer.reset()
    assert not np.array_equal(explorer.image(), before)
    explorer.reset(address)
    assert explorer.state == address
    assert np.array_equal(explorer.image(), before)


@pytest.mark.parametrize("state", [
    {"psi": 1e300, "a": {"seed": -5}, "edits": {"smile": "x", "__proto__": 3, "nonsense": 1}},
    {"a": {"pad": {"seeds": [1]}}, "frames": [1, None, {"a": 3}], "time": 99, "mixed": [7, -1, "a"]},
    {"a": {"code": HOSTILE}, "noise": HOSTILE, "label": [HOSTILE, 1, 2], "psis": [1, 2]},
    [], "text", 5,
])  # fmt: skip
def test_a_damaged_or_hostile_address(explorer: Explorer, state: Any) -> None:
    explorer.reset(state)
    assert explorer.image().any()
    explorer.page.evaluate("location.hash = '#%E0%A4%A'")
    explorer.settle()


def saved(explorer: Explorer, button: str) -> tuple[str, bytes]:
    with explorer.page.expect_download() as waiting:
        explorer.click(button)
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def test_save_png(explorer: Explorer, reference: Reference) -> None:
    explorer.reset()
    explorer.set("smile", 2.4)
    name, content = saved(explorer, "Save PNG")
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode == "RGB"
        assert is_own_output(image.text)
        assert np.abs(np.asarray(image).astype(int) - reference.seed(smile=2.4)).max() <= explorer.near
    assert name.startswith("seed-0")


def test_save_and_open_a_code(explorer: Explorer, network: Network, tmp_path: Path) -> None:
    explorer.reset()
    for label, value in (("smile", 1.5), ("channel", 2.4)):
        explorer.set(label, value)
    before = explorer.image()
    name, content = saved(explorer, "Save code")
    code = safetensors.torch.load(content)
    made = to_uint8(network.render(code["ws"][None], code["offset"][None]))[0]
    (tmp_path / name).write_bytes(content)
    loaded = load_code(tmp_path / name)  # as frugan project writes them
    loaded.check(network.G)
    assert torch.equal(loaded.ws, code["ws"])
    assert loaded.c is not None
    assert loaded.c.tolist() == [1, 0, 0]
    assert np.abs(made.astype(int) - before[..., :3]).max() <= explorer.near
    explorer.reset()
    explorer.page.get_by_label("Open a code").set_input_files(tmp_path / name)
    explorer.hears("code is open")
    assert np.abs(explorer.image().astype(int) - before).max() <= explorer.near
    (tmp_path / "zip.safetensors").write_bytes(b"PK\3\4" * 100)
    explorer.page.get_by_label("Open a code").set_input_files(tmp_path / "zip.safetensors")
    explorer.hears("cannot be opened")


def test_save_an_edit_as_a_direction(explorer: Explorer, reference: Reference, tmp_path: Path) -> None:
    """The zip unpacks to a folder as `frugan directions` writes it; strength 1 is what the sliders did."""
    explorer.reset()
    for label, value in (("smile", 1.5), (HOSTILE, 0.5)):
        explorer.set(label, value)
    explorer.page.get_by_label("Name of the direction").fill("both")
    _, content = saved(explorer, "Save edit as direction")
    zipfile.ZipFile(io.BytesIO(content)).extractall(tmp_path)
    reference.directions["both"] = find_direction(f"{tmp_path / 'both'}:both")
    reference.directions["both"].check(reference.G)
    expected, found = reference.seed(smile=1.5, **{HOSTILE: 0.5}), reference.seed(both=1)
    assert np.abs(expected.astype(int) - found).max() <= 1
    explorer.reset()
    explorer.click("Save edit as direction")
    assert "no edit" in explorer.page.inner_text("#status")


def test_save_video(explorer: Explorer) -> None:
    explorer.reset()
    framed(explorer)
    explorer.set("Seconds between frames", 0.5)
    name, content = saved(explorer, "Save video")
    assert name in ("frames.webm", "frames.mp4")
    assert content[:4] == b"\x1a\x45\xdf\xa3" or content[4:8] == b"ftyp"
    assert len(content) > 1000
    explorer.set("Seconds between frames", 10)
    explorer.click("Save video")
    explorer.hears("of 241 images")
    panel = explorer.page.locator("details", has=explorer.page.get_by_role("heading", name="Key frames"))
    panel.get_by_role("button", name="Stop").click()
    panel.get_by_role("button", name="Save video").wait_for()


def test_every_control_has_a_name_and_can_be_reached_by_keyboard(explorer: Explorer) -> None:
    explorer.reset()
    controls = "button, input, select, summary"
    nameless = explorer.page.evaluate(
        """s => [...document.querySelectorAll(s)].filter(e => !(e.labels?.length || e.ariaLabel || e.textContent.trim()
           || e.closest("label"))).map(e => e.outerHTML)""",
        controls,
    )
    assert nameless == []
    enabled = explorer.page.evaluate(
        "s => [...document.querySelectorAll(s)].filter(e => !e.disabled && e.tabIndex < 0).map(e => e.outerHTML)",
        controls,
    )
    assert enabled == []
    label = explorer.page.locator("#stage canvas").get_attribute("aria-label")
    assert label.startswith("seed 0 · cat · truncation 0.7")
    explorer.page.get_by_label("smile", exact=True).focus()
    explorer.page.keyboard.press("ArrowRight")
    explorer.settle()
    assert "smile +" in explorer.page.locator("#stage canvas").get_attribute("aria-label")
    assert explorer.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_images_of_the_newest_state_win(explorer: Explorer, reference: Reference) -> None:
    """A burst of changes ends with the last one's image."""
    explorer.reset()
    explorer.page.evaluate(
        """() => { const s = [...document.querySelectorAll("label")].find(l => l.textContent === "smile").control;
           for (let i = -3; i <= 2.4; i += 0.03) { s.value = i; s.dispatchEvent(new Event("input")); }
           s.value = 2.4; s.dispatchEvent(new Event("input")); s.dispatchEvent(new Event("change")); }"""
    )
    explorer.shows(reference.seed(smile=2.4))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow(browser: Any, address: str, scheme: str) -> None:
    """At 380 pixels nothing is cut off, in both colour schemes; without motion where that is asked for."""
    for explorer in opened(browser, address, near(address), width=380, color_scheme=scheme, reduced_motion="reduce"):
        wide = explorer.page.evaluate(
            """() => [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1
               && getComputedStyle(e).display !== "none").map(e => e.outerHTML.slice(0, 80))"""
        )
        assert wide == []
        paper = explorer.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, paper[4:-1].split(","))) < 64) == (scheme == "dark")
        assert explorer.page.evaluate("getComputedStyle(document.querySelector('button')).transitionDuration") == "0s"


@pytest.mark.slow
def test_a_page_in_a_folder(
    browser: Any,
    page_file: Path,
    network: Network,
    onnx: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a page above the limit is written as opens from disk in the same way."""
    from frugan.explorer import export
    from frugan.explorer.runtime import read_runtime

    assert page_file.is_file()  # the runtime is at hand
    monkeypatch.setattr(export, "onnx_parts", lambda _: onnx)
    monkeypatch.setattr(export, "LARGEST_FILE", 1000)
    runtime = read_runtime(os.environ.get("FRUGAN_TEST_RUNTIME"))
    done = export.export_page(tmp_path / "x.html", [network], runtime)
    assert done.page.name == "index.html"
    for explorer in opened(browser, done.page.as_uri(), NEAR["page"]):
        explorer.click("Seed 5")
        explorer.shows(Reference(network).seed(5))


@pytest.fixture(scope="module")
def other() -> Network:
    return make_network("other", seed=3)


@pytest.fixture(scope="module", params=ENGINES)
def pair(request: pytest.FixtureRequest, serving: Callable[..., Any], network: Network, other: Network) -> str:
    """The address of a page with two networks."""
    if request.param == "server":
        return serving([network, other]).address
    from frugan.explorer.export import onnx_parts

    parts = {network: request.getfixturevalue("onnx"), other: onnx_parts(other)}
    folder = request.getfixturevalue("tmp_path_factory").mktemp("pair")
    return exported(folder / "page.html", parts).as_uri()


def test_two_networks_side_by_side(browser: Any, pair: str, network: Network, other: Network) -> None:
    for explorer in opened(browser, pair, near(pair)):
        explorer.click("Seed 5")
        explorer.shows(Reference(network).seed(5), "figure:nth-of-type(1) canvas")
        explorer.shows(Reference(other).seed(5), "figure:nth-of-type(2) canvas")
        explorer.set("smile", 1.5)
        explorer.shows(Reference(other).seed(5, smile=1.5), "figure:nth-of-type(2) canvas")


def test_a_second_network_of_another_shape(browser: Any, serving: Callable[..., Any], network: Network) -> None:
    """It shows the same seeds at its own size and label; a code of the first is none of its own, and it says so."""
    from tests.latent.conftest import make_generator

    G = make_generator((8, 8), channels=1)
    for explorer in opened(browser, serving([network, Network("small", G)]).address, NEAR["server"]):
        explorer.click("Seed 5")
        for act in (ticked, lambda e: labelled(e, "First class", "dog"), lambda e: e.set("ψ of level 16", 0.1)):
            act(explorer)
        explorer.reset({"a": {"seed": 5}})
        (expected,) = to_uint8(G.sample([5], truncation=0.7))
        explorer.shows(expected.repeat(3, axis=-1), "figure:nth-of-type(2) canvas")
        _, content = saved(explorer, "Save code")
        explorer.page.get_by_label("Open a code").set_input_files(
            {"name": "a.safetensors", "mimeType": "", "buffer": content}
        )
        explorer.hears("small has other ws than the code a.safetensors")
        explorer.shows(Reference(network).seed(5), "figure:nth-of-type(1) canvas")


def test_a_code_keeps_its_noise(explorer: Explorer, network: Network, tmp_path: Path) -> None:
    explorer.reset({"noise": 17})
    name, content = saved(explorer, "Save code")
    (tmp_path / name).write_bytes(content)
    code = load_code(tmp_path / name)
    made = network.G.synthesis(code.ws[None], noise=[m[None] for m in code.noise])
    shown = explorer.image()
    assert np.abs(to_uint8(made)[0].astype(int) - shown[..., :3]).max() <= explorer.near
    explorer.reset()
    explorer.page.get_by_label("Open a code").set_input_files(tmp_path / name)
    explorer.hears("code is open")
    assert explorer.state["noise"] == 17
    assert np.abs(explorer.image().astype(int) - shown).max() <= explorer.near


def test_an_upload_that_is_refused(browser: Any, serving: Callable[..., Any], network: Network, tmp_path: Path) -> None:
    """A sentence on the page, and nothing on the console."""
    (tmp_path / "zip.png").write_bytes(b"PK\3\4" * 9)
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(33 << 20)
    for explorer in opened(browser, serving([network]).address, NEAR["server"]):
        before = explorer.image()
        panel = explorer.page.locator("details", has=explorer.page.get_by_role("heading", name="Own image"))
        for name, reason in (("zip.png", "cannot be read as an image"), ("large.png", "large.png has more than 32 MB")):
            explorer.page.get_by_label("Image to project").set_input_files(tmp_path / name)
            panel.get_by_text(reason).wait_for()
        assert np.array_equal(explorer.image(), before)


@pytest.mark.parametrize("space", ["w: edits best", "s: moves styles too"])
def test_an_own_image_is_projected(
    space: str,
    browser: Any,
    serving: Callable[..., Any],
    network: Network,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from frugan.explorer import fitting
    from frugan.latent.fitting import open_distance
    from frugan.latent.projection import ProjectionConfig

    monkeypatch.setattr(fitting, "ProjectionConfig", lambda space: ProjectionConfig(space, steps_w=60, steps=10))
    pixels = open_distance("pixels")
    monkeypatch.setattr(fitting, "open_distance", lambda *_: pixels)
    Image.fromarray(to_uint8(network.G.sample([3], c=torch.eye(3)[0]))[0]).save(tmp_path / f"{MARKED_UP[:3]}own.png")
    for explorer in opened(browser, serving([network]).address, NEAR["server"]):
        before = explorer.image()
        labelled(explorer, "Space", space)
        explorer.page.get_by_label("Image to project").set_input_files(tmp_path / f"{MARKED_UP[:3]}own.png")
        explorer.hears("new code")
        shown = explorer.image("[aria-label='projection so far']")
        assert np.abs(explorer.image().astype(int) - shown).max() <= 1
        _, content = saved(explorer, "Save code")
        assert ("offset" in safetensors.torch.load(content)) == space.startswith("s")
        assert not np.array_equal(explorer.image(), before)
        assert "code <s>own.png" in explorer.page.locator("#stage canvas").get_attribute("aria-label")
        explorer.set("smile", 1.5)
        assert not np.array_equal(explorer.image(), before)


def test_points_are_dragged(
    browser: Any, serving: Callable[..., Any], network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    from frugan.explorer import fitting
    from frugan.latent.drag import DragConfig

    monkeypatch.setattr(fitting, "DragConfig", lambda: DragConfig(steps=5))
    for explorer in opened(browser, serving([network]).address, NEAR["server"]):
        before = explorer.image()
        explorer.click("Pick on the image")
        explorer.page.evaluate("scrollTo(0, 0)")
        box = explorer.page.locator("#stage canvas").bounding_box()
        for x in (0.3, 0.7):
            explorer.page.mouse.click(box["x"] + x * box["width"], box["y"] + 0.53 * box["height"])
        values = [explorer.page.get_by_label(f"{end} of point 1").input_value() for end in ("From x", "From y", "To x")]
        assert values == ["4", "8", "11"]
        explorer.click("Add a point")
        explorer.click("Remove point 2")
        explorer.click("Remove all points")
        assert explorer.page.get_by_role("button", name="Drag", exact=True).is_disabled()
        explorer.click("Add a point")
        for label, value in zip(("From x", "From y", "To x", "To y"), (4, 8, 11, 8)):
            explorer.set(f"{label} of point 1", value)
        explorer.click("Drag")
        explorer.hears("new code")
        assert not np.array_equal(explorer.image(), before)


def test_words(browser: Any, serving: Callable[..., Any], text_model: JointModel) -> None:
    """An edit by words is a slider that moves the current image towards them, and a link restores it; seeds are found by words."""
    network = make_network()
    reference, address = Reference(network), serving([network], text_model=text_model).address
    text = prompt_vector(text_model, "dark")

    def similarity(image: np.ndarray) -> float:
        pixels = torch.from_numpy(image[..., :3].copy()).permute(2, 0, 1)[None] / 127.5 - 1
        return float(text_model.images(pixels) @ text)

    for explorer in opened(browser, address, NEAR["server"]):
        explorer.click("Seed 5")
        before = explorer.image()
        explorer.page.get_by_label("What the image is to show").fill("cat")
        explorer.click("Edit by words")
        explorer.page.get_by_text("has never seen the word").wait_for()
        explorer.page.get_by_label("What the image is to show").fill("dark")
        explorer.page.keyboard.press("Enter")
        explorer.hears("“dark” has a slider")
        after, state = explorer.image(), explorer.state
        assert similarity(after) > similarity(before) + 0.001
        reference.directions["dark"] = network.directions[-1]
        explorer.shows(reference.seed(5, dark=state["edits"]["dark"]))
        explorer.set("dark", 0)
        explorer.shows(reference.seed(5))
        explorer.reset()
        explorer.set("Seeds to look at", 40)
        explorer.click("Find seeds")
        first = explorer.page.locator("[aria-label='seeds that fit the text'] button").first
        first.wait_for()
        expected = find_seeds(network.G, text_model, text, range(40), c=torch.eye(3)[0], truncation=Truncation(0.7))
        assert first.get_attribute("aria-label").startswith(f"Seed {expected[0].seed},")
        shown = explorer.image("[aria-label='seeds that fit the text'] button canvas")
        first.click()
        assert np.abs(explorer.image().astype(int) - shown).max() <= 1
        explorer.shows(reference.seed(expected[0].seed))
    for explorer in opened(browser, f"{address}#{quote(json.dumps(state))}", NEAR["server"]):
        assert np.array_equal(explorer.image(), after)


def test_no_words_without_a_model(explorer: Explorer) -> None:
    assert explorer.page.get_by_label("What the image is to show").count() == 0


def test_an_edit_by_words_can_be_stopped(browser: Any, serving: Callable[..., Any], text_model: JointModel) -> None:
    for explorer in opened(browser, serving([make_network()], text_model=text_model).address, NEAR["server"]):
        explorer.page.get_by_label("What the image is to show").fill("dark")
        explorer.set("Seeds to look at", 10000)
        explorer.click("Find seeds")
        panel = explorer.page.locator("details", has=explorer.page.get_by_role("heading", name="Words"))
        panel.get_by_text("running: seeds").wait_for()
        panel.get_by_role("button", name="Stop").click()
        panel.get_by_text("cancelled").wait_for()
        assert panel.get_by_role("button", name="Stop").is_disabled()


def test_is_it_a_copy(browser: Any, serving: Callable[..., Any], network: Network, tmp_path: Path) -> None:
    """An image that was trained on finds itself, and the page says how near it is."""
    pytest.importorskip("efficientnet_lite_pytorch")
    from frugan.data import DataConfig, open_dataset
    from frugan.explorer.copies import TrainingImages

    reference, rng = Reference(network), np.random.default_rng(0)
    for i, pixels in enumerate([*rng.integers(0, 256, (11, 16, 16, 3), np.uint8), reference.seed(5)]):
        Image.fromarray(pixels).save(tmp_path / f"{i:02d}{MARKED_UP[:3] if i == 11 else ''}.png")
    images = TrainingImages(open_dataset(DataConfig(str(tmp_path))))
    known = Network("known", network.G, network.directions, network.class_names, training_images=lambda: images)
    for explorer in opened(browser, serving([known]).address, NEAR["server"]):
        explorer.click("Seed 5")
        explorer.click("Find the nearest training images")
        nearest = explorer.page.locator("[aria-label='nearest training images'] figure")
        nearest.first.wait_for()
        assert nearest.count() == 6
        assert f"11{MARKED_UP[:3]}.png" in nearest.first.inner_text()
        explorer.shows(reference.seed(5), "[aria-label='nearest training images'] canvas")
        explorer.page.get_by_text("That is very near: compare the two.").wait_for()


def test_key_frames_are_removed(explorer: Explorer) -> None:
    explorer.reset()
    framed(explorer)
    explorer.click("Remove key frame 1")
    assert [frame["a"] for frame in explorer.state["frames"]] == [{"seed": 7}]
    assert explorer.page.get_by_label("Time", exact=True).is_disabled()
    assert explorer.page.get_by_role("button", name="Save video").is_disabled()


def test_the_link_is_copied_or_shown(explorer: Explorer) -> None:
    explorer.reset()
    explorer.click("Copy link")
    explorer.hears("link")


def test_an_image_that_is_dropped_is_projected_paused_and_stopped(
    browser: Any, serving: Callable[..., Any], network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    from frugan.explorer import fitting
    from frugan.latent.fitting import open_distance
    from frugan.latent.projection import ProjectionConfig

    spaces: list[str] = []
    many = lambda space: spaces.append(space) or ProjectionConfig(space, steps_w=100_000)  # noqa: E731
    monkeypatch.setattr(fitting, "ProjectionConfig", many)
    pixels = open_distance("pixels")
    monkeypatch.setattr(fitting, "open_distance", lambda *_: pixels)
    made = io.BytesIO()
    Image.fromarray(to_uint8(network.G.sample([3], c=torch.eye(3)[0]))[0]).save(made, "PNG")
    for explorer in opened(browser, serving([network]).address, NEAR["server"]):
        before = explorer.image()
        labelled(explorer, "Space", "w+: fits closer")
        explorer.page.evaluate(
            """content => { const given = new DataTransfer();
               given.items.add(new File([new Uint8Array(content)], "own.png", {type: "image/png"}));
               document.querySelector("h1").dispatchEvent(new DragEvent("drop", {dataTransfer: given, bubbles: true})); }""",
            list(made.getvalue()),
        )
        panel = explorer.page.locator("details", has=explorer.page.get_by_role("heading", name="Own image"))
        panel.get_by_text("running: w,").wait_for()
        panel.get_by_role("button", name="Pause").click()
        panel.get_by_text("paused:").wait_for()
        assert float(panel.locator("progress").get_attribute("value")) < 1
        readings = [""]
        while (
            len(readings) < 20 and panel.locator("p").inner_text() != readings[-1]
        ):  # the step at hand is finished first
            readings.append(panel.locator("p").inner_text())
            explorer.page.wait_for_timeout(900)
        assert len(readings) < 20
        panel.get_by_role("button", name="Resume").click()
        panel.get_by_text("running: w,").wait_for()
        panel.get_by_role("button", name="Stop").click()
        panel.get_by_text("cancelled").wait_for()
        assert spaces == ["w+"]
        assert np.array_equal(explorer.image(), before)


FORMATS = [
    (1, PixelFormat("uint16", ((100, 3000),))),
    (3, PixelFormat("uint16", ((100, 3000), (0, 99), (5, 60000)))),
    (4, PixelFormat("uint16", alpha=True, crisp=True)),
    (5, PixelFormat("float32", ((-3.5, 12.25),))),
    (2, PixelFormat("int16", ((-1024, 3071),))),
]


@pytest.mark.parametrize(("channels", "pixels"), FORMATS, ids=[f"{c}-{pixels.dtype}" for c, pixels in FORMATS])
def test_saved_images_have_the_numbers_of_the_data(
    channels: int, pixels: PixelFormat, browser: Any, serving: Callable[..., Any]
) -> None:
    """Depth, channels, range and opacity: of a PNG where it holds them, else of the array."""
    from tests.latent.conftest import make_generator

    G = make_generator((16, 16), channels=channels)
    G.config = replace(G.config, pixels=pixels)
    output = choose_output(pixels, channels)
    for explorer in opened(browser, serving([Network("any", G)]).address, 1):
        (expected,) = output.values(G.sample([0], truncation=0.7))
        if output.kind == "png":
            _, content = saved(explorer, "Save PNG")
            found = imagecodecs.png_decode(content).reshape(16, 16, -1)
        else:
            _, content = saved(explorer, "Save all as .npy")
            found = np.load(io.BytesIO(content))
            explorer_png = imagecodecs.png_decode(saved(explorer, "Save PNG")[1]).reshape(16, 16, -1)
            assert (explorer_png.dtype, explorer_png.shape[-1]) == (np.uint16, 1 if channels == 2 else 3)
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        unit = max(hi - lo for lo, hi in pixels.value_range or ((0, 65535),)) / 65535
        assert np.abs(found.astype(float) - expected).max() <= max(1 if found.dtype.kind != "f" else 0, unit)


@pytest.mark.parametrize("size", [(24, 24), (24, 48), (48, 12), (200, 90)])
def test_the_pads_corners_show_whole_images(browser: Any, size: tuple[int, int]) -> None:
    """Of any shape: as large as a quarter of the pad's side lets them be, in their corner."""
    import frugan.explorer

    width, height = size
    style = (Path(frugan.explorer.__file__).parent / "assets" / "explorer.css").read_text("utf-8")
    page = browser.new_page(viewport={"width": 400, "height": 400})
    canvas = f"<canvas width={width} height={height}></canvas>"
    page.set_content(
        f"<style>{style}</style><div class=pad style='background: #fff; border-radius: 0'>{canvas * 4}</div>"
    )
    page.evaluate(
        "document.querySelectorAll('canvas').forEach((c) => { const d = c.getContext('2d'); d.fillStyle = '#f00'; "
        "d.fillRect(0, 0, c.width, c.height); })"
    )
    shot = np.asarray(Image.open(io.BytesIO(page.locator(".pad").screenshot())).convert("RGB")).astype(int)
    page.close()
    red = ((shot[..., 0] > 200) & (shot[..., 1] < 60))[1:-1, 1:-1]  # within the border
    side = len(red) / 4
    w, h = side * min(1, width / height), side * min(1, height / width)
    for corner in (red, red[:, ::-1], red[::-1], red[::-1, ::-1]):
        shown = corner[: len(red) // 2, : len(red) // 2]
        rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
        assert max(rows[0], columns[0]) <= 1
        assert abs(len(rows) - h) <= 2
        assert abs(len(columns) - w) <= 2
