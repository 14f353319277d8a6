"""Small honest files, damaged at random and read under limits: 1 GiB more of memory than the program has, 20 s of processor.

    python -m tests.fuzz.limited --minutes 6      # the table of docs/project/notebook/reliability.md: inputs by kind and outcome

Inputs are read in processes forked from this one, some at a time, so that PyTorch is imported once. An input that ends its
process (a crash, a limit) is counted, and a new process reads the next one; inputs follow from their seeds alone.
"""

from __future__ import annotations

import argparse
import os
import pickletools
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from frugan import tracking
from frugan.data import DataConfig, open_dataset
from frugan.data.tools.shard import shard
from frugan.errors import FruganError
from frugan.interop import read_network, write_community
from frugan.networks import (
    Discriminator,
    DiscriminatorConfig,
    Generator,
    GeneratorConfig,
    MappingConfig,
    SynthesisConfig,
)
from frugan.networks.serialization import load_generator, save_generator
from frugan.run.load import load
from frugan.run.train import Run
from frugan.tracking import monitors as health
from frugan.training import checkpoint
from tests import containers

from .damage import program

BYTES, SECONDS, AT_ONCE = 1 << 30, 20, 40
HONEST = -1
"""The seed of what is not damaged."""

GOLDEN = Path(__file__).parent.parent / "golden"
OUTCOMES = ("read", "refused", "timeout", "memory", "crash", "traceback")
_EXTREMES = (
    b"\xff\xff\xff\x7f",
    b"\x7f\xff\xff\xff",
    b"\xff" * 4,
    bytes(4),
    b"1e999",
    b"NaN",
    b"-1",
    b"null",
    b"[" * 99,
)


def damaged(content: bytes, chance: random.Random) -> bytes:
    """The content with one to four pieces flipped, overwritten, cut out, put in, doubled, or lost to the end."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at, length = chance.randint(0, len(data)), chance.choice([1, 2, 4, 16, 64, 1024])
        piece = bytes(data[at : at + length])
        kind = chance.randrange(8)
        if kind == 0 and piece:
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[at : at + length] = chance.randbytes(length)
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            data[at:at] = chance.randbytes(length)
        elif kind == 4:
            del data[at:]
        elif kind == 5:
            data[at : at + 4] = chance.choice(_EXTREMES)
        elif kind == 6:
            data[at:at] = piece * chance.choice([2, 100, 10_000])
        else:
            target = chance.randint(0, len(data))
            data[target:target] = piece
    return bytes(data)


def opcodes_changed(content: bytes, chance: random.Random) -> bytes:
    """A pickle some of whose opcodes are others, come again, or are remembered objects called again."""
    places = [place for _, _, place in pickletools.genops(content) if place is not None]
    data = bytearray(content)
    for _ in range(chance.randint(1, 6)):
        at = min(chance.choice(places), len(data) - 1)
        if chance.random() < 0.5:
            data[at] = ord(chance.choice(pickletools.opcodes).code)
        else:
            remembered = b"".join(b"h" + bytes([chance.randrange(40)]) for _ in range(chance.randint(1, 3)))
            data[at:at] = (remembered + chance.choice([b"R", b"\x86", b"0", b"b", b"\x81", b"a"])) * chance.choice(
                [1, 30, 3000]
            )
    return bytes(data)


class Kind:
    """One kind of input: a file or directory that is honest, which of its files are damaged, and what reads it."""

    def __init__(self, honest: Path, read: Callable[[Path], object], files: str = "*") -> None:
        self.honest, self.read = honest, read
        self.files = (
            sorted(p.relative_to(honest) for p in honest.rglob(files) if p.is_file()) if honest.is_dir() else []
        )

    def make(self, folder: Path, seed: int) -> Path:
        place, chance = folder / self.honest.name, random.Random(seed)
        if not self.files:
            if seed == HONEST:
                return self.honest
            content = self.honest.read_bytes()
            change = opcodes_changed if self.honest.suffix == ".pkl" and chance.random() < 0.5 else damaged
            place.write_bytes(change(content, chance))
            return place
        shutil.copytree(self.honest, place)
        if seed == HONEST:
            return place
        for name in chance.sample(self.files, min(chance.randint(1, 2), len(self.files))):
            (place / name).write_bytes(damaged((place / name).read_bytes(), chance))
        return place


def kinds(folder: Path) -> dict[str, Kind]:
    torch.manual_seed(0)
    config = GeneratorConfig((16, 16), z_dim=8, w_dim=8, mapping=MappingConfig(2), synthesis=SynthesisConfig(64, 8))
    G, D = Generator(config), Discriminator(DiscriminatorConfig((16, 16), channel_base=64, channel_max=8))
    write_community(folder / "community.pt", G, D)
    (folder / "hub").mkdir()
    save_generator(folder / "hub", G, discriminator=D.config)
    (folder / "images").mkdir()
    for i in range(24):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i:02d}.png")
    code, printed = program(
        "train", str(folder / "images"), "--out", str(folder / "run"), "--preset", "tiny", "--batch", "8", "--channel-base", "64",
        "--channel-max", "8", "--latent", "16", "--kimg", "0.032", "--tick-kimg", "0.016", "--checkpoint-kimg", "0.016",
        "--held-out", "4", "--device", "cpu", "--threads", "1",
    )  # fmt: skip
    assert code == 0, printed
    shard(folder / "images", folder / "shards", per_shard=8)
    return {
        "network pickles": Kind(GOLDEN / "nvidia_pytorch.pkl", read_network),
        ".pt of the community": Kind(folder / "community.pt", read_network),
        "directories of networks": Kind(folder / "hub", load_generator),
        "run directories": Kind(folder / "run", _read_run),
        "run directories, resumed": Kind(folder / "run", _resume),
        "shards": Kind(folder / "shards", _read_shards),
    }


def sets(folder: Path) -> dict[str, Kind]:
    """Files of many images, each kind alone."""
    images = np.random.default_rng(0).integers(0, 256, (6, 12, 16, 3), dtype=np.uint8)
    found = {}
    for suffix, write in {**containers.SETS, **containers.FRAMES}.items():
        place = folder / f"set{suffix}"
        write(place, images)
        found[f"images in {suffix}"] = Kind(place, read_set)
    return found


def read_set(path: Path) -> None:
    dataset = open_dataset(DataConfig(str(path), (8, 8), "RGB", frames="all"), cache_dir=path.parent / "cache")
    np.asarray(dataset.pixels).sum()


def read_masked(path: Path) -> None:
    """A folder of images and masks, none of which may be missing."""
    config = DataConfig(str(path / "images"), masks=str(path / "masks"), strict=True)
    np.asarray(open_dataset(config, cache_dir=path.parent / "cache").pixels).sum()


def _read_run(path: Path) -> None:
    records = tracking.read_stats(path / "stats.jsonl")
    health.check([health.digest(r) for r in records], health.Setting(0.5, "fid"))
    tracking.Page(path).write()
    opened = Run(path)
    assert opened.status().sentence
    checkpoint.recover(opened.checkpoints)
    load(path)


def _resume(path: Path) -> None:
    code, printed = program("resume", str(path), "--device", "cpu", "--threads", "1", "--kimg", "0.04")
    if code:
        assert code == 2, printed
        raise FruganError(printed)


def _read_shards(path: Path) -> None:
    dataset = open_dataset(DataConfig(str(path), (16, 16), "RGB"), cache_dir=path.parent / "cache")
    np.asarray(dataset.pixels).sum()


def _outcome(kind: Kind, folder: Path, seed: int) -> tuple[str, str]:
    """(outcome, what was said). A limit that ends the process has no return."""
    try:
        kind.read(kind.make(folder, seed))
    except (FruganError, MemoryError) as error:
        memory = isinstance(error, MemoryError) or any(
            words in str(error) for words in ("MemoryError", "out of memory")
        )
        return ("memory", traceback.format_exc()) if memory else ("refused", str(error))
    except BaseException:
        return "traceback", traceback.format_exc()
    return "read", ""


def _worker(kind: Kind, seeds: list[int], output: int, scratch: Path) -> None:
    own = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (own + BYTES, own + BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for seed in seeds:
        folder = scratch / str(seed)
        folder.mkdir()
        os.write(output, f"{seed} begun\n".encode())
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        outcome, said = _outcome(kind, folder, seed)
        signal.setitimer(signal.ITIMER_PROF, 0)
        os.write(output, f"{seed} {outcome} {said[-1500:].encode('unicode_escape').decode()}\n".encode())
        shutil.rmtree(folder, ignore_errors=True)


def batch(kind: Kind, seeds: list[int], scratch: Path) -> dict[int, tuple[str, str]]:
    """Outcomes by seed: all of them, unless one ends the process."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            _worker(kind, seeds, writing, scratch)
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        os._exit(1)
    os.close(writing)
    with os.fdopen(reading, errors="replace") as lines:
        told = [line.rstrip("\n").split(" ", 2) for line in lines]
    _, status = os.waitpid(child, 0)
    found = {int(seed): (outcome, *rest, "")[:2] for seed, outcome, *rest in told}
    for seed, (outcome, _) in found.items():
        if outcome == "begun":
            ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            found[seed] = ("timeout" if ended == signal.SIGPROF else "crash"), f"signal {ended}, status {status}"
            shutil.rmtree(scratch / str(seed), ignore_errors=True)
    return found  # pyright: ignore[reportReturnType]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    os.nice(5)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as top:
        os.environ["FRUGAN_CACHE"] = f"{top}/cache"
        scratch = Path(top) / "inputs"
        scratch.mkdir()
        (home := Path(top) / "honest").mkdir()
        all_kinds = {name: kind for name, kind in {**sets(home), **kinds(home)}.items() if options.only in name}
        print(f"| input | {' | '.join(OUTCOMES)} |\n|---|{'--:|' * len(OUTCOMES)}")
        for name, kind in all_kinds.items():
            assert batch(kind, [HONEST], scratch) == {HONEST: ("read", "")}
            counts: Counter[str] = Counter()
            seed, until = options.seed, time.monotonic() + options.minutes * 60 / len(all_kinds)
            while time.monotonic() < until:
                found = batch(kind, list(range(seed, seed + AT_ONCE)), scratch)
                seed = max(found, default=seed) + 1
                counts.update(outcome for outcome, _ in found.values())
                for number, (outcome, said) in found.items():
                    if outcome not in ("read", "refused"):
                        print(f"{name}, seed {number}: {outcome}: {said[-700:]}", file=sys.stderr, flush=True)
            print(f"| {name} | {' | '.join(str(counts[outcome]) for outcome in OUTCOMES)} |", flush=True)


if __name__ == "__main__":
    main()
