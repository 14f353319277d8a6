"""A report as a whole: three files that agree, sections that are kept, and reasons where one is empty."""

from __future__ import annotations

import json
import re
import shutil
from base64 import b64decode, b64encode
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import frugan
from frugan.errors import FruganError
from frugan.reports import blocks
from frugan.reports import report as module
from frugan.reports.blocks import paragraph
from frugan.reports.page import render
from frugan.reports.report import SECTIONS, Section
from frugan.reports.store import Findings
from tests.program import call
from tests.tracking.report.test_page import HOSTILE, Reader

QUICK: dict[str, Any] = {"samples": 120, "device": "cpu", "sections": ("description", "artefacts", "statement")}


class Killed(BaseException):
    """Stands for a kill."""


@pytest.fixture(scope="module")
def written(run: Path, tmp_path_factory: pytest.TempPathFactory) -> module.Report:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRUGAN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        return frugan.report(run, tmp_path_factory.mktemp("report") / "out", **QUICK, licence=HOSTILE)


def test_three_files_that_agree(written: module.Report, run: Path) -> None:
    numbers = json.loads((written.folder / "report.json").read_text())
    assert list(numbers["sections"]) == ["description", "artefacts", "statement"]
    assert numbers["sections"]["artefacts"]["numbers"]["spectrum"]["largest_difference_db"] > 0
    assert numbers["generator"] == written.sections["description"].numbers["network"]["SHA-256 of its weights"]
    page, card = written.page.read_text(), (written.folder / "README.md").read_text()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["library_name"] == "frugan"
    for text in (page, card):
        assert "20 to train on and 20 held out" in text
    text = " ".join(Reader(page).text)
    for one in written.statement:
        assert one["sentence"] in re.sub(r"\s+", " ", text)
    assert "Still to be written" in card


def test_the_page_is_valid_and_names_are_text(written: module.Report, run: Path) -> None:
    page = written.page.read_text()
    read = Reader(page)
    assert read.all("script") == []
    assert f"{HOSTILE}" in " ".join(read.text)
    assert not any(name.startswith("on") or name == "style" for _, attributes in read.tags for name in attributes)
    assert {attributes.get("src", "data:")[:5] for attributes in read.all("img")} == {"data:"}
    targets = {attributes["id"] for _, attributes in read.tags if "id" in attributes}
    assert len(targets) == sum("id" in attributes for _, attributes in read.tags)
    for link in read.all("a"):
        assert str(link["href"]).removeprefix("#") in targets
    opened = [tag for tag, _ in read.tags if tag not in ("meta", "link", "img", "br")]
    for tag in set(opened) - {"line", "polyline", "polygon", "circle"}:
        assert page.count(f"</{tag}>") == opened.count(tag), tag
    assert run.name not in card_text(written)  # its <b> is escaped there too


def card_text(written: module.Report) -> str:
    return (written.folder / "README.md").read_text().split("## Training images")[1]


def test_words_are_broken_only_where_they_are_wider_than_a_cell() -> None:
    rows = [("short words and a number, 0.00333", "x" * 25), ("y " * 25, "generalisation")]
    page = render(
        {"name": "n", "written": "w", "generator": "g", "settings": {}},
        {"description": "What this is"},
        {"description": Findings(blocks=[blocks.table("t", ("a", "b"), rows)])},
    )
    cells = re.findall(r'<t[dh](?: scope="row")?(?: class="(\w+)")?>(.)', page)
    assert [(first, how) for how, first in cells] == [("s", ""), ("x", "breaks"), ("y", "long"), ("g", "")]


def test_the_policy_allows_this_style_and_nothing_else(written: module.Report) -> None:
    read = Reader(written.page.read_text())
    (policy,) = [m["content"] for m in read.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    (style,) = read.raw["style"]
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert (
        policy == f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def test_images_of_the_page_can_be_read(written: module.Report) -> None:
    images = [b for b in written.sections["description"].blocks if b["kind"] == "image"]
    titles = [b["title"] for b in images]
    assert titles == [
        "Samples of seeds 0 to 31, none left out",
        "Real images",
        "Truncation sweep",
        "The same seeds for each label",
        "Interpolations",
    ]
    for block in images:
        with Image.open(BytesIO(b64decode(block["png"]))) as opened:
            assert list(opened.size) == block["size"]


def test_real_images_can_be_left_out(run: Path, tmp_path: Path) -> None:
    made = frugan.report(run, tmp_path / "out", device="cpu", samples=100, sections=("description",), real_images=False)
    assert "Real images" not in [b.get("title") for b in made.sections["description"].blocks]


def counted(monkeypatch: pytest.MonkeyPatch, killed: str | None = None, *, real: bool = True) -> list[str]:
    """Notes which sections are computed; the one named is killed while it computes. Not `real`: by a stand-in."""
    done: list[str] = []

    def wrap(name: str, compute: Callable[..., Findings]) -> Callable[..., Findings]:
        def computed(context: Any) -> Findings:
            done.append(name)
            found = compute(context) if real else stand_in(name)
            if name == killed:
                raise Killed
            return found

        return computed

    wrapped = {name: Section(s.title, wrap(name, s.compute)) for name, s in SECTIONS.items()}
    monkeypatch.setattr(module, "SECTIONS", wrapped)
    return done


def stand_in(name: str) -> Findings:
    numbers = {"description": {"network": {}, "data": {}, "training": {}}, "quality": {"networks": {}}}
    numbers |= {"privacy": {"attacks": {}}, "usefulness": {"tasks": {}, "statistics": {}}}
    return Findings(blocks=[paragraph(f"of {name}")], numbers=numbers.get(name, {}), cards=[{"values": {"x": 0.1}}])


@pytest.mark.parametrize("name", SECTIONS)
def test_a_report_resumes_after_a_kill_in_any_section(
    name: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was done before is kept, and the result is that of a report that was never killed."""
    options = {"samples": 100, "device": "cpu"}
    order = list(SECTIONS)
    before = order[: order.index(name)]
    with monkeypatch.context() as patch:
        done = counted(patch, killed=name, real=False)
        with pytest.raises(Killed):
            frugan.report(run, tmp_path / "out", **options)
        assert done == [*before, name]
        assert not (tmp_path / "out" / "report.html").exists()
    with monkeypatch.context() as patch:
        done = counted(patch, real=False)
        resumed = frugan.report(run, tmp_path / "out", **options)
        assert done == order[len(before) :]
        whole = frugan.report(run, tmp_path / "whole", **options)
    for key, found in resumed.sections.items():
        assert (found.blocks, found.numbers, found.cards) == (
            whole.sections[key].blocks,
            whole.sections[key].numbers,
            whole.sections[key].cards,
        )
    assert f"of {name}" in resumed.page.read_text()


def test_other_settings_are_computed_anew_and_damaged_parts_too(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"samples": 100, "device": "cpu", "sections": ("artefacts",)}
    done = counted(monkeypatch)
    first = frugan.report(run, tmp_path / "out", **options)
    frugan.report(run, tmp_path / "out", **options, batch=7)
    assert done == ["artefacts"]
    other = frugan.report(run, tmp_path / "out", **options, seed=1)
    assert done == ["artefacts"] * 2
    assert other.numbers != first.numbers
    (tmp_path / "out" / "sections" / "artefacts.json").write_text('{"key": ')
    frugan.report(run, tmp_path / "out", **options, seed=1)
    assert done == ["artefacts"] * 3


def test_batches_change_nothing_beyond_rounding(run: Path, tmp_path: Path) -> None:
    options = {"samples": 100, "device": "cpu", "sections": ("artefacts",)}
    numbers = [frugan.report(run, tmp_path / str(b), **options, batch=b).numbers["artefacts"] for b in (100, 9)]
    for part in ("spectrum", "sharpness"):
        assert numbers[0][part].keys() == numbers[1][part].keys()
        for name, value in numbers[0][part].items():
            assert numbers[1][part][name] == pytest.approx(value, rel=1e-3, abs=2e-4), name  # decibels near 0


def test_a_section_that_cannot_be_computed_says_why(run: Path, tmp_path: Path) -> None:
    network = shutil.copytree(next((run / "checkpoints").iterdir()), tmp_path / "alone")
    heard: list[str] = []
    made = frugan.report(network, tmp_path / "out", **QUICK, told=heard.append)
    assert made.sections["artefacts"].empty.endswith(
        "say where they are with --data, or give others of the same kind with --reference"
    )
    assert made.sections["description"].blocks
    assert f"This section is empty: {made.sections['artefacts'].empty}" in " ".join(Reader(made.page.read_text()).text)
    assert any("empty, since" in text for text in heard)
    assert json.loads((made.folder / "report.json").read_text())["sections"]["artefacts"].keys() == {"empty"}


def test_images_that_are_gone_leave_sections_empty(run: Path, tmp_path: Path, image_folder: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    config = (copy / "config.yaml").read_text().replace(str(image_folder), str(tmp_path / "gone"))
    (copy / "config.yaml").write_text(re.sub(r"(?m)^relative_paths:\n(  .*\n)+", "relative_paths: {}\n", config))
    made = frugan.report(copy, tmp_path / "out", **QUICK)
    assert "gone" in made.sections["artefacts"].empty
    assert "--reference" in made.sections["artefacts"].empty
    with pytest.raises(FruganError):
        frugan.report(copy, tmp_path / "none", **QUICK, data=str(tmp_path / "gone"))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sections": ("statement", "artefact")}, "did you mean 'artefacts'"),
        ({"sections": ()}, "section ''"),
        ({"samples": 99}, "--samples 99"),
        ({"features": ("inceptoin",)}, "did you mean 'inception'"),
        ({"seed": -1}, "--seed -1"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    options: dict[str, Any], words: str, run: Path, tmp_path: Path
) -> None:
    with pytest.raises(FruganError, match=re.escape(words)):
        frugan.report(run, tmp_path / "out", device="cpu", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder(run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(FruganError, match="exists and is not a folder"):
        frugan.report(run, tmp_path / "out", device="cpu")
    assert (tmp_path / "out").read_text() == "mine"


def test_the_command_line_from_another_directory(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = call(
        capsys, tmp_path, "report", run, "--out", "there", "--samples", "100", "--sections", "artefacts,statement"
    )
    assert code == 0, said
    assert (tmp_path / "there" / "report.html").is_file()
    assert "Leaks and artefacts" in said
    assert (tmp_path / "there" / "report.html").as_uri() in said
    code, said = call(capsys, tmp_path, "report", run, "--out", "there", "--sections", "nonsense")
    assert code == 2
    assert "choose from" in said


def test_the_licence_file_beside_the_images(run: Path, tmp_path: Path, image_folder: Path) -> None:
    images = shutil.copytree(image_folder, tmp_path / "images")
    (images / "LICENSE").write_text("\nCC BY 4.0, by me\nmore")
    made = frugan.report(run, tmp_path / "out", **{**QUICK, "sections": ("description",)}, data=str(images))
    said = made.sections["description"].numbers["data"]["licence of the images, as stated"]
    assert said == "CC BY 4.0, by me (first line of LICENSE beside the images)"


def test_sixteen_bits_are_compared_at_their_own_depth(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "deep.npy", rng.integers(0, 65536, (40, 16, 16, 1)).astype(np.uint16))
    options = {"preset": "tiny", "channel_base": 64, "channel_max": 8, "latent": 16, "batch": 8, "kimg": 0.016}
    list(frugan.train(tmp_path / "deep.npy", tmp_path / "run", device="cpu", tick_kimg=0.008, **options))
    made = frugan.report(tmp_path / "run", tmp_path / "out", samples=100, device="cpu", sections=("artefacts",))
    values = made.numbers["artefacts"]["values"]
    assert values["depth"] == 16
    assert values["channels"]["grey"]["distance"] > values["channels"]["grey"]["floor"]
    assert made.numbers["artefacts"]["leaks"] == {"missing": "40 images are too few to compare; give 100 or more"}
