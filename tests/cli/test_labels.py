"""Labels through the command line: from a table to images by name, number and measured value."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frugan.cli.app import main
from frugan.data import DataConfig, open_dataset

SMALL = shlex.split(
    "--preset tiny --batch 8 --channel-base 64 --channel-max 8 --latent 16 --kimg 0.04 --tick-kimg 0.02 "
    "--samples-kimg 0.04 --checkpoint-kimg 0.04 --device cpu --augment none"
)
Cli = Callable[..., str]


@pytest.fixture
def frugan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """Runs a command in this process: what it printed, errors included, after checking its exit code."""
    monkeypatch.setenv("FRUGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["frugan", *map(str, arguments)])
        try:
            found = main() or 0
        except SystemExit as end:
            found = end.code or 0
        printed = capsys.readouterr()
        assert found == code, printed
        return " ".join((printed.out + printed.err).split())  # a table folds its text at the width of the terminal

    return run


def write_set(path: Path, table: str, count: int) -> Path:
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(count):
            file = BytesIO()
            Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(file, "PNG")
            archive.writestr(f"leaves/{i:02d}.png", file.getvalue())
        archive.writestr("leaves/labels.csv", table)
    return path


def test_measured_labels(frugan: Cli, tmp_path: Path) -> None:
    table = "file;kind;year\n" + "\n".join(f"{i:02d}.png;{'ab'[i % 2]};{1990 + i},5" for i in range(24))
    data = write_set(tmp_path / "set.zip", table, 24)
    report = frugan("data", "inspect", data)
    assert "numbers, 1990.5 to 2013.5, mean 2002, standard deviation 6.922" in report
    assert "2 classes, training images of each: a: 12, b: 12" in report
    facts = json.loads(frugan("data", "inspect", data, "--json"))
    assert [(m["name"], m["minimum"], m["maximum"]) for m in facts["measured"]] == [("year", 1990.5, 2013.5)]
    assert facts["classes"] == {"kind=a": 12, "kind=b": 12}
    assert "year: numbers, 1990.5 to 2013.5" in frugan(
        "train", data, "--out", "run", "--conditional", "--held-out", 1, *SMALL
    ).replace("1991.5 to", "1990.5 to")

    (checkpoint,) = (tmp_path / "run/checkpoints").glob("checkpoint-000000.040")
    shutil.copytree(checkpoint, tmp_path / "copied")
    frugan("export", "run", "hub", "--format", "pretrained")
    assert "year: a number" in (tmp_path / "hub/README.md").read_text("utf-8")
    images = {}
    for source in ("run", checkpoint, "hub", "copied"):
        for label in ("a,1990.5", "a,2013.5", "b,1990.5"):
            given = label if source != "copied" else label.replace("a", "0").replace("b", "1")
            out = tmp_path / "images" / str(len(images))
            frugan("generate", source, "--class", given, "--seeds", "0-3", "--out", out)
            images[source, label] = b"".join(np.asarray(Image.open(file)).tobytes() for file in sorted(out.iterdir()))
    for label in ("a,1990.5", "a,2013.5", "b,1990.5"):
        assert len({images[source, label] for source in ("run", checkpoint, "hub", "copied")}) == 1, label
    assert len(set(images.values())) == 3
    far = frugan("generate", "run", "--class", "year=1890,kind=b", "--seeds", "0", "--out", "out")
    assert "year 1890 lies outside" in far
    refused = frugan("generate", "run", "--class", "c,1990.5", "--seeds", "0", "--out", "out", code=2)
    assert "kind: one of a, b; year: a number" in refused


def test_sweeps(frugan: Cli, tmp_path: Path) -> None:
    table = "file;year;size\n" + "\n".join(f"{i:02d}.png;{1990 + i},5;{i % 5},25" for i in range(24))
    data = write_set(tmp_path / "set.zip", table, 24)
    frugan("train", data, "--out", "run", "--conditional", "--vicinity", "hard", *SMALL)
    told = frugan("generate", "run", "--label", "?")
    assert "year: 1990.5 to 2013.5, mean 2002" in told
    assert "size: 0.25 to 4.25" in told
    frugan("generate", "run", "--label", "1995:2005:3,2.5", "--seeds", "4-5", "--out", "swept")
    assert sorted(path.name for path in (tmp_path / "swept").iterdir()) == ["1995,2.5", "2000,2.5", "2005,2.5"]
    frugan("generate", "run", "--class", "2000,2.5", "--seeds", "4-5", "--out", "one")
    for name in ("seed0004.png", "seed0005.png"):
        swept, one = (np.asarray(Image.open(tmp_path / folder / name)) for folder in ("swept/2000,2.5", "one"))
        np.testing.assert_array_equal(swept, one)
    grid = ["--grid", "--scale", "1", "--seeds", "4-5", "--out", "grids"]
    told = frugan("generate", "run", "--label", "1995:2005:3,2.5", *grid)
    assert "a grid of 6 images of 16x16" in told
    sheet = np.asarray(Image.open(next((tmp_path / "grids").iterdir())))
    middle = sheet[4:20, 24:40]  # margins of 4: the second column of the first row
    np.testing.assert_array_equal(middle, np.asarray(Image.open(tmp_path / "one/seed0004.png")))
    assert "give a count from 2 to 256" in frugan("generate", "run", "--label", "1:2:1,3", code=2)


def test_classes_with_gaps(frugan: Cli, tmp_path: Path) -> None:
    table = "\n".join(f"{i},{i:02d}.png,{(101, 2045, 40017)[i % 3]}" for i in range(12))
    data = write_set(tmp_path / "set.zip", f",filename,label\n{table}", 12)
    assert "3 classes, training images of each: 101: 4, 2045: 4, 40017: 4" in frugan("data", "inspect", data)
    frugan("train", data, "--out", "run", "--conditional", *SMALL)
    frugan("generate", "run", "--class", 40017, "--seeds", "0", "--out", "out")
    refused = frugan("generate", "run", "--class", 5, "--seeds", "0", "--out", "out", code=2)
    assert "class '5': give one of 101, 2045, 40017" in refused
    labels = [open_dataset(DataConfig(str(data), labels="auto"))]
    for out in ("prepared", "prepared.zip", "shards"):
        frugan("data", "shard" if out == "shards" else "prepare", data, out)
        labels.append(open_dataset(DataConfig(out, labels="auto")))
    for found in labels:
        assert found.class_names == ["101", "2045", "40017"]
        assert sorted(found.labels.argmax(1).tolist()) == sorted(labels[0].labels.argmax(1).tolist())


def test_a_table_that_cannot_be_read_is_told(frugan: Cli, tmp_path: Path) -> None:
    data = write_set(tmp_path / "set.zip", "file,year\n00.png,1990.5\n01.png,unknown\n02.png,1991.5", 3)
    message = "column 'year' of leaves/labels.csv holds 'unknown'"
    assert "holds numbers such as '1990.5' and words such as 'unknown'" in frugan("data", "inspect", data), message
    refused = frugan("train", data, "--out", "run", "--conditional", *SMALL, code=2)
    assert "column 'year' of leaves/labels.csv holds numbers such as '1990.5'" in refused
    assert not (tmp_path / "run").exists()
