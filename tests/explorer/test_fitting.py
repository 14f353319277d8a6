"""Uploads within bounds, and projections that can be watched, paused and stopped."""

from __future__ import annotations

import base64
import io
import json
import struct
import tempfile
import threading
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import torch
from PIL import Image

from frugan.errors import FruganError
from frugan.explorer import fitting as module
from frugan.explorer.fitting import Fit, read_upload, start_projection
from frugan.explorer.network import Network
from frugan.explorer.server import Place
from frugan.images import to_uint8
from frugan.latent.edit import Truncation
from frugan.latent.projection import ProjectionConfig
from frugan.latent.text import JointModel, prompt_vector
from frugan.latent.text.search import find_seeds
from tests.explorer.conftest import make_network
from tests.explorer.test_server import ask


def png(pixels: np.ndarray) -> bytes:
    made = io.BytesIO()
    Image.fromarray(pixels).save(made, "PNG")
    return made.getvalue()


def claims(width: int, height: int) -> bytes:
    """A PNG of few bytes whose header says that it is large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def a_zip() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("a.png", bytes(1000))
    return made.getvalue()


HOSTILE_UPLOADS = {
    "10,000 x 10,000": claims(10_000, 10_000),
    "largest": claims(2**31 - 1, 2**31 - 1),
    "a zip named .png": a_zip(),
    "half": png(np.zeros((64, 64, 3), np.uint8))[:60],
    "empty": b"",
    "a page": b"<html><script>alert(1)</script></html>",
    "a vector image": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ProjectionConfig", lambda space: ProjectionConfig(space, steps_w=40, steps=20))
    monkeypatch.setattr(module, "open_distance", lambda *_: module_distance())
    monkeypatch.setattr(module, "FORGOTTEN", 600)


def module_distance() -> Any:
    from frugan.latent.fitting import open_distance

    return open_distance("pixels")


@pytest.fixture(scope="module")
def place(serving: Callable[..., Place], network: Network) -> Place:
    return serving([network])


def told(place: Place, what: str) -> Any:
    status, content, _ = ask(place, f"/fit/{what}", b"")
    assert status == 200, content
    return json.loads(content)


def until(place: Place, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    end = time.monotonic() + 240
    while not wanted(found := told(place, "state")):
        assert time.monotonic() < end, found
        time.sleep(0.02)
    return found


def refused(place: Place, path: str, body: bytes) -> str:
    """The sentence of a refusal, which is an answer to a browser, not an error that it would log."""
    status, content, headers = ask(place, path, body)
    assert (status, headers.get("x-refused")) == (200, "1")
    return content.decode()


@pytest.fixture
def own_image(network: Network) -> bytes:
    image = network.G.sample([11], c=torch.eye(3)[0], truncation=0.6)
    return png(to_uint8(image)[0].repeat(2, axis=0).repeat(2, axis=1))


@pytest.mark.parametrize("kind", HOSTILE_UPLOADS)
def test_hostile_uploads(place: Place, network: Network, kind: str) -> None:
    content = refused(place, "/project", HOSTILE_UPLOADS[kind])
    assert "Traceback" not in content
    assert tempfile.gettempdir() not in content
    with pytest.raises(FruganError):
        read_upload(HOSTILE_UPLOADS[kind], network.G)


def test_an_upload_that_is_too_large(place: Place) -> None:
    assert ask(place, "/project", b"", **{"Content-Length": str(33 << 20)})[0] == 413
    assert ask(place, "/project?space=q", b"x")[0] == 400


def test_a_projection_from_start_to_end(
    place: Place, network: Network, own_image: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes nearer, tells how far it is, and its code makes the image that it shows."""
    distances, report = [], Fit.report

    def noted(fit: Fit, rung: str, step: int, steps: int, distance: float, image: torch.Tensor) -> None:
        distances.append(distance)
        report(fit, rung, step, steps, distance, image)

    monkeypatch.setattr(Fit, "report", noted)
    status, content, _ = ask(place, "/project?space=w", own_image)
    assert (status, json.loads(content)["state"]) == (200, "running")
    assert "reduced" in json.loads(content)["notes"][0]
    last = until(place, lambda found: found["state"] != "running")
    assert last["state"] == "done"
    assert last["steps"] == 40
    assert last["distance"] < distances[0]
    _, values, _ = ask(place, "/fit/code", b"")
    ws = torch.from_numpy(np.frombuffer(values, "<f4").copy()).view(1, network.G.num_ws, network.G.w_dim)
    _, pixels, headers = ask(place, "/fit/image", b"")
    assert headers["x-shape"] == "1,16,16,3"
    made = to_uint8(network.render(ws, None))
    assert np.abs(np.frombuffer(pixels, np.uint8).reshape(made.shape).astype(int) - made).max() <= 1


def test_a_projection_to_styles(place: Place, network: Network, own_image: bytes) -> None:
    """Its code is ws and an offset of styles, which together make the image that it shows."""
    assert ask(place, "/project?space=s", own_image)[0] == 200
    assert until(place, lambda found: found["state"] != "running")["state"] == "done"
    values = torch.from_numpy(np.frombuffer(ask(place, "/fit/code", b"")[1], "<f4").copy())
    ws, offset = values.split([network.G.num_ws * network.G.w_dim, network.facts()["style_size"]])
    assert offset.any()
    _, pixels, _ = ask(place, "/fit/image", b"")
    made = to_uint8(network.render(ws.view(1, network.G.num_ws, -1), offset[None]))
    assert np.abs(np.frombuffer(pixels, np.uint8).reshape(made.shape).astype(int) - made).max() <= 1


def test_pause_resume_and_stop(place: Place, own_image: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ProjectionConfig", lambda space: ProjectionConfig(space, steps_w=100_000))
    looks: list[tuple[str, int]] = []
    monkeypatch.setattr(Fit, "_look", lambda fit, look=Fit._look: (looks.append((fit.state, fit.step)), look(fit)))
    assert ask(place, "/project?space=w", own_image)[0] == 200
    until(place, lambda found: found["step"] > 2)
    assert told(place, "pause")["state"] == "paused"
    until(place, lambda _: sum(state == "paused" for state, _ in looks) > 4)
    step = told(place, "state")["step"]
    assert looks[-4:] == [("paused", step)] * 4  # the first one may be of the step before
    assert "another one is under way" in refused(place, "/project", own_image)
    body = bytes(4 * 6 * 12)
    assert ask(place, "/render?n=1", body)[0] == 200  # others are served meanwhile
    assert told(place, "resume")["state"] == "running"
    until(place, lambda found: found["step"] > step)
    assert ask(place, "/render?n=1", body)[0] == 200
    assert told(place, "cancel")["state"] == "cancelled"
    assert ask(place, "/project?space=w", own_image)[0] == 200
    told(place, "cancel")


def test_a_fit_of_another_page_is_not_taken_for_the_own(
    place: Place, own_image: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ProjectionConfig", lambda space: ProjectionConfig(space, steps_w=100_000))
    first = json.loads(ask(place, "/project?space=w", own_image)[1])["number"]
    assert "ends within 20 seconds" in refused(place, "/project?space=w", own_image)
    assert told(place, f"state?fit={first}")["number"] == first
    assert told(place, f"cancel?fit={first}")["state"] == "cancelled"
    second = json.loads(ask(place, "/project?space=w", own_image)[1])["number"]
    for what in ("state", "code", "cancel"):
        assert "another fit was begun" in refused(place, f"/fit/{what}?fit={first}", b"")
    assert told(place, f"state?fit={second}")["state"] == "running"
    told(place, "cancel")


def test_a_projection_that_nobody_asks_after_ends(
    network: Network, own_image: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FORGOTTEN", 0.2)
    monkeypatch.setattr(module, "ProjectionConfig", lambda space: ProjectionConfig(space, steps_w=100_000))
    going = start_projection(network.G, read_upload(own_image, network.G), "w", threading.Lock())
    going.join()
    assert going.state == "cancelled"


def test_dragging(place: Place, network: Network) -> None:
    """The handle comes nearer to its target, or arrives; the image is that of the code."""
    ws = network.map(network.G.latents([2]), torch.eye(3)[[0]])[:, None].repeat(1, network.G.num_ws, 1)
    points = torch.tensor([[4.0, 8.0], [9.0, 8.0]])
    body = ws.numpy().astype("<f4").tobytes() + points.numpy().astype("<f4").tobytes()
    status, content, _ = ask(place, "/drag?points=1", body)
    assert (status, json.loads(content)["state"]) == (200, "running")
    until(place, lambda found: found["step"] >= 10 or found["state"] == "done")
    told(place, "cancel")
    until(place, lambda found: found["state"] in ("cancelled", "done"))
    _, values, _ = ask(place, "/fit/code", b"")
    moved = torch.from_numpy(np.frombuffer(values, "<f4").copy()).view_as(ws)
    assert not torch.equal(moved, ws)
    _, pixels, _ = ask(place, "/fit/image", b"")
    made = to_uint8(network.render(moved, None))
    assert np.abs(np.frombuffer(pixels, np.uint8).reshape(made.shape).astype(int) - made).max() <= 1


@pytest.mark.parametrize("points", [[[4.0, 8.0], [99.0, 8.0]], [[-4.0, 8.0], [9.0, 8.0]]])
def test_points_outside_the_image(place: Place, network: Network, points: list[list[float]]) -> None:
    body = bytes(4 * network.G.num_ws * network.G.w_dim) + np.array(points, "<f4").tobytes()
    assert ask(place, "/drag?points=1", body)[0] == 200
    assert "outside the image" in until(place, lambda found: found["state"] != "running")["error"]
    assert ask(place, "/drag?points=99", body)[0] == 400
    assert ask(place, "/drag?points=2", body)[0] == 400


def test_what_is_not_known(place: Place, serving: Callable[..., Place], network: Network) -> None:
    assert ask(place, "/fit/steal", b"")[0] == 404
    other = serving([network])
    assert ask(other, "/fit/state", b"")[0] == 404
    assert ask(other, "/nearest", bytes(4 * 16 * 16 * 3))[0] == 404


def test_nearest_training_images(serving: Callable[..., Place], network: Network, tmp_path: Path) -> None:
    """A training image finds itself; the mirror image, which training sees too, is named."""
    pytest.importorskip("efficientnet_lite_pytorch")
    from frugan.data import DataConfig, open_dataset
    from frugan.explorer.copies import TrainingImages

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 16, 16, 3), np.uint8)
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i:02d}.png")
    dataset = open_dataset(DataConfig(str(tmp_path)))
    place = serving([Network("known", network.G, training_images=lambda: TrainingImages(dataset))])
    image = images[7].astype("<f4") / 127.5 - 1
    status, content, _ = ask(place, "/nearest", image.tobytes())
    assert status == 200
    found = json.loads(content)
    assert len(found["nearest"]) == 6
    assert found["nearest"][0]["name"] == "07.png"
    assert found["nearest"][0]["distance"] < 0.01 * found["usual"]
    pixels = np.frombuffer(base64.b64decode(found["nearest"][0]["pixels"]["data"]), np.uint8)
    assert np.array_equal(pixels.reshape(16, 16, 4)[..., :3], images[7])


KINDS: dict[str, tuple[tuple[int, ...], Any]] = {
    "wide, grey": ((48, 64, 1), np.uint8),
    "tall, opacity": ((64, 48, 4), np.uint8),
    "wide, 16 bits": ((48, 64, 3), np.uint16),
    "tall, nine channels": ((64, 48, 9), np.uint16),
    "wide, measured": ((48, 64, 1), np.float32),
}


@pytest.mark.parametrize("kind", KINDS)
def test_nearest_training_images_of_any_kind(kind: str, tmp_path: Path) -> None:
    """The image itself is the nearest, and what is shown of it has its shape."""
    pytest.importorskip("efficientnet_lite_pytorch")
    from frugan.data import DataConfig, open_dataset
    from frugan.explorer.copies import TrainingImages

    shape, dtype = KINDS[kind]
    blocks = np.random.default_rng(0).random((12, shape[0] // 8, shape[1] // 8, shape[2])) * 255
    images = blocks.astype(dtype).repeat(8, axis=1).repeat(8, axis=2)
    path = tmp_path / ("set" if shape[2] == 4 else "set.npy")
    if shape[2] == 4:
        path.mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image).save(path / f"{i:02d}.png")
    else:
        np.save(path, images)
    dataset = open_dataset(DataConfig(str(path)), cache_dir=tmp_path / "cache")
    image, _ = dataset.images(np.array([5]))
    found = TrainingImages(dataset).nearest(image[0])
    assert found["nearest"][0]["name"] == dataset.names[5]
    assert found["nearest"][0]["distance"] < 0.1 * found["usual"]  # by the bits that a canvas lacks
    shown = found["nearest"][0]["pixels"]
    assert (shown["h"], shown["w"]) == shape[:2]
    assert len(base64.b64decode(shown["data"])) == 4 * shape[0] * shape[1]


def words(place: Place, text: str, **query: object) -> tuple[int, Any]:
    asked = urlencode({"text": text, **query})
    status, content, _ = ask(place, f"/words?{asked}", np.array([1, 0, 0], "<f4").tobytes())
    return status, json.loads(content) if status == 200 else content.decode()


def test_a_direction_towards_a_text(serving: Callable[..., Place], text_model: JointModel) -> None:
    """It moves images towards the text, and is there for pages that are opened later."""
    network = make_network("worded")
    before = [direction.name for direction in network.directions]
    place = serving([network], text_model=text_model)
    assert json.loads(ask(place, "/networks")[1])[0]["can"]["words"]
    for name in ("dark", "dark (2)"):
        assert words(place, " dark ")[1]["state"] == "running"
        assert until(place, lambda found: found["state"] != "running")["state"] == "done"
        result = json.loads(ask(place, "/fit/result", b"")[1])
        assert result["direction"]["name"] == name
    told = json.loads(ask(place, "/networks")[1])[0]["directions"]
    assert [direction["name"] for direction in told] == [*before, "dark", "dark (2)"]
    assert told[-1] == result["direction"]
    G, direction = network.G, network.directions[-1]
    ws = network.map(G.latents(range(8)), torch.eye(3)[[0] * 8])[:, None].expand(-1, G.num_ws, -1)
    offset = direction.displacement(G)[None].expand(8, -1)
    shades = [float(network.render(ws, strength * offset).mean()) for strength in (0, result["strength"])]
    assert shades[1] < shades[0] - 0.005


def test_seeds_that_fit_a_text(serving: Callable[..., Place], network: Network, text_model: JointModel) -> None:
    place = serving([network], text_model=text_model)
    assert words(place, "bright", seeds=40, first=100, psi=0.5)[0] == 200
    assert until(place, lambda found: found["state"] != "running")["steps"] == 40
    found = json.loads(ask(place, "/fit/result", b"")[1])
    text = prompt_vector(text_model, "bright")
    expected = find_seeds(network.G, text_model, text, range(100, 140), c=torch.eye(3)[0], truncation=Truncation(0.5))
    assert found == [[one.seed, pytest.approx(one.similarity, abs=1e-4)] for one in expected[:16]]


def test_texts_that_are_refused(serving: Callable[..., Place], network: Network, text_model: JointModel) -> None:
    place = serving([network], text_model=text_model)
    for text, reason in (("", "empty prompt"), ("cat", "has never seen"), ("@/etc/passwd", "has never seen")):
        for query in ({}, {"seeds": 3}):
            assert words(place, text, **query)[0] == 200
            assert reason in until(place, lambda found: found["state"] == "failed")["error"]
    assert words(place, "x" * 301)[0] == 400
    for query in ({"seeds": 10_001}, {"seeds": 0}, {"first": 2**32}, {"psi": "nan"}, {"psi": 9}):
        assert words(place, "dark", **query)[0] == 400
    assert words(serving([network]), "dark")[0] == 404


def test_words_can_be_stopped(serving: Callable[..., Place], network: Network, text_model: JointModel) -> None:
    place, count = serving([network], text_model=text_model), len(network.directions)
    assert words(place, "dark", seeds=10_000)[0] == 200
    until(place, lambda found: found["step"] > 0)
    assert "another one is under way" in refused(place, "/words?text=dark", bytes(12))
    assert told(place, "cancel")["state"] == "cancelled"
    assert words(place, "dark")[0] == 200
    told(place, "cancel")
    assert len(network.directions) == count
