"""Run directories whose files are damaged or edited: what nothing depends on blocks no resume, the rest is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tests.faults.harness import Bench

from .damage import program
from .hostile import CASES

DEEP = "[" * 100_000
STATS = [(CASES / f"stats-{kind}.jsonl").read_text() for kind in ("text-kimg", "deep")]
REPORTS = {
    "run.json": [
        (CASES / "run-events-null.json").read_text(),
        DEEP,
        '{"events": [null, 3], "kimg": "x", "warnings": 5}',
    ],
    "best.json": [DEEP, '{"checkpoint": [1], "value": "x"}', '{"checkpoint": "../../..", "fid": null}'],
    "environment.json": ["null", DEEP, '{"torch": {"a": 1}}'],
    "start.json": ["[1]", '{"x": {}}', DEEP],
    "stats.jsonl": ['{"kimg": 0.016, "seconds_total": "x", "warnings": 5}\n', *STATS],
    "index.html": ["", "\x00", DEEP],
    "README.md": ["", "---\na: &a [*a]\n---\n", DEEP],
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("which", range(3))
def test_a_damaged_report_blocks_no_resume(which: int, bench: Bench) -> None:
    run = bench.copy(bench.half)
    for name, contents in REPORTS.items():
        with (run / name).open("a" if name == "stats.jsonl" else "w") as file:
            file.write(contents[which])
    again = bench.resume(run)
    assert again.end() == 0, again.text
    assert json.loads((run / "run.json").read_text())["kimg"] == pytest.approx(0.16)


CHANGES: list[tuple[tuple[str, ...], Any]] = [
    (("generator", "resolution"), [8192, 8192]),
    (("generator", "resolution"), [2**20, 2**20]),
    (("discriminator", "resolution"), [8192, 16]),
    (("generator", "channels"), 4096),
    (("generator", "z_dim"), 16384),
    (("generator", "mapping", "num_layers"), 1000),
    (("generator", "mapping", "layer_features"), 16384),
    (("generator", "synthesis", "channel_max"), 16384),
    (("generator", "synthesis", "channel_max"), 10**9),
    (("generator", "synthesis", "channel_base"), 1 << 27),
    (("discriminator", "channel_base"), 1 << 27),
    (("discriminator", "cmap_dim"), 10**400),
    (("discriminator", "resample_filter"), [1.0] * 3001),
    (("discriminator", "mbstd_channels"), 16384),
]


def test_networks_of_an_edited_configuration_are_refused_before_they_are_built(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frugan.run.session.build", lambda *_: pytest.fail("memory was set aside"))
    monkeypatch.setenv("FRUGAN_CACHE", str(bench.folder / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    run = bench.copy(bench.half)
    written = (run / "config.yaml").read_text()
    for place, value in CHANGES:
        config = yaml.safe_load(written)
        part = config
        for key in place[:-1]:
            part = part[key]
        part[place[-1]] = value
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        code, printed = program("resume", str(run), "--device", "cpu", "--threads", "1")
        assert code == 2, (place, printed)
        assert "config.yaml" in printed, printed
