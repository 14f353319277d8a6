"""The faults: each a function of a bench and a source of chance that raises where a run did not survive."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from frugan.training import checkpoint

from .harness import (
    ENOSPC,
    EROFS,
    NAMELESS,
    STEPS,
    Bench,
    children,
    finite,
    small_disk,
    together,
    wait_for_records,
)

_OPERATIONS = 260  # syncs, renames, … of a whole run, about


def kill_anywhen(bench: Bench, rng: random.Random) -> None:
    run = bench.fresh("run")
    program = bench.train(run)
    time.sleep(rng.uniform(0.1, 2.0))
    program.process.kill()
    bench.killed(program, run)


def kill_while_writing(bench: Bench, rng: random.Random) -> None:
    run = bench.fresh("run")
    bench.killed(bench.train(run, plant=("kill_at_file_operation", rng.randrange(_OPERATIONS))), run)


def terminate(bench: Bench, rng: random.Random) -> None:
    """SIGTERM, often twice, as schedulers send it: within 5 seconds all is saved, and the exit is clean."""
    _asked_to_stop(bench, rng, signal.SIGTERM)


def hang_up(bench: Bench, rng: random.Random) -> None:
    """SIGHUP, as of a window or connection that closes, where half the time nothing can be printed any more."""
    _asked_to_stop(bench, rng, signal.SIGHUP, closed=rng.random() < 0.5)


def _asked_to_stop(bench: Bench, rng: random.Random, kind: signal.Signals, closed: bool = False) -> None:
    run, step = bench.fresh("run"), rng.randrange(STEPS - 2)
    plant = ("ask_to_stop", step, kind.value, rng.choice([1, 2]), rng.random() < 0.5, closed)
    program = bench.train(run, plant=plant)
    code = program.end()
    assert code == 0, f"exit code {code} of {plant}: {program.text}"
    assert json.loads((run / "run.json").read_text())["status"] == "interrupted"
    bench.goes_on(run, split=True)


def hang_up_together(bench: Bench, rng: random.Random) -> None:
    """SIGHUP to a launcher of two processes: all save, and a single one goes on to the end."""
    run = bench.fresh("run")
    with together(bench, run) as launcher:
        wait_for_records(run, rng.randrange(1, 4), launcher)
        launcher.process.send_signal(signal.SIGHUP)
        assert launcher.process.wait(240) == 0, launcher.text
    assert json.loads((run / "run.json").read_text())["status"] in ("interrupted", "finished"), launcher.text
    done = bench.resume(run)
    assert done.end() == 0, done.text


def suspended(bench: Bench, rng: random.Random) -> None:
    """One of two processes is suspended: given up in the time that FRUGAN_PATIENCE says, and all begin anew."""
    run = bench.fresh("run")
    with together(bench, run, FRUGAN_PATIENCE="15") as launcher:
        wait_for_records(run, 1, launcher)
        os.kill(rng.choice(children(launcher.process.pid)), signal.SIGSTOP)
        assert launcher.process.wait(240) == 0, launcher.text
    assert "Traceback" not in launcher.text
    if "begin anew" in launcher.text:  # else it was at its end
        assert "did not answer within 15 s" in launcher.text, launcher.text
    assert json.loads((run / "run.json").read_text())["status"] == "finished"


def without_a_name(bench: Bench, rng: random.Random) -> None:
    """Two processes on a machine whose own name does not resolve."""
    run = bench.fresh("run")
    with together(bench, run, before=NAMELESS) as launcher:
        assert launcher.process.wait(240) == 0, launcher.text
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    assert "cannot be retrieved" not in launcher.text


def full_disk(bench: Bench, rng: random.Random) -> None:
    with small_disk(bench.fresh("disk"), rng.randrange(50_000, 500_000)) as disk:
        if disk is None:
            return
        program = bench.train(disk / "run")
        bench.refused(program, "No space left")
        os.system(f"mount -o remount,size=50m {disk}")
        bench.goes_on(disk / "run")


def full_disk_anywhere(bench: Bench, rng: random.Random) -> None:
    run = bench.fresh("run")
    program = bench.train(run, plant=("refuse_file_operation", rng.randrange(_OPERATIONS), ENOSPC))
    if program.end() != 0:  # what only tidies up may fail
        bench.refused(program, "No space left", "make room")
    bench.goes_on(run)


def file_too_large(bench: Bench, rng: random.Random) -> None:
    run = bench.fresh("run")
    bench.refused(bench.train(run, plant=("limit_files", rng.randrange(20_000, 100_000))), "File too large", "ulimit")
    bench.goes_on(run)


def read_only(bench: Bench, rng: random.Random) -> None:
    run = bench.fresh("run")
    if rng.random() < 0.5:
        program = bench.train(run, plant=("refuse_file_operation", rng.randrange(_OPERATIONS), EROFS))
        if program.end() != 0:
            bench.refused(program, "Read-only", "name another place")
        bench.goes_on(run)
        return
    with small_disk(run, 1_000_000) as disk:
        if disk is None:
            run.touch()
        else:
            os.system(f"mount -o remount,ro {disk}")
        bench.refused(bench.train(run / "deep" / "run"), "place")


def damaged_checkpoint(bench: Bench, rng: random.Random) -> None:
    run = bench.copy(bench.half)
    newest = checkpoint.all_checkpoints(run / "checkpoints")[-1]
    _damage(rng.choice(sorted(newest.path.iterdir())), rng)
    program = bench.resume(run)
    assert program.end() == 0, program.text
    (event,) = json.loads((run / "run.json").read_text())["events"]
    assert event.startswith("went on from")
    assert newest.path.name in event
    assert len(list((run / "checkpoints").glob("damaged-*"))) == 1
    bench.same(run)


def all_checkpoints_damaged(bench: Bench, rng: random.Random) -> None:
    run = bench.copy(bench.half)
    records = (run / "stats.jsonl").read_bytes()
    for found in checkpoint.all_checkpoints(run / "checkpoints"):
        _damage(found.path / "training.safetensors", rng)
    bench.refused(bench.resume(run), "is whole")
    assert (run / "stats.jsonl").read_bytes() == records


def _damage(file: Path, rng: random.Random) -> None:
    data = bytearray(file.read_bytes())
    at = rng.randrange(len(data))
    if rng.random() < 0.5:
        file.write_bytes(data[:at])
    else:
        data[at] ^= 1 << rng.randrange(8)
        file.write_bytes(data)


def damaged_facts(bench: Bench, rng: random.Random) -> None:
    """Any other file of the run: it goes on exactly, or says what to fix."""
    run = bench.copy(bench.half)
    _damage(run / rng.choice(["config.yaml", "run.json", "data.json", "stats.jsonl", "environment.json"]), rng)
    program = bench.resume(run)
    if program.end() != 0:
        bench.refused(program)


_VALUES = (None, -1, 0, 0.5, 10**9, float("nan"), float("inf"), "", "many", [], [1, 2, 3], {}, True)


def edited_config(bench: Bench, rng: random.Random) -> None:
    """One value becomes another, a key goes or is misspelt: refused in a sentence, or trained with."""
    run = bench.copy(bench.half)
    config = yaml.safe_load((run / "config.yaml").read_text())
    part = config
    while True:
        key = rng.choice(list(part))
        if not (isinstance(part[key], dict) and part[key]):
            break
        part = part[key]
    change = rng.randrange(6)
    if change == 0:
        del part[key]
    elif change == 1:
        part[f"{key}s"] = part.pop(key)
    else:
        part[key] = rng.choice(_VALUES)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    program = bench.resume(run, "--kimg", 0.16)
    code = program.end()
    if code != 0:
        assert code == 2, f"{key}: {part.get(key)!r}: exit code {code}: {program.text}"


def clock(bench: Bench, rng: random.Random) -> None:
    run = bench.fresh("run")
    program = bench.train(run, plant=("jump_clock", rng.randrange(10**6)))
    time.sleep(rng.uniform(0.5, 2))
    program.process.kill()
    program.end()
    bench.goes_on(run, plant=("jump_clock", rng.randrange(10**6)))


def cache_gone(bench: Bench, rng: random.Random) -> None:
    """Deleted, cut short, changed or half built, while the run trains or between two sessions."""
    run, cache = bench.fresh("run"), bench.fresh("own-cache")
    program = bench.train(run, cache=cache)
    while not (run / "run.json").exists():
        time.sleep(0.01)
    entry = next((cache / "data").glob("*/pixels.npy")).parent
    kind = rng.choice(["deleted", "truncated", "flipped", "half built"])
    if kind == "deleted":
        shutil.rmtree(cache)
    program.process.kill() if rng.random() < 0.5 or kind != "deleted" else None
    program.end()
    if kind == "truncated":
        os.truncate(entry / "pixels.npy", rng.randrange(1, (entry / "pixels.npy").stat().st_size))
    elif kind == "flipped":
        _damage(entry / rng.choice(["pixels.npy", "meta.json"]), rng)
    elif kind == "half built":
        (entry / "meta.json").unlink()
    bench.goes_on(run, cache=cache)


def two_at_once(bench: Bench, rng: random.Random) -> None:
    run = bench.fresh("run")
    first, second = bench.train(run), bench.train(run, "--seed", 1)
    codes = sorted([first.end(), second.end()])
    assert codes == [0, 2], f"{codes}\n{first.text}\n{second.text}"
    loser = first if first.process.exitcode else second
    bench.refused(loser)
    seed = yaml.safe_load((run / "config.yaml").read_text())["training"]["seed"]
    assert seed == (1 if loser is first else 0), "the configuration of the one that was refused"
    if seed == 0:
        bench.same(run)


def no_memory(bench: Bench, rng: random.Random) -> None:
    run = bench.fresh("run")
    kind = rng.choice(["python", "device", "limit"])
    program = bench.train(run, plant=("no_memory", rng.randrange(STEPS), kind))
    bench.refused(program, "out of memory", "--batch-per-device")
    bench.goes_on(run)


def image_vanishes(bench: Bench, rng: random.Random) -> None:
    """While images are read: it is skipped, and named. While a run trains: nothing; the next session tells."""
    data = Path(shutil.copytree(bench.image_folder, bench.fresh("images")))
    victim = data / f"{rng.randrange(40):02d}.png"
    run, cache = bench.fresh("run"), bench.fresh("own-cache")
    if rng.random() < 0.5:
        program = bench.train(run, data=data, cache=cache, plant=("remove_image", str(victim), rng.randrange(40)))
        assert program.end() == 0, program.text
        return
    program = bench.train(run, data=data, cache=cache)
    while not (run / "run.json").exists():
        time.sleep(0.01)
    kept = victim.read_bytes()
    victim.unlink()
    assert program.end() == 0, program.text
    bench.same(run)
    bench.refused(bench.resume(run, "--kimg", 0.2, cache=cache), "have changed", "restore")
    victim.write_bytes(kept)
    assert bench.resume(run, "--kimg", 0.2, cache=cache).end() == 0


def bad_gradients(bench: Bench, rng: random.Random) -> None:
    run, first, value = bench.fresh("run"), rng.randrange(1, STEPS), rng.choice([float("nan"), float("inf")])
    length = rng.choice([0, 1, 12])
    program = bench.train(run, plant=("poison_gradients", first, first + length, value))
    assert program.end() == 0, program.text
    finite(run)
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    assert "not finite" in (run / "index.html").read_text()


def bad_weights(bench: Bench, rng: random.Random) -> None:
    run, value = bench.fresh("run"), rng.choice([float("nan"), float("inf")])
    part = rng.choice(["G", "D", "average", "w_avg", "optimiser", "path length"])
    program = bench.train(run, plant=("poison_state", rng.randrange(1, STEPS), part, value))
    assert program.end() == 0, program.text
    finite(run)
    (event,) = json.loads((run / "run.json").read_text())["events"]
    assert "went back" in event
    assert "warning: diverged" in program.text


class Fault(NamedTuple):
    what: str
    happen: Callable[[Bench, random.Random], None]
    times: int


FAULTS = {
    f.happen.__name__: f
    for f in (
        Fault("kill −9 at a random moment", kill_anywhen, 50),
        Fault("kill −9 in the middle of a file operation, checkpoints' included", kill_while_writing, 50),
        Fault("SIGTERM, with 5 seconds until the end", terminate, 10),
        Fault("SIGHUP (a terminal that closes), half the time with output that fails", hang_up, 10),
        Fault("SIGHUP to two processes", hang_up_together, 5),
        Fault("one of two processes suspended", suspended, 5),
        Fault("two processes where this machine's name does not resolve", without_a_name, 5),
        Fault("disk full (a small tmpfs), then room again", full_disk, 10),
        Fault("disk full at any one file operation", full_disk_anywhere, 20),
        Fault("limit on the size of a file", file_too_large, 5),
        Fault("read-only output", read_only, 10),
        Fault("newest checkpoint cut short or a bit flipped, in any of its files", damaged_checkpoint, 100),
        Fault("all checkpoints damaged", all_checkpoints_damaged, 5),
        Fault("another file of the run cut short or a bit flipped", damaged_facts, 30),
        Fault("config.yaml edited by hand", edited_config, 60),
        Fault("clock jumping, to and fro by up to 30 years", clock, 10),
        Fault("cache deleted, cut short, changed, half built", cache_gone, 12),
        Fault("two runs begun in one directory at once", two_at_once, 10),
        Fault("out of memory, simulated and by a limit", no_memory, 12),
        Fault("an image vanishing while it is read, or in mid-run", image_vanishes, 10),
        Fault("nan or infinity in gradients", bad_gradients, 10),
        Fault("nan or infinity in weights, averages, optimisers", bad_weights, 12),
    )
}


def trials(name: str, count: int) -> Iterator[random.Random]:
    """A source of chance for each trial: the same ones every time."""
    return (random.Random(f"{name} {i}") for i in range(count))
