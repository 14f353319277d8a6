"""Event files, read back as the protocol buffers that TensorBoard reads."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

from frugan.tracking import Histogram, TensorBoard


def events(folder: Path) -> list[Event]:
    """Every event of a folder, oldest file first: frames of length, checksum, message, checksum."""
    found: list[Event] = []
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda p: (p.stat().st_mtime_ns, p.name)):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + size]))
            data = data[size + 16 :]
    return found


def test_scalars_by_image_count(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    board.log({"kimg": 4.0, "images": 4000, "p": 0.25, "r_v": None, "loss/generator": float("nan"), "note": "text"})
    board.log({"kimg": 8.0, "metric/kid": np.float32(0.5), "loss/generator": torch.tensor(1.5)})
    board.close()
    scalars = [(e.step, v.tag, v.simple_value) for e in events(tmp_path) for v in e.summary.value]
    assert scalars == [(4000, "p", 0.25), (8000, "metric/kid", 0.5), (8000, "loss/generator", 1.5)]


def test_a_histogram_whose_sums_overflowed_is_left_out(tmp_path: Path) -> None:
    histogram = Histogram()
    histogram.add(torch.full((8,), 1e30))
    board = TensorBoard(tmp_path)
    board.log({"kimg": 4.0, "logits/real": histogram.to_dict(), "p": 0.5})
    board.close()
    assert [v.tag for e in events(tmp_path) for v in e.summary.value] == ["p"]


@pytest.mark.parametrize("scale", [0.1, 3, 40])
def test_histograms(tmp_path: Path, scale: float) -> None:
    values = torch.from_numpy(np.random.default_rng(0).normal(0.2, scale, 1000))
    histogram = Histogram()
    histogram.add(values)
    board = TensorBoard(tmp_path)
    board.log({"images": 5, "logits/real": histogram.to_dict(), "logits/held_out": Histogram().to_dict()})
    board.close()
    ((step, value),) = [(e.step, v) for e in events(tmp_path) for v in e.summary.value]
    found = value.histo
    assert (step, value.tag, found.num) == (5, "logits/real", 1000)
    assert found.sum == pytest.approx(values.sum().item(), abs=1e-2)
    assert found.sum_squares == pytest.approx(values.square().sum().item(), rel=1e-5)
    limits = np.array(found.bucket_limit)
    assert (np.diff(limits) > 0).all()
    # TensorBoard draws from the smallest value over the limits to the largest value.
    assert found.min <= limits[0]
    assert limits[:-1].max(initial=-np.inf) <= found.max
    expected, _ = np.histogram(values.float(), np.array([-np.inf, *limits[:-1], np.inf]))
    assert list(found.bucket) == expected.tolist()


def purges(found: list[Event]) -> list[int]:
    return [e.step for e in found if e.HasField("session_log")]


def test_resuming_hides_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    board.log({"images": 100, "p": 0.5})
    board.close()
    assert purges(events(tmp_path)) == []
    TensorBoard(tmp_path, purge_after=60).close()
    assert purges(events(tmp_path)) == [61]


def test_a_roll_back_hides_what_came_after_it(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    for images in (100, 200, 150, 200):
        board.log({"images": images, "p": 0.5})
    board.close()
    found = events(tmp_path)
    assert purges(found) == [150]
    assert [e.step for e in found if e.summary.value] == [100, 200, 150, 200]
