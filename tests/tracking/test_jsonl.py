"""JSON lines and JSON files: what is written can be read, whatever stopped the writing."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from frugan.files import write_json
from frugan.tracking import JsonLines, Trackers, read_stats
from frugan.tracking.jsonl import LONGEST


def write(path: Path, *kimgs: float) -> JsonLines:
    log = JsonLines(path)
    for kimg in kimgs:
        log.log({"kimg": kimg, "p": kimg / 100})
    return log


def kimgs(path: Path) -> list[float]:
    return [r["kimg"] for r in read_stats(path)]


def test_appends_across_openings(tmp_path: Path) -> None:
    path = tmp_path / "new" / "stats.jsonl"
    assert read_stats(path) == []
    write(path, 1.0, 2.0).close()
    write(path, 3.0)
    assert read_stats(path) == [{"kimg": k, "p": k / 100} for k in (1.0, 2.0, 3.0)]


@pytest.mark.parametrize("torn", [b'{"kimg":9.0,"lo', b'{"kimg":9.0}'[:-1], b"\x00" * 20, b'{"name":"\xc3', b"17"])
def test_torn_end_is_repaired(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "stats.jsonl"
    write(path, 1.0, 2.0)
    with path.open("ab") as file:
        file.write(torn)
    assert kimgs(path) == [1.0, 2.0]
    write(path, 3.0)
    assert kimgs(path) == [1.0, 2.0, 3.0]
    assert [json.loads(line)["kimg"] for line in path.read_text().splitlines()] == [1.0, 2.0, 3.0]


def test_a_whole_last_line_without_its_newline_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "stats.jsonl"
    path.write_text('{"kimg": 1.0}\n{"kimg": 2.0}')
    write(path, 3.0)
    assert kimgs(path) == [1.0, 2.0, 3.0]


def test_lines_longer_than_any_record_are_skipped_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "stats.jsonl"
    write(path, 1.0, 2.0)
    with path.open("ab") as file:
        for length in (LONGEST - 1, LONGEST, LONGEST + 1, 2 * LONGEST):
            file.write(b'{"name":"' + b"x" * (length - 12) + b'"}\n')
        file.write(b'{"kimg":3.0}\n')
        file.truncate(file.tell() + 100 * LONGEST)  # no end of a line in it
    tracemalloc.start()
    try:
        records = read_stats(path)
        write(path, 4.0)
        assert tracemalloc.get_traced_memory()[1] < 10 * LONGEST
    finally:
        tracemalloc.stop()
    assert [r.get("kimg") or len(r["name"]) for r in records] == [1.0, 2.0, LONGEST - 13, LONGEST - 12, 3.0]
    assert [r.get("kimg") for r in read_stats(path)] == [1.0, 2.0, None, None, 3.0, 4.0]


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "stats.jsonl")
    assert read_stats(tmp_path / "stats.jsonl") == []
    write(tmp_path / "stats.jsonl", 1.0)
    assert kimgs(tmp_path / "stats.jsonl") == [1.0]


def test_truncate_drops_what_comes_after_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "stats.jsonl"
    log = write(path, 1.0, 2.0, 3.0)
    log.truncate(after_kimg=2.0)
    assert kimgs(path) == [1.0, 2.0]
    log.log({"kimg": 2.5})
    assert kimgs(path) == [1.0, 2.0, 2.5]
    log.truncate(after_kimg=0)
    assert path.read_text() == ""
    assert [p.name for p in tmp_path.iterdir()] == ["stats.jsonl"]


def test_values_become_strict_json(tmp_path: Path) -> None:
    path = tmp_path / "stats.jsonl"
    JsonLines(path).log(
        {
            "nan": float("nan"),
            "inf": -np.inf,
            "numpy": np.float32(0.5),
            "float64": np.float64("nan"),
            "int": np.int64(3),
            "tensor": torch.tensor(2.5),
            "bad tensor": torch.tensor([1.0, torch.inf]),
            "array": np.arange(2),
            "nested": {"mean": np.nan, "edges": (1, 2)},
            "path": tmp_path,
            "text": "ü\n",
            "flag": np.bool_(True),
        }
    )

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    (line,) = path.read_text("utf-8").splitlines()
    assert json.loads(line, parse_constant=refuse) == {
        "nan": None,
        "inf": None,
        "numpy": 0.5,
        "float64": None,
        "int": 3,
        "tensor": 2.5,
        "bad tensor": [1.0, None],
        "array": [0, 1],
        "nested": {"mean": None, "edges": [1, 2]},
        "path": str(tmp_path),
        "text": "ü\n",
        "flag": True,
    }


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_json(path, {"status": "running", "worst": float("nan")})
    with pytest.raises(TypeError):
        write_json(path, {"status": object()})
    assert json.loads(path.read_text()) == {"status": "running", "worst": None}
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_names_that_are_no_text_are_read_back(tmp_path: Path) -> None:
    """As file names of bytes that are not UTF-8 come from the system."""
    write_json(tmp_path / "data.json", {"held_out": ["\udcff1.png"]})
    assert json.loads((tmp_path / "data.json").read_text()) == {"held_out": ["\udcff1.png"]}


def test_trackers_close_all_in_order_even_if_one_fails() -> None:
    events: list[tuple[str, object]] = []

    class Spy:
        def __init__(self, name: str, *, fails: bool = False) -> None:
            self.name, self.fails = name, fails

        def log(self, record: object) -> None:
            events.append((self.name, record))

        def close(self) -> None:
            events.append((self.name, "close"))
            if self.fails:
                raise OSError("disk full")

    trackers = Trackers(Spy("a", fails=True), Spy("b"))
    trackers.log({"kimg": 1})
    with pytest.raises(OSError, match="disk full"):
        trackers.close()
    assert events == [("a", {"kimg": 1}), ("b", {"kimg": 1}), ("a", "close"), ("b", "close")]
