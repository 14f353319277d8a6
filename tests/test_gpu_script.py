"""The script for a GPU: every part can be begun, what it has is kept when it is killed, and all of it runs on the CPU."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import gpu

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("dry", [True, False])
def test_every_part_names_a_function_and_its_settings(dry: bool) -> None:
    found = gpu.parts("cuda", dry)
    assert len({part.name for part in found}) == len(found)
    for part in found:
        if part.function:
            inspect.signature(gpu.function_of(part.function)).bind("cuda", keep=print, **(part.settings or {}))
            json.dumps(part.settings)
        else:
            assert all((ROOT / word).exists() for word in part.command if word.startswith("tests/"))


def test_parts_that_fail_or_take_too_long_are_told_and_leave_what_they_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that says that a part's time has passed as soon as it has written its figures."""
    code = (
        "import json, time; open('{}', 'w').write(json.dumps(dict(a=dict(ms=1.5)))); print('written', flush=True); {}"
    )
    slow = gpu.Part("slow", 100, command=("-c", code.format(tmp_path / "slow.json", "time.sleep(600)")))
    broken = gpu.Part("broken", 100, command=("-c", "raise ValueError('no such thing')"))
    monkeypatch.setattr(gpu, "GRACE", 0.1)
    now, deadline = [0.0], 250.0
    monkeypatch.setattr(gpu.time, "monotonic", lambda: now[-1])
    ended = [gpu.wait(broken, gpu.run(broken, tmp_path, "cpu", tmp_path), 0.0, deadline, tmp_path)]
    for started, later in ((0.0, 101.0), (200.0, 251.0)):
        process = gpu.run(slow, tmp_path, "cpu", tmp_path)
        while not (tmp_path / "slow.log").read_bytes():
            assert process.poll() is None
            time.sleep(0.02)
        now.append(later)
        ended.append(gpu.wait(slow, process, started, deadline, tmp_path))
    text = gpu.summary(ended, tmp_path, "a machine")
    assert "| broken |" in text
    assert "failed (1): ValueError: no such thing" in text
    assert "killed after 101 s" in text
    assert "killed after 51 s" in text
    assert "| a | 1.5 |" in text


def test_tests_whose_time_has_passed_tell_of_their_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "GRACE", 60)  # on a busy machine
    (tmp_path / "test_two.py").write_text(
        "import time\ndef test_a(): assert 1 + 1 == 3\ndef test_b(): print('begun'); time.sleep(600)\n", "utf-8"
    )
    words = ("-m", "pytest", "-s", "-p", "no:cacheprovider", str(tmp_path / "test_two.py"))
    part = gpu.Part("two", 100, command=words)
    process = gpu.run(part, tmp_path, "cpu", tmp_path)
    while "begun" not in (tmp_path / "two.log").read_text("utf-8"):
        assert process.poll() is None
        time.sleep(0.05)
    assert gpu.wait(part, process, time.monotonic() - 100, time.monotonic() + 100, tmp_path).how.startswith("killed")
    assert "assert (1 + 1) == 3" in (tmp_path / "two.log").read_text("utf-8")


@pytest.mark.slow
def test_all_of_it_runs_on_the_cpu(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--dry-run", "--minutes", "60", "--out", tmp_path]
    parts = (
        "tests",
        "learns",
        "resumes",
        "speed-auto-256",
        "profile",
        "roofline",
        "generate-256",
        "augment",
        "uses",
        "start",
    )
    subprocess.run([*command, "--only", *parts], check=True, cwd=ROOT)
    assert "failed" not in (tmp_path / "gpu.md").read_text("utf-8")
