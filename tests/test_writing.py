"""Files that appear whole or not at all, wherever a program that writes them is killed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from frugan.errors import FruganError, explain
from frugan.files import UNFINISHED, building, refilling, replacing, write_text
from frugan.images import save_image
from frugan.interop import read_network, write_community, write_directory
from frugan.interop.nvidia import Imported
from frugan.latent.video import write_video
from frugan.metrics import EvaluationCard
from frugan.metrics.evaluator import _save
from frugan.networks import (
    Discriminator,
    DiscriminatorConfig,
    Generator,
    GeneratorConfig,
    MappingConfig,
    SynthesisConfig,
)
from frugan.networks.serialization import save_tensors, weights_digest


class Killed(BaseException):
    """Stands for a kill: nothing that comes after it has an effect on the disk."""


@contextmanager
def killed_at(number: int) -> Iterator[list[str]]:
    """The so many-th operation on files, and all after it, do not happen; those of weights and images leave half a file."""
    done: list[str] = []

    def wrap(owner: Any, name: str, file: int | None) -> Any:
        real = getattr(owner, name)

        def operation(*args: Any, **kwargs: Any) -> Any:
            done.append(name)
            if len(done) > number:
                if len(done) == number + 1 and file is not None:
                    real(*args, **kwargs)
                    os.truncate(args[file], Path(args[file]).stat().st_size // 2)
                raise Killed
            return real(*args, **kwargs)

        return mock.patch.object(owner, name, operation)

    operations = [
        (safetensors.torch, "save_file", 1),
        (Path, "write_bytes", 0),
        (Path, "write_text", 0),
        (Path, "unlink", None),
        (os, "fsync", None),
        (os, "rename", None),
        (os, "replace", None),
        (shutil, "rmtree", None),
    ]
    patches = [wrap(*operation) for operation in operations]
    for patch in patches:
        patch.start()
    try:
        yield done
    finally:
        for patch in patches:
            patch.stop()


def networks(seed: int, *, whole: bool = True) -> Imported:
    torch.manual_seed(seed)
    shape = SynthesisConfig(channel_base=64, channel_max=8)
    make = lambda: Generator(GeneratorConfig((8, 8), 3, 0, 8, 8, MappingConfig(num_layers=1), shape))  # noqa: E731
    D = Discriminator(DiscriminatorConfig((8, 8), 3, channel_base=64, channel_max=8)) if whole else None
    return Imported(make(), make() if whole else None, D, 0.25, [])


def digests(found: Imported) -> tuple[str | None, ...]:
    return tuple(n and weights_digest(n) for n in (found.generator, found.raw_generator, found.discriminator))


def community(path: Path, seed: int) -> None:
    write_community(path, networks(seed).generator)


def card(path: Path, seed: int) -> None:
    EvaluationCard({"kid": float(seed)}, {"metric": "kid"}).save(path)


def image(path: Path, seed: int) -> None:
    save_image(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8), path)


WRITERS: dict[str, tuple[str, Callable[[Path, int], None], Callable[[Path], Any]]] = {
    "directory": ("network", lambda p, s: void(write_directory(p, networks(s))), lambda p: digests(read_network(p))),
    "directory of fewer": (
        "network",
        lambda p, s: void(write_directory(p, networks(s, whole=s == 0))),
        lambda p: digests(read_network(p)),
    ),
    "community": ("g.pt", community, lambda p: weights_digest(read_network(p).generator)),
    "card": ("card.json", card, lambda p: EvaluationCard.load(p).values),
    "image": ("x.png", image, lambda p: np.asarray(Image.open(p)).tobytes()),
    "text": ("x.json", lambda p, s: write_text(p, f"{s}" * 100), lambda p: p.read_text()),
}


LIMITED = {
    **WRITERS,
    "jpeg": ("x.jpg", image, None),
    "webp": ("x.webp", image, None),
    "array of features": ("x.npy", lambda p, s: _save(p, np.random.default_rng(s).random((50, 40), np.float32)), None),
    "statistics": ("x.safetensors", lambda p, s: save_tensors({"x": torch.full((50, 40), s)}, p), None),
    "video": ("x.mp4", lambda p, s: void(write_video(p, torch.rand(20, 3, 64, 64, generator=seeded(s)) * 2 - 1)), None),
}


def void(_: object) -> None: ...


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("old", [False, True], ids=["new", "over an old one"])
@pytest.mark.parametrize("kind", WRITERS)
def test_a_kill_leaves_the_old_or_the_new_one(kind: str, old: bool, tmp_path: Path) -> None:
    """Whichever operation it comes before: nothing where nothing was; else the old one, the new one, or what is refused."""
    name, write, read = WRITERS[kind]
    whole = {}
    for seed in (0, 1):
        write(tmp_path / f"{seed}-{name}", seed)
        whole[seed] = read(tmp_path / f"{seed}-{name}")
    assert whole[0] != whole[1]
    seen: set[str] = set()
    for number in range(100):
        home = tmp_path / f"at-{number}"
        home.mkdir()
        if old:
            write(home / name, 0)
        with killed_at(number) as done:
            try:
                write(home / name, 1)
                break
            except Killed:
                assert len(done) > number
        if not old:
            assert not (home / name).exists() or read(home / name) == whole[1], (number, done)
        else:
            try:
                found = read(home / name)
            except FruganError:
                found = None
            assert found in (whole[0], whole[1], None), (number, done)
            assert found is not None or "directory" in kind
            seen |= {str(found == whole[0])}
        write(home / name, 1)  # what the kill left is in nobody's way
        assert read(home / name) == whole[1]
    else:
        pytest.fail("it never came to an end")
    assert number >= 2
    assert not old or seen >= {"True"}


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process and its children grows beyond so many bytes: writing fails half-way, as on a full disk."""
    resource = pytest.importorskip("resource", reason="a limit of POSIX")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("kind", LIMITED)
def test_what_does_not_fit_on_the_disk_is_an_error_and_leaves_nothing(kind: str, tmp_path: Path) -> None:
    name, write, _ = LIMITED[kind]
    write(tmp_path / name, 0)
    size = max(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    home = tmp_path / "home"
    home.mkdir()
    for share in (0.1, 0.5, 0.99):
        with file_size_limit(int(share * size)), pytest.raises(OSError) as told:
            write(home / name, 0)
        assert explain(told.value), repr(told.value)
        assert not list(home.iterdir())


@pytest.mark.parametrize("kind", ["image", "directory"])
def test_the_longest_names_that_there_are(kind: str, tmp_path: Path) -> None:
    name, write, read = WRITERS[kind]
    longest = "ü" * ((255 - len(Path(name).suffix)) // 2) + Path(name).suffix
    for _ in range(2):
        write(tmp_path / longest, 0)
    assert [file.name for file in tmp_path.iterdir()] == [longest]
    assert read(tmp_path / longest)


@pytest.mark.parametrize("write", [replacing, lambda path: refilling(path, "key"), building])
def test_an_error_leaves_nothing(write: Callable[[Path], Any], tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), write(tmp_path / "x") as scratch:  # noqa: PT012
        if scratch.is_dir():
            scratch = scratch / "file"
        scratch.write_text("half")
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_other_files_stay_and_those_no_longer_written_go(tmp_path: Path) -> None:
    folder = tmp_path / "network"
    for names in (("key", "a", "b"), ("key", "a")):
        with refilling(folder, "key", ("a", "b")) as scratch:
            for name in names:
                (scratch / name).write_text(f"{len(names)}")
        (folder / "README.md").write_text("mine")
    assert {p.name: p.read_text() for p in folder.iterdir()} == {"key": "2", "a": "2", "README.md": "mine"}


def test_modes_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "text", "x")
        write_directory(tmp_path / "network", networks(0))
    finally:
        os.umask(before)
    assert (tmp_path / "text").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "network").stat().st_mode & 0o777 == 0o750
    assert {p.stat().st_mode & 0o777 for p in (tmp_path / "network").iterdir()} == {0o640}


def test_what_a_kill_leaves_is_known_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(Killed), killed_at(1):
        write_text(tmp_path / "config.yaml", "x")
    assert list(tmp_path.iterdir()) == list(tmp_path.glob(UNFINISHED)) != []
