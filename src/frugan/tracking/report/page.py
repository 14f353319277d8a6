"""A run's page: one HTML file with curves and images that opens from disk, with no network and no server."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frugan.command_line import command
from frugan.errors import shown
from frugan.files import read_json, read_yaml, write_text
from frugan.tracking.jsonl import finite, read_stats
from frugan.tracking.report.charts import charts
from frugan.tracking.text import duration, number
from frugan.tracking.tracker import Record

if TYPE_CHECKING:
    from jinja2 import Template

_SAMPLES = re.compile(r"samples-(init|\d+(?:\.\d{3})?)\.png")
"""Names of sample grids: by kimg with three decimals, as checkpoints; earlier versions rounded to whole ones."""

_THUMBNAILS = 12
_MOST_CHECKPOINTS = 200
_MOST_EVALUATIONS = 20


@dataclass(frozen=True)
class SampleImage:
    """A sample grid: its address relative to the page, and when it was made."""

    src: str
    label: str
    kimg: float = -1.0
    """-1: before training."""


@dataclass(frozen=True)
class CheckpointRow:
    """A checkpoint: the metrics that were known when it was saved, and the command that makes images with it."""

    kimg: float
    metrics: str
    is_best: bool
    command: str


@dataclass(frozen=True)
class EvaluationRow:
    """A measurement by `frugan evaluate`: its numbers as text, what is missing, and the images nearest to training images."""

    name: str
    measured: str
    values: list[tuple[str, str]]
    missing: list[tuple[str, str]]
    nearest: str | None
    """The address of a sheet, relative to the page."""
    near: str
    """How near these are, beside images that were not trained on."""


class Page:
    """Writes `index.html` of a run directory from the files found there; what is missing or unreadable is left out.

    A tracker: it rewrites the page at each record, so put it behind the one that writes stats.jsonl.
    """

    def __init__(self, run_dir: str | Path) -> None:
        self.run_dir = Path(run_dir)
        self._config: tuple[object, Any] = (None, None)

    def log(self, record: Record) -> None:
        """Rewrites the page; what it shows is read from disk."""
        self.write()

    def close(self) -> None:
        self.write()

    def write(self) -> Path:
        """Replaces the page in one step; returns its path."""
        path = self.run_dir / "index.html"
        write_text(path, self.render(), durable=False)
        return path

    def render(self) -> str:
        """The page as HTML, as it would be written now."""
        records = read_stats(self.run_dir / "stats.jsonl")
        run = _read_json(self.run_dir / "run.json")
        config = self._read_config()
        controller = config.get("controller") if isinstance(config, Mapping) else None
        drawn = charts(records, controller if isinstance(controller, Mapping) else None)
        samples = find_samples(self.run_dir)
        return _template().render(
            name=shown(run.get("name") or self.run_dir.resolve().name),
            status=shown(run.get("status") or ""),
            kimg=max(_latest(records, "kimg") or 0, finite(run.get("kimg")) or 0),
            sign_of_life=shown(run.get("sign_of_life") or "") if run.get("status") == "running" else None,
            total_kimg=finite(run.get("total_kimg")),
            facts=list(_facts(run, records)),
            written=datetime.now().astimezone().isoformat(" ", "minutes"),
            reals="reals.png" if (self.run_dir / "reals.png").is_file() else None,
            samples=samples,
            checkpoints=find_checkpoints(self.run_dir),
            evaluations=find_evaluations(self.run_dir),
            thumbnails=_spread(len(samples), _THUMBNAILS),
            data={"charts": drawn, "samples": samples},
            warnings=_sentences(run.get("warnings")),
            skipped=_sentences(run.get("skipped_files")),
            config=list(flat(config)),
            environment=list(flat(_read_json(self.run_dir / "environment.json"))),
        )

    def _read_config(self) -> Any:
        """The configuration as plain values, read anew where the file is another one; None without a readable one."""
        file = self.run_dir / "config.yaml"
        try:
            found = file.stat()
            version = found.st_ino, found.st_mtime_ns, found.st_size
            if version != self._config[0]:
                self._config = version, read_yaml(file)
        except (OSError, ValueError):
            self._config = None, None
        return self._config[1]


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    assets = files("frugan.tracking.report") / "assets"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = number
    environment.policies["json.dumps_kwargs"] = {"default": vars, "separators": (",", ":"), "allow_nan": False}
    environment.globals |= _inline(lambda name: (assets / name).read_text("utf-8"))
    return environment.from_string((assets / "page.html.j2").read_text("utf-8"))


def _inline(asset: Callable[[str], str]) -> dict[str, Any]:
    """The page's own scripts and styles, and the policy that lets a browser run these and nothing else, by their hashes."""
    library = f"/* Charts by uPlot.\n{asset('uPlot.LICENSE')}*/\n{asset('uPlot.iife.min.js')}"
    scripts, styles = [library, asset("page.js")], [asset("uPlot.min.css"), asset("page.css")]
    allowed = {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'", "img-src": "'self' file: data:"}
    allowed |= {"style-src": _hashes(styles), "script-src": _hashes(scripts)}
    policy = "; ".join(f"{what} {sources}" for what, sources in allowed.items())
    return {"scripts": scripts, "styles": styles, "policy": policy}


def _hashes(texts: Sequence[str]) -> str:
    """Sources of a Content-Security-Policy (CSP level 2): 'sha256-' and the base64 digest of each element's text."""
    digests = (b64encode(sha256(text.encode()).digest()).decode("ascii") for text in texts)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


def find_samples(run_dir: Path) -> list[SampleImage]:
    """The sample grids of a run, oldest first: before training, then by kimg."""
    found: list[tuple[float, SampleImage]] = []
    for path in (run_dir / "samples").glob("samples-*.png"):
        if match := _SAMPLES.fullmatch(path.name):
            kimg = -1.0 if match[1] == "init" else float(match[1])
            label = "before training" if kimg < 0 else f"{kimg:,.10g} kimg"
            found.append((kimg, SampleImage(f"samples/{path.name}", label, kimg)))
    return [image for _, image in sorted(found, key=lambda f: f[0])]


def find_checkpoints(run_dir: Path) -> list[CheckpointRow]:
    """The checkpoints of a run, newest first."""
    best = _read_json(run_dir / "best.json").get("checkpoint")
    rows = []
    for folder in sorted((run_dir / "checkpoints").glob("[!.]*"), reverse=True)[:_MOST_CHECKPOINTS]:
        facts = _read_json(folder / "training.json")
        images, metrics = finite(facts.get("images")), facts.get("metrics")
        if images is None:
            continue
        values = metrics.items() if isinstance(metrics, dict) else ()
        told = ", ".join(f"{shown(k)} {v:.4g}" for k, value in values if (v := finite(value)) is not None)
        rows.append(CheckpointRow(images / 1000, told, folder.name == best, command("generate", folder.resolve())))
    return rows


def find_evaluations(run_dir: Path) -> list[EvaluationRow]:
    """The measurements of a run, newest first; those while it trained are curves, and left out."""
    files = [f for f in (run_dir / "evaluations").glob("[!.]*.json") if not f.name.startswith("training-")]
    cards = [
        (shown(_table(card, "conditions").get("measured") or ""), f, card) for f in files if (card := _read_json(f))
    ]
    rows = []
    for measured, file, card in sorted(cards, key=lambda row: row[:2], reverse=True)[:_MOST_EVALUATIONS]:
        intervals = _table(card, "intervals")
        values = [
            (shown(name), number(v) + _interval(intervals.get(name)))
            for name, value in _table(card, "values").items()
            if (v := finite(value)) is not None
        ]
        sheet = file.with_name(f"{file.name.removesuffix('.json')}.nearest.png")
        samples = finite(_table(card, "protocol").get("samples"))
        rows.append(
            EvaluationRow(
                name=f"{file.stem}{f', {number(samples)} samples' if samples else ''}",
                measured=measured,
                values=values,
                missing=[(shown(k), shown(v, 1000)) for k, v in _table(card, "missing").items()],
                nearest=f"evaluations/{sheet.name}" if sheet.is_file() else None,
                near=_nearness(card.get("nearest")),
            )
        )
    return rows


def _table(card: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = card.get(name)
    return found if isinstance(found, Mapping) else {}


def _interval(value: Any) -> str:
    ends = [finite(v) for v in value] if isinstance(value, list) else []
    return f" ({number(ends[0])} to {number(ends[1])})" if len(ends) == 2 and None not in ends else ""


def _nearness(nearest: Any) -> str:
    """The nearness of the nearest sample in words."""
    first = nearest[0] if isinstance(nearest, list) and nearest and isinstance(nearest[0], Mapping) else {}
    share = finite(first.get("unseen_as_near"))
    if share is None:
        return ""
    return (
        f"Of images that were not trained on, {share:.1%} lie as near to a training image as the nearest sample does."
    )


def _facts(run: Mapping[str, Any], records: Sequence[Record]) -> Iterator[tuple[str, str]]:
    """The facts in the head of the page, as (name, value)."""
    pace = _latest(records, "seconds_per_kimg")
    if pace:
        yield "speed", f"{number(pace)} s/kimg"
    if (elapsed := _latest(records, "seconds_total")) is not None:
        yield "elapsed", duration(elapsed)
    total, kimg = finite(run.get("total_kimg")), max(_latest(records, "kimg") or 0, finite(run.get("kimg")) or 0)
    if run.get("status") == "running" and pace and total:
        yield "left, about", duration((total - kimg) * pace)
    for name in ("p", "r_t", "r_v"):
        if (value := _latest(records, name)) is not None:
            yield name, f"{value:.3f}"
    for name, title in (("images_in_set", "images"), ("held_out", "held out")):
        if count := finite(run.get(name)):
            yield title, number(count)
    if isinstance(size := run.get("resolution"), list):
        channels = run.get("channels")
        yield (
            "size",
            "×".join(map(shown, size))
            + (f", {shown(channels)} channel{'' if channels == 1 else 's'}" if channels else ""),
        )
    if run.get("device"):
        yield "device", shown(run["device"])
    if bad := sum(finite(r.get("non_finite")) or 0 for r in records):
        yield "non-finite updates", number(bad)


def _latest(records: Sequence[Record], name: str) -> float | None:
    return next((value for r in reversed(records) if (value := finite(r.get(name))) is not None), None)


def _sentences(value: Any) -> list[str]:
    """A list in run.json as text, a line for each entry; lists within it are joined."""
    entries = value if isinstance(value, list) else []
    return [": ".join(map(shown, e)) if isinstance(e, list) else shown(e, 1000) for e in entries]


def _spread(count: int, limit: int) -> list[int]:
    """Up to `limit` indices below `count`, evenly from the first to the last."""
    if count <= limit:
        return list(range(count))
    return [round(i * (count - 1) / (limit - 1)) for i in range(limit)]


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = read_json(file)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested mappings as rows (dotted name, text)."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else shown(key))
    elif isinstance(value, list) and any(isinstance(v, Mapping) for v in value):
        for i, inner in enumerate(value):
            yield from flat(inner, f"{name}.{i}")
    elif name:
        yield (
            name,
            "–"
            if value in (None, [])
            else " ".join(map(shown, value))
            if isinstance(value, list)
            else shown(value, 1000),
        )
