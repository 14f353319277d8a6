"""The run's page: whole from any directory, safe from any name, and never in need of a network."""

from __future__ import annotations

import json
import re
import time
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from frugan.files import write_json
from frugan.images import save_image
from frugan.tracking import Histogram, JsonLines, Page
from frugan.tracking.report.charts import POINTS, charts, thin
from frugan.tracking.report.page import find_samples
from frugan.tracking.tracker import Record

HOSTILE = """</script><script>alert(1)</script><img src=x onerror="alert('2')">&amp;"""


class Reader(HTMLParser):
    """All tags with attributes, all visible text, and the content of each script and style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self._open = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        self.raw.get(self._open, self.text).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def data(self) -> dict[str, Any]:
        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is not JSON")

        (at,) = [i for i, s in enumerate(self.all("script")) if s.get("id") == "data"]
        return json.loads(self.raw["script"][at], parse_constant=refuse)


def records(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    bins = [0] * 64
    bins[30:34] = [10, 20, 30, 4]
    logits = {"mean": 0.1, "std": 0.6, "min": -1, "max": 1, "count": 64, "not_finite": 0}
    logits |= {"edges": [-16, 16], "below": 0, "counts": bins, "above": 0}
    names = ("p", "r_t", "loss/generator", "loss/discriminator", "penalty/r1", "penalty/path_length", "path_length")
    names += ("grad_norm/generator", "grad_norm/discriminator", "seconds_per_kimg", "host_memory_bytes")
    return [
        {"kimg": 4.0 * i, "images": 4000 * i, "seconds_total": 16.0 * i, "r_v": None, "non_finite": 0.0}
        | dict(zip(names, rng.random(len(names)).tolist()))
        | {f"logits/{source}": logits for source in ("real", "generated", "held_out")}
        | ({"metric/kid": 1 / i, "metric/recall": i / 1000} if i % 10 == 0 else {})
        for i in range(1, count + 1)
    ]


def fill(run: Path, *, name: str = "critters", count: int = 40, warnings: tuple[str, ...] = ()) -> Path:
    """A run directory as training leaves it."""
    run.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(r, separators=(",", ":")) for r in records(count)]
    (run / "stats.jsonl").write_text("\n".join(lines) + "\n")
    pixels = np.zeros((8, 8, 3), np.uint8)
    for image in ("reals", "samples/samples-init", "samples/samples-000000", "samples/samples-000160"):
        save_image(pixels, run / f"{image}.png")
    facts = {"status": "running", "total_kimg": 500, "images_in_set": 1000, "resolution": [32, 48], "device": "cpu"}
    write_json(run / "run.json", {"name": name, **facts, "warnings": warnings, "skipped_files": [[name, "truncated"]]})
    write_json(run / "environment.json", {"cpu": name, "packages": {"torch": "2.9"}})
    controller = {"kind": "rt", "target": None, "p_max": 0.85}
    (run / "config.yaml").write_text(yaml.safe_dump({"data": {"path": name}, "controller": controller}))
    return run


def read(run: Path) -> Reader:
    return Reader(Page(run).write().read_text("utf-8"))


def test_says_what_the_run_directory_holds(tmp_path: Path) -> None:
    page = read(fill(tmp_path, warnings=("p rests at its cap",)))
    text = re.sub(r"\s+", " ", " ".join(page.text))
    for words in ("critters", "running", "160 of 500 kimg", "1,000", "32×48", "p rests at its cap", "truncated"):
        assert words in text
    assert "controller.p_max" in text
    assert "packages.torch" in text
    assert page.all("progress") == [{"max": "500", "value": "160.0", "aria-label": "progress"}]
    images = page.all("img")
    assert [i["src"] for i in images if i["src"] == "reals.png"] == ["reals.png"]
    assert images[0]["src"] == "samples/samples-000160.png"  # the newest
    assert all(i.get("alt") for i in images)
    assert [s["label"] for s in page.data["samples"]] == ["before training", "0 kimg", "160 kimg"]
    assert [c["title"] for c in page.data["charts"]] == [
        "Augmentation",
        "Discriminator outputs",
        "Discriminator outputs now",
        "Losses",
        "kid",
        "recall",
        "Penalties",
        "Path length",
        "Gradient norms",
        "Speed",
        "Peak memory",
    ]


def test_signs_of_life_of_a_running_run(tmp_path: Path) -> None:
    """The page's own script tells how old it is; the page of a run that ended, or of an earlier version, has none."""
    run = fill(tmp_path)
    facts = json.loads((run / "run.json").read_text())
    assert not read(run).all("time")
    write_json(run / "run.json", {**facts, "kimg": 163.5, "sign_of_life": "2026-11-26T10:00:00+00:00"})
    page = read(run)
    assert page.all("time") == [{"id": "life", "datetime": "2026-11-26T10:00:00+00:00"}]
    assert page.all("progress")[0]["value"] == "163.5"  # of the last sign, later than the last record
    assert "no sign of life for" in "".join(page.raw["script"])
    write_json(run / "run.json", {**facts, "status": "finished", "sign_of_life": "2026-11-26T10:00:00+00:00"})
    assert not read(run).all("time")


def test_needs_no_network(tmp_path: Path) -> None:
    page = read(fill(tmp_path))
    here = {"reals.png", "data:,"} | {f"samples/samples-{k}.png" for k in ("init", "000000", "000160")}
    addresses = {
        attrs[key] for _, attrs in page.tags for key in ("src", "href", "srcset", "action", "data") if key in attrs
    }
    assert addresses == here
    assert not [attrs for attrs in page.all("link") if attrs.get("rel") != "icon"]
    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert not re.search(r"url\(|@import", "".join(page.raw["style"]))
    assert not re.search(r"\bfetch\(|XMLHttpRequest|WebSocket|\bimport\(|sendBeacon", "".join(page.raw["script"]))
    assert "Copyright (c) 2022 Leon Sorokin" in "".join(page.raw["script"])  # the chart library's licence asks for it


def test_a_browser_runs_the_pages_own_scripts_and_nothing_else(tmp_path: Path) -> None:
    """Every inline script and style has its hash in the policy, no element has a handler or style of its own."""
    for page in (read(fill(tmp_path / "a")), read(fill(tmp_path / "b", name=HOSTILE))):
        (policy,) = [m["content"] or "" for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
        allowed = {
            what: sources.split() for what, _, sources in (part.strip().partition(" ") for part in policy.split(";"))
        }
        assert {"'none'"} == {*allowed["default-src"], *allowed["base-uri"], *allowed["form-action"]}
        for tag in ("script", "style"):
            data = [attrs.get("type") == "application/json" for attrs in page.all(tag)]
            assert not [attrs for attrs in page.all(tag) if attrs.get("src")]
            own = [text for text, is_data in zip(page.raw[tag], data, strict=True) if not is_data]
            hashes = [f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in own]
            assert len(own) == 2
            assert allowed[f"{tag}-src"] == hashes  # no 'unsafe-inline', no address
        assert not [key for _, attrs in page.tags for key in attrs if key.startswith("on") or key == "style"]


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    honest, hostile = read(fill(tmp_path / "a")), read(fill(tmp_path / "b", name=HOSTILE))
    assert [t for t, _ in hostile.tags] == [t for t, _ in honest.tags]
    assert "".join(hostile.text).count(HOSTILE) == 5  # title, heading, skipped file, configuration, environment
    JsonLines(tmp_path / "a" / "stats.jsonl").log({"kimg": 164.0, f"metric/{HOSTILE}": 1.0, f"loss/{HOSTILE}": 1.0})
    page = read(tmp_path / "a")
    assert [t for t, _ in page.tags] == [t for t, _ in honest.tags]
    labels = [s["label"] for c in page.data["charts"] for s in c["series"]]
    assert labels.count(HOSTILE) == 2


@pytest.mark.parametrize(
    "missing",
    ["stats.jsonl", "run.json", "config.yaml", "environment.json", "reals.png", "samples", "everything"],
)
def test_what_is_missing_is_left_out(tmp_path: Path, missing: str) -> None:
    run = fill(tmp_path / "my run")
    for path in sorted(run.rglob("*"), reverse=True):
        if missing == "everything" or missing in path.relative_to(run).parts:
            path.rmdir() if path.is_dir() else path.unlink()
    page = read(run)
    text = "".join(page.text)
    assert ("my run" if missing in ("run.json", "everything") else "critters") in text
    assert bool(page.data["charts"]) == (missing not in ("stats.jsonl", "everything"))
    assert len(page.data["samples"]) == (0 if missing in ("samples", "everything") else 3)
    assert ("Configuration" in text) == (missing not in ("config.yaml", "everything"))
    assert ("Environment" in text) == (missing not in ("environment.json", "everything"))


@pytest.mark.parametrize("garbage", [b"", b"\x00\xff\xfe", b"{", b"[1, 2]", b"null", b"- : - {"])
def test_unreadable_files_are_left_out(tmp_path: Path, garbage: bytes) -> None:
    fill(tmp_path)
    for name in ("run.json", "config.yaml", "environment.json", "stats.jsonl"):
        (tmp_path / name).write_bytes(garbage)
    assert read(tmp_path).data["charts"] == []


def test_is_a_tracker_and_leaves_nothing_else_behind(tmp_path: Path) -> None:
    fill(tmp_path)
    before = {p.name for p in tmp_path.iterdir()}
    page = Page(tmp_path)
    page.log({"kimg": 1.0})
    page.close()
    assert {p.name for p in tmp_path.iterdir()} == before | {"index.html"}


def test_only_sample_sheets_are_shown_in_order_of_training(tmp_path: Path) -> None:
    names = ("samples-001000", "samples-init", "samples-000050", "samples-1000000", "samples-x", "notes")
    for name in (*names, "samples-000000.400", "samples-000050.008", "samples-001000.5"):
        save_image(np.zeros((2, 2, 3), np.uint8), tmp_path / "samples" / f"{name}.png")
    labels = [p.label for p in find_samples(tmp_path)]
    assert labels == [
        "before training",
        "0.4 kimg",
        "50 kimg",
        "50.008 kimg",
        "1,000 kimg",
        "1,000,000 kimg",
    ]


def test_a_configuration_that_was_edited_is_shown_by_the_next_page(tmp_path: Path) -> None:
    page = Page(fill(tmp_path))
    for path, shown in (("first", True), ("other", True), (None, False)):
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump({"data": {"path": path}})) if path else file.unlink()
        text = " ".join(Reader(page.write().read_text("utf-8")).text)
        assert ("data.path" in text) == shown
        assert path is None or path in text


def test_a_long_run_is_a_small_page_quickly_written(tmp_path: Path) -> None:
    page = Page(fill(tmp_path, count=2000))
    page.write()
    seconds = []
    for _ in range(3):
        began = time.process_time()
        page.write()
        seconds.append(time.process_time() - began)
    assert min(seconds) < 3
    assert (tmp_path / "index.html").stat().st_size < 400_000


# ---- charts ----


def found(title: str, given: list[Record], controller: dict[str, Any] | None = None):
    (chart,) = [c for c in charts(given, controller) if c.title == title]
    return chart


@pytest.mark.parametrize("rows", [1, 2, POINTS, POINTS + 1, 5000, 25_001])
@pytest.mark.parametrize("curves", [1, 3])
def test_thinning_keeps_ends_and_extremes(rows: int, curves: int) -> None:
    rng = np.random.default_rng(rows)
    columns = [rng.normal(size=rows) for _ in range(curves)]
    for column in columns:
        column[rng.random(rows) < 0.3] = np.nan
        column[rng.integers(rows, size=2)] = 50, -50  # spikes one record wide
    kept = thin(columns)
    assert (np.diff(kept) > 0).all()
    assert (kept[0], kept[-1]) == (0, rows - 1)
    assert len(kept) <= POINTS + 2
    for column in columns:
        assert np.nanmax(column[kept]) == np.nanmax(column)
        assert np.nanmin(column[kept]) == np.nanmin(column)


def test_a_spike_in_a_long_run_is_drawn() -> None:
    given = records(3000)
    given[1234]["loss/generator"] = 99.0
    chart = found("Losses", given)  # pyright: ignore[reportArgumentType]
    generator = next(s for s in chart.series if s.label == "generator")
    assert chart.x[list(generator.values).index(99.0)] == given[1234]["kimg"]


@pytest.mark.parametrize(
    "controller, expected",
    [
        ({"kind": "rt", "target": None, "p_max": 0.85}, {"target r_t": 0.6, "cap of p": 0.85}),
        ({"kind": "rt", "target": 0.7, "p_max": 0.0}, {"target r_t": 0.7}),
        ({"kind": "rv", "target": None, "p_max": 0.85}, {"target r_v": 0.5, "cap of p": 0.85}),
        ({"kind": "fixed", "target": None, "p_max": 0.85}, {}),
        (None, {}),
    ],
)
def test_lines_of_the_controller(controller: dict[str, Any] | None, expected: dict[str, float]) -> None:
    assert {line.label: line.y for line in found("Augmentation", records(3), controller).lines} == expected  # pyright: ignore[reportArgumentType]


def test_outputs_are_mean_and_standard_deviation_of_each_source() -> None:
    chart = found("Discriminator outputs", records(2))  # pyright: ignore[reportArgumentType]
    assert [s.label for s in chart.series] == ["real", "generated", "held out"]
    for series in chart.series:
        assert (series.values, series.low, series.high) == ([0.1] * 2, [-0.5] * 2, [0.7] * 2)


def test_newest_outputs_as_shares_with_what_lies_outside_in_the_end_bins() -> None:
    import torch

    real, generated = Histogram(), Histogram()
    real.add(torch.tensor([0.1, 0.2, 99.0, 0.6]))
    generated.add(torch.tensor([-99.0, -0.1]))
    first = {"kimg": 1.0, "logits/real": Histogram().to_dict(), "logits/generated": generated.to_dict()}
    given = [first, {"kimg": 2.0, "logits/real": real.to_dict(), "logits/generated": Histogram().to_dict()}]
    chart = found("Discriminator outputs now", given)  # pyright: ignore[reportArgumentType]
    assert [s.label for s in chart.series] == ["real", "generated"]
    shares = [{x: v for x, v in zip(chart.x, s.values) if v} for s in chart.series]
    assert shares == [{0.0: 0.5, 0.5: 0.25, 15.5: 0.25}, {-16.0: 0.5, -0.5: 0.5}]


def test_best_of_each_metric_is_marked() -> None:
    given = [{"kimg": k, "metric/kid": v, "metric/recall": v} for k, v in ((1.0, 0.3), (2.0, 0.1), (3.0, 0.2))]
    assert found("kid", given).best == (2.0, 0.1)  # pyright: ignore[reportArgumentType]
    assert found("recall", given).best == (1.0, 0.3)  # pyright: ignore[reportArgumentType]


def test_records_that_only_add_a_metric_make_no_gap() -> None:
    given: list[Record] = [{"kimg": 1.0, "loss/generator": 1.0}, {"kimg": 1.0, "metric/kid": 0.5}]
    given += [{"kimg": 2.0, "loss/generator": 2.0}, {"loss/generator": 3.0}]  # one without its kimg is not drawn
    assert list(found("Losses", given).series[0].values) == [1.0, 2.0]


def test_figures_of_a_new_term_join_their_chart() -> None:
    chart = found("Losses", [{"kimg": 1.0, "loss/generator": 1.0, "loss/consistency": 2.0}])
    assert [s.label for s in chart.series] == ["generator", "consistency"]


def test_every_colour_is_known_in_light_and_dark(tmp_path: Path) -> None:
    page = read(fill(tmp_path))
    used = {drawn["color"] for c in page.data["charts"] for drawn in (*c["series"], *c["lines"])}
    for color in used:
        assert "".join(page.raw["style"]).count(f"--{color}: #") == 2


def test_p_and_r_t_have_equal_axes_in_every_run() -> None:
    """From 0 to 1 at least, so that two runs' charts can be laid side by side."""
    for p in (0.001, 0.5):
        augmentation = charts([{"kimg": float(i), "p": p, "r_t": 0.1} for i in range(3)])[0]
        assert augmentation.title == "Augmentation"
        assert augmentation.at_least == (0.0, 1.0)
