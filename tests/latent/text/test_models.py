"""Joint models: every row of the table, prompts, and captions that learn what drawings show."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from frugan.errors import FruganError
from frugan.latent.text import JOINT_MODELS, JointModel, change, open_model, prompt_vector
from frugan.latent.text.captions import (
    CaptionConfig,
    attribute_accuracy,
    load_captioner,
    phrase,
    save_captioner,
    train_captioner,
    vocabulary_of,
    words_of,
)

ATTRIBUTES = {"bodyColor": ["#ff0000", "#0000ff"], "place": ["leftSide", "rightSide"]}


def drawings(values: np.ndarray) -> Tensor:
    """A coloured square on the left or right."""
    images = torch.full((len(values), 3, 16, 16), -1.0)
    for image, (color, place) in zip(images, values):
        image[0 if color == 0 else 2, 4:12, (2 if place == 0 else 9) : (7 if place == 0 else 14)] = 1.0
    return images


def all_values() -> np.ndarray:
    return np.array([[i % 2, i // 2 % 2] for i in range(32)])


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> str:
    values = all_values()
    config = CaptionConfig(steps=120, batch=16, dim=16, width=8, side=16, subject="square")
    model = train_captioner(lambda rows: drawings(values[rows]), values, ATTRIBUTES, config)
    folder = save_captioner(model, tmp_path_factory.mktemp("captions"), ATTRIBUTES)
    return f"captions:{folder}"


@pytest.fixture(scope="module")
def transformers_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CLIP and SigLIP of a few thousand random weights, with a tokenizer of words."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    top = tmp_path_factory.mktemp("transformers")
    words = {w: i for i, w in enumerate(["<pad>", "<end>", "<unk>", "a", "photo", "of", "red", "blue", "square"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    for kind, name in (("clip", "CLIP"), ("siglip", "Siglip")):
        text = {
            **shape,
            "vocab_size": len(words),
            "max_position_embeddings": 12,
            "eos_token_id": 1,
            "pad_token_id": 0,
            "bos_token_id": 3,
        }
        config = getattr(transformers, f"{name}Config")(
            text_config=text, vision_config={**shape, "image_size": 32, "patch_size": 16}, projection_dim=8
        )
        torch.manual_seed(0)
        getattr(transformers, f"{name}Model")(config).save_pretrained(top / kind)
        fast = transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", unk_token="<unk>"
        )
        fast.save_pretrained(top / kind)
    return top


def specification(kind: str, captioner: str, home: Path) -> str:
    return {"captions": captioner, "clip": f"clip:{home / 'clip'}", "siglip": f"siglip:{home / 'siglip'}"}.get(
        kind, kind
    )


@pytest.mark.parametrize("kind", [*JOINT_MODELS, "tests.latent.text.toy:make_model"])
def test_every_model_gives_unit_vectors_of_one_space(kind: str, captioner: str, transformers_home: Path) -> None:
    model: JointModel = open_model(specification(kind, captioner, transformers_home))
    texts = (
        ["3", "4"] if kind == "classes" else ["square", "left side"] if kind == "captions" else ["red square", "blue"]
    )
    x = drawings(all_values()[:3]).requires_grad_()
    images, words = model.images(x), model.texts(texts)
    assert images.shape[1] == words.shape[1]
    if "toy" not in kind:
        assert torch.allclose(images.norm(dim=1), torch.ones(3), atol=1e-4)
        assert torch.allclose(words.norm(dim=1), torch.ones(2), atol=1e-4)
    assert not torch.allclose(words[0], words[1], atol=1e-3)
    (gradient,) = torch.autograd.grad(images[:, 0].sum(), x)
    assert gradient.isfinite().all()
    assert gradient.any()
    assert torch.allclose(model.images(x[1:2]), images[1:2], atol=1e-4)
    assert model.images(torch.zeros(1, 4, 20, 12)).shape == (1, images.shape[1])


def test_prompts_are_means_over_templates_or_images(captioner: str) -> None:
    model = open_model(captioner)
    one = prompt_vector(model, "square", ["{}", "the {}"])
    both = model.texts(["square", "the square"])
    assert torch.allclose(one, F.normalize(both.mean(0), dim=0), atol=1e-5)
    images = drawings(all_values()[:4])
    assert torch.allclose(prompt_vector(model, images), F.normalize(model.images(images).mean(0), dim=0), atol=1e-5)
    way = change(model, "square", "square left side")
    start, end = (prompt_vector(model, text) for text in ("square", "square left side"))
    assert torch.allclose(way, F.normalize(end - start, dim=0), atol=1e-5)


def test_captions_learn_what_drawings_show(captioner: str, tmp_path: Path) -> None:
    model = load_captioner(captioner.removeprefix("captions:"))
    values = all_values()
    assert min(attribute_accuracy(model, drawings(values), values, ATTRIBUTES).values()) == 1
    neutral = model.images(drawings(values)) @ model.texts(["a square"])[0]
    assert float(neutral.std()) < 0.2  # true of all images alike
    left, right = (model.texts([f"square {side} side"])[0] for side in ("left", "right"))
    on_left = model.images(drawings(np.array([[0, 0], [1, 0]])))
    assert (on_left @ left > on_left @ right).all()


def test_captions_tell_colours_and_small_marks_apart_in_few_steps() -> None:
    """Ten greys that fill the image but for a corner, and a bright spot of two pixels a side at one of nine places."""
    rng = np.random.default_rng(0)
    values = np.stack([rng.integers(0, 10, 400), rng.integers(0, 9, 400)], 1)
    images = torch.from_numpy(values[:, 0].astype(np.float32) / 6 - 1)[:, None, None, None].repeat(1, 3, 16, 16)
    for image, place in zip(images, values[:, 1]):
        y, x = 3 + 4 * int(place // 3), 3 + 4 * int(place % 3)
        image[:, y : y + 2, x : x + 2] = 1.0
    attributes = {"grey": [f"g{i}" for i in range(10)], "spot": [f"s{i}" for i in range(9)]}
    config = CaptionConfig(steps=250, batch=32, dim=32, width=8, side=16)
    model = train_captioner(lambda rows: images[rows], values, attributes, config)
    found = attribute_accuracy(model, images[:200], values[:200], attributes)
    assert min(found.values()) > 0.85, found


def test_captions_of_another_format_are_refused(captioner: str, tmp_path: Path) -> None:
    shutil.copytree(captioner.removeprefix("captions:"), tmp_path / "old")
    file = tmp_path / "old" / "captions.json"
    file.write_text(file.read_text().replace('"format": 2', '"format": 1'))
    with pytest.raises(FruganError, match="is of format 1, and this frugan reads 2: train it again"):
        load_captioner(tmp_path / "old")


def test_words_of_attributes() -> None:
    assert words_of("bodyColor: the #7DD3FC") == ["body", "color", "#7dd3fc"]
    assert phrase("eyes", "closedLine") == "eyes closed line"
    known = vocabulary_of({"eyes": ["closedLine"]}, "a critter")
    assert known == ["critter", "eyes", "closed", "line", "eyes_closed", "closed_line"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("clipp", "did you mean 'clip'"),
        ("captions:nowhere", "frugan text train"),
        ("classes:nowhere.txt", "cannot be read"),
        ("clip:/nowhere/at/all", "cannot be loaded from"),
        ("siglip:/nowhere/at/all", "cannot be loaded from"),
        ("no.such.module:thing", "cannot be imported"),
        ("tests.latent.text.toy:Incomplete", "it lacks images, texts, templates"),
    ],
)
def test_models_that_cannot_be_had(model: str, message: str) -> None:
    with pytest.raises(FruganError, match=message):
        open_model(model)


@pytest.mark.parametrize("harm", ["lacking", "cut", "other shape"])
def test_wrong_weights_are_refused(transformers_home: Path, tmp_path: Path, harm: str) -> None:
    """None is used with random weights in place of what it lacks."""
    shutil.copytree(transformers_home / "clip", tmp_path / "clip")
    file = tmp_path / "clip" / "model.safetensors"
    tensors = load_file(file)
    if harm == "lacking":
        del tensors["visual_projection.weight"]
    elif harm == "other shape":
        tensors["visual_projection.weight"] = torch.zeros(3, 5)
    save_file(tensors, file, metadata={"format": "pt"})
    if harm == "cut":
        file.write_bytes(file.read_bytes()[:500])
    message = (
        "lacks 1 of the weights .* such as visual_projection.weight" if harm == "lacking" else "cannot be loaded from"
    )
    with pytest.raises(FruganError, match=message):
        open_model(f"clip:{tmp_path / 'clip'}")


def test_prompts_that_say_nothing(captioner: str, tmp_path: Path) -> None:
    model = open_model(captioner)
    for prompt, message in (
        (" ", "empty prompt"),
        ("a the", "no words"),
        ("purple", "has never seen the word 'purple'"),
    ):
        with pytest.raises(FruganError, match=message):
            prompt_vector(model, prompt)
    with pytest.raises(FruganError, match="say the same"):
        change(model, "a square", "the square")
    with pytest.raises(FruganError, match="where the prompt belongs"):
        prompt_vector(model, "square", ["a photo"])
    with pytest.raises(FruganError, match="without images"):
        prompt_vector(model, torch.zeros(0, 3, 16, 16))
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    with pytest.raises(FruganError, match="give 1000 class names"):
        open_model(f"classes:{tmp_path / 'names.txt'}")
    with pytest.raises(FruganError, match="classes knows"):
        open_model("classes").texts(["cat"])
