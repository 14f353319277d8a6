"""Distances: properties of every row of the table, LPIPS by its definition, refusals."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from frugan.errors import FruganError
from frugan.latent.fitting import DISTANCES, Distance, lpips, open_distance
from frugan.latent.fitting.distances import Pixels, Setting, psnr
from frugan.networks import Discriminator, DiscriminatorConfig


def images(n: int, channels: int = 3, side: tuple[int, int] = (32, 48), seed: int = 0) -> Tensor:
    return torch.rand(n, channels, *side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of both trunks under the published names, and the published heads, which a package brings along."""
    folder = tmp_path_factory.mktemp("cache") / "weights"
    folder.mkdir()
    torch.manual_seed(0)
    for net in lpips.TRUNKS:
        state = {f"features.{k}": v for k, v in lpips.FEATURES[net]().state_dict().items()}
        torch.save(state, folder / lpips.TRUNKS[net].file)
    return folder.parent


@pytest.fixture
def opened(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Distance]:
    monkeypatch.setenv("FRUGAN_CACHE", str(cache))
    for net, row in list(lpips.TRUNKS.items()):
        digest = hashlib.sha256((cache / "weights" / row.file).read_bytes()).hexdigest()[:8]
        monkeypatch.setitem(lpips.TRUNKS, net, replace(row, digest=digest))
    torch.manual_seed(1)
    D = Discriminator(DiscriminatorConfig((32, 48), channel_base=256, channel_max=16))
    return lambda text: open_distance(text, Setting(discriminator=D))


@pytest.mark.parametrize("name", [*DISTANCES, "efficientnet+0.5*pixels"])
def test_every_distance_is_one(opened: Callable[[str], Distance], name: str) -> None:
    """0 for equal images, symmetric, larger for a larger change, image by image, differentiable."""
    distance = opened(name)
    assert distance.name == name
    a, b = images(3), images(3, seed=1)
    found = distance(a, b)
    assert found.shape == (3,)
    assert (distance(a, a).abs() < 1e-6).all()
    assert torch.allclose(found, distance(b, a), rtol=1e-3)
    assert torch.allclose(found[1:2], distance(a[1:2], b[1:2]), rtol=1e-3)
    assert (distance(a, torch.lerp(a, b, 0.2)) < found).all()
    assert torch.allclose(distance.compare(distance.embed(a), distance.embed(b)), found)
    x = a.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(distance(x, b).sum(), x)
    assert gradient.isfinite().all()
    assert (gradient.flatten(1).norm(dim=1) > 0).all()


@pytest.mark.parametrize("name", ["lpips-alex", "efficientnet", "pixels"])
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_channels(opened: Callable[[str], Distance], name: str, channels: int) -> None:
    a, b = images(2, channels, (24, 24)), images(2, channels, (24, 24), seed=1)
    assert (opened(name)(a, b) > 0).all()


def test_lpips_is_its_definition(opened: Callable[[str], Distance], cache: Path) -> None:
    """Written out here: taps after every ReLU of AlexNet, unit vectors, non-negative weights, mean over space, sum over taps."""
    trunk = torch.load(cache / "weights" / lpips.TRUNKS["alex"].file, weights_only=True)
    spec = find_spec("torchmetrics")
    assert spec is not None
    assert spec.origin is not None
    heads = torch.load(Path(spec.origin).parent / "functional/image/lpips_models/alex.pth", "cpu", weights_only=True)
    a, b = images(2, side=(64, 80)), images(2, side=(64, 80), seed=4)

    def taps(x: Tensor) -> list[Tensor]:
        x = (x - torch.tensor([-0.030, -0.088, -0.188])[:, None, None]) / torch.tensor([0.458, 0.448, 0.450])[
            :, None, None
        ]
        found = []
        for i, (stride, padding) in {0: (4, 2), 3: (1, 2), 6: (1, 1), 8: (1, 1), 10: (1, 1)}.items():
            x = F.relu(F.conv2d(x, trunk[f"features.{i}.weight"], trunk[f"features.{i}.bias"], stride, padding))
            found.append(x)
            x = F.max_pool2d(x, 3, 2) if i in (0, 3) else x
        return found

    expected = torch.zeros(2)
    for i, (x, y) in enumerate(zip(taps(a), taps(b))):
        x, y = (t / (t.norm(dim=1, keepdim=True) + 1e-10) for t in (x, y))
        expected += F.conv2d((x - y) ** 2, heads[f"lin{i}.model.1.weight"]).mean(dim=(1, 2, 3))
    assert torch.allclose(opened("lpips-alex")(a, b), expected, rtol=1e-4)


def test_the_published_shapes_of_vgg() -> None:
    """Layers 0, 2, 5, … 28 of torchvision's vgg16, whose ReLUs 1_2, 2_2, 3_3, 4_3, 5_3 are 3, 8, 15, 22, 29."""
    shapes = {
        int(k.split(".")[0]): tuple(v.shape) for k, v in lpips.vgg_features().state_dict().items() if "weight" in k
    }
    assert list(shapes) == [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert [shapes[i - 1][0] for i in lpips.TRUNKS["vgg"].taps] == [64, 128, 256, 512, 512]


def test_lpips_is_refused_without_its_weights_or_with_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUGAN_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with pytest.raises(FruganError, match=r"vgg16-397923af\.pth .* was looked for"):
        open_distance("lpips")
    (tmp_path / "weights").mkdir()
    torch.save({}, tmp_path / "weights" / lpips.TRUNKS["vgg"].file)
    with pytest.raises(FruganError, match="is not the published file"):
        open_distance("lpips+pixels")


def test_auto_names_what_it_took_and_never_calls_a_stand_in_lpips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRUGAN_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert open_distance().name == "efficientnet+pixels"
    assert not any(
        "lpips" in row.make(Setting()).name for name, row in DISTANCES.items() if name in ("efficientnet", "pixels")
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vgg", "choose from lpips"),
        ("0*pixels", "weight"),
        ("", "joined by"),
        ("pixels++pixels", "joined by"),
        ("x*pixels", "joined"),
        ("discriminator", "no discriminator"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(FruganError, match=message):
        open_distance(text)


def test_pixels_and_psnr_by_hand() -> None:
    a, b = torch.zeros(1, 3, 16, 16), torch.full((1, 3, 16, 16), 0.5)
    assert float(Pixels()(a, b)) == pytest.approx(0.5 + 0.25)
    assert float(psnr(a, b)) == pytest.approx(10 * torch.log10(torch.tensor(4 / 0.25)).item())
    assert float(psnr(a, a)) == pytest.approx(100)
