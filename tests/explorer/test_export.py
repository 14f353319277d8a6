"""The page as a file: small, self-contained, near the network's images, or not written at all."""

from __future__ import annotations

import io
import re
import tarfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from frugan.errors import FruganError
from frugan.explorer import export as module
from frugan.explorer import runtime
from frugan.explorer.export import distances, export_page, packed
from frugan.explorer.network import Network
from frugan.explorer.page import MODULES, asset, file_page, folder_page, server_page
from frugan.explorer.weights import WEIGHTS, Weights, pack, quantised, unpack

RUNTIME = {"module": b"export {}", "wasm": b"\0asm"}


@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=4, max_side=6), elements=st.floats(-100, 100, width=32)))
@settings(max_examples=60)
def test_quantised(values: np.ndarray) -> None:
    """No value is off by more than half a step of its slice, and the scales broadcast."""
    whole, scale = quantised(values)
    assert whole.dtype == np.int8
    assert whole.shape == values.shape
    assert (np.abs(whole * scale - values) <= 0.5001 * np.broadcast_to(scale, values.shape) + 1e-29).all()
    assert scale.size in {*values.shape}


def products(rng: np.random.Generator, shapes: list[tuple[int, int]]) -> tuple[bytes, list[np.ndarray]]:
    """x W₁ W₂ … as an ONNX file, and the W."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    W = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    graph = helper.make_graph(
        [helper.make_node("MatMul", [f"x{i}", f"W{i}"], [f"x{i + 1}"]) for i in range(len(W))],
        "product",
        [helper.make_tensor_value_info("x0", kind, ["n", shapes[0][0]])],
        [helper.make_tensor_value_info(f"x{len(W)}", kind, ["n", shapes[-1][1]])],
        [onnx.numpy_helper.from_array(w, f"W{i}") for i, w in enumerate(W)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString(), W


@given(st.lists(st.integers(1, 90), min_size=2, max_size=5), st.sampled_from(WEIGHTS), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_an_unpacked_file_is_the_file_with_rounded_weights(sizes: list[int], weights: Weights, seed: int) -> None:
    """Nothing but the numbers of large tensors is another; small ones are exact."""
    onnx = pytest.importorskip("onnx")
    content, W = products(np.random.default_rng(seed), [*pairwise(sizes)])
    found = unpack(pack(content, weights))
    assert len(found) == len(content)
    model, original = onnx.load_from_string(found), onnx.load_from_string(content)
    for tensor, values in zip(model.graph.initializer, W):
        error = {"float32": 0, "float16": 2e-3, "int8": 0.5 / 126 * np.abs(values).max()}[weights]
        apart = np.abs(onnx.numpy_helper.to_array(tensor) - values).max()
        assert apart <= (error if values.size >= 1024 else 0)
        assert (apart > 0) == (values.size >= 1024 and weights != "float32")
    for each in (model, original):
        del each.graph.initializer[:]
    assert model == original


@pytest.mark.parametrize("weights, error", [("float32", 0), ("float16", 1e-3), ("int8", 1e-2)])
def test_a_packed_file_is_small_and_computes_the_same(weights: Weights, error: float) -> None:
    ort = pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(0)
    whole, (W,) = products(rng, [(64, 32)])
    x = rng.standard_normal((3, 64)).astype(np.float32)
    small = pack(whole, weights)
    (y,) = ort.InferenceSession(unpack(small), providers=["CPUExecutionProvider"]).run(None, {"x0": x})
    assert np.abs(y - x @ W).max() <= error * np.abs(x @ W).max() + 1e-6
    assert len(small) < {"float32": 1.01, "float16": 0.6, "int8": 0.35}[weights] * len(whole)


@pytest.fixture(scope="module")
def parts(onnx: dict[str, bytes]) -> dict[Weights, dict[str, bytes]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("frugan.explorer.weights._SMALLEST", 64)  # this network is small
        return {weights: packed(onnx, weights) for weights in WEIGHTS}


@pytest.mark.slow
def test_smaller_weights_are_smaller_and_near(network: Network, parts: dict[Weights, dict[str, bytes]]) -> None:
    means = {weights: distances(network, found)[0] for weights, found in parts.items()}
    assert means["float32"] < 1e-3
    assert means["float32"] < means["float16"] < 0.1
    assert means["float16"] < means["int8"] < 3
    sizes = {weights: len(found["render"]) for weights, found in parts.items()}
    assert sizes["int8"] < sizes["float16"] < sizes["float32"]


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "onnx_parts", lambda _: dict.fromkeys(module.PARTS, bytes(1000)))
    monkeypatch.setattr(module, "packed", lambda parts, _: parts)
    monkeypatch.setattr(module, "distances", lambda *_: (0.1, 1.0))


@pytest.mark.usefixtures("no_export")
def test_one_file(network: Network, tmp_path: Path) -> None:
    """Everything is inside, the policy allows no connection, and nothing names an address but the licence."""
    done = export_page(tmp_path / "new" / "x.html", [network], RUNTIME)
    html = done.page.read_text("utf-8")
    assert done.size == done.page.stat().st_size
    assert [f.name for f in done.page.parent.iterdir()] == ["x.html"]
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy
    assert "default-src 'none'" in policy[1]
    assert "connect-src" not in policy[1]
    assert "http" not in policy[1]
    assert re.findall(r"https?://[\w./-]+", html) == ["https://www.npmjs.com/package/onnxruntime-web"]
    assert "MIT License" in html
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=\"(?!data:)", html)


@pytest.mark.usefixtures("no_export")
def test_a_folder_where_one_file_were_too_large(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST_FILE", 1000)
    done = export_page(tmp_path / "x.html", [network], RUNTIME)
    assert done.page == tmp_path / "x" / "index.html"
    assert {f.name for f in done.page.parent.iterdir()} >= {"index.html", "0-render.js", "wasm.js", "worker.js"}
    assert done.size == sum(f.stat().st_size for f in done.page.parent.iterdir())
    with pytest.raises(FruganError, match="exists"):
        export_page(tmp_path / "x.html", [network], RUNTIME)


@pytest.mark.usefixtures("no_export")
def test_images_too_far_are_refused(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "distances", lambda *_: (9.0, 200.0))
    with pytest.raises(FruganError, match=r"int8 weights .* 9\.00 steps of 8 bits .* another --weights"):
        export_page(tmp_path / "x.html", [network], RUNTIME, "int8")
    with pytest.raises(FruganError, match=r"ends in \.html"):
        export_page(tmp_path / "x.onnx", [network], RUNTIME)
    assert not [*tmp_path.iterdir()]


def test_the_same_modules_run_everywhere() -> None:
    """Each import of a module is one that the import maps know, on the server and in a file."""
    wanted = {name for module in MODULES for name in re.findall(r'from "frugan/([\w-]+\.js)"', asset(module))}
    assert wanted <= {*MODULES}
    html, _ = server_page()
    for page in (html, file_page({}), folder_page({})[0]):
        assert {*re.findall(r'"frugan/([\w-]+\.js)": "', page)} == {*MODULES}
        assert not re.search("<!-- (style|imports|main|data) -->", page)


def test_text_is_never_html() -> None:
    for name in (*MODULES, "worker.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", asset(name))


def package(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


def test_the_runtime_is_compared_kept_and_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = dict.fromkeys(runtime.FILES, b"x")
    monkeypatch.setattr(
        runtime,
        "FILES",
        dict.fromkeys(runtime.FILES, "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"),
    )
    monkeypatch.setattr(runtime.platformdirs, "user_cache_dir", lambda _: str(tmp_path / "cache"))
    fetched: list[str] = []
    content = package({f"package/dist/{name}": data for name, data in files.items()} | {"../evil": b"no"})
    monkeypatch.setattr(runtime, "_fetched", lambda: fetched.append("once") or content)
    assert runtime.read_runtime() == files
    assert runtime.read_runtime() == files
    assert fetched == ["once"]
    assert {f.name for f in (tmp_path / "cache").rglob("*") if f.is_file()} == {*files}
    (tmp_path / "x.tgz").write_bytes(content)
    assert runtime.read_runtime(tmp_path / "x.tgz") == files
    assert runtime.read_runtime(tmp_path / "cache") == files
    next((tmp_path / "cache").rglob("*.wasm")).write_bytes(b"other")
    for path, complaint in ((None, "holds no"), (tmp_path / "cache", "holds no"), (tmp_path / "none", "no such file")):
        with pytest.raises(FruganError, match=complaint):
            runtime.read_runtime(path)
    for damaged in (content[:50], b"", b"PK\3\4", package({})):
        (tmp_path / "x.tgz").write_bytes(damaged)
        with pytest.raises(FruganError, match=r"holds no .* name another one with --runtime"):
            runtime.read_runtime(tmp_path / "x.tgz")


def test_a_runtime_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runtime.platformdirs, "user_cache_dir", lambda _: str(tmp_path))
    monkeypatch.setattr(runtime, "ADDRESS", (tmp_path / "none.tgz").as_uri())
    with pytest.raises(FruganError, match=r"could not be fetched .* name a copy with --runtime"):
        runtime.read_runtime()
