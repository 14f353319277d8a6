"""What is released: one version, the contents of sdist and wheel, links that hold elsewhere, files that others' programs read."""

from __future__ import annotations

import importlib.util
import re
import tarfile
import tomllib
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import frugan
from frugan.tracking.services import SERVICES

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
REPOSITORY, REF = "https://host.example/owner/name", "v9.9"


def build(builder: type[WheelBuilder] | type[SdistBuilder], folder: Path) -> Path:
    (made,) = builder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return Path(made)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return zipfile.ZipFile(build(WheelBuilder, tmp_path_factory.mktemp("wheel")))


def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return message_from_string(wheel.read(name).decode())


def source_files() -> set[str]:
    """Everything that stands in src/frugan, as the wheel names it."""
    home = ROOT / "src"
    found = (p for p in (home / "frugan").rglob("*") if p.is_file() and p.suffix not in (".pyc", ".pyo"))
    return {p.relative_to(home).as_posix() for p in found}


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == source_files()
    assert {"frugan/py.typed", "frugan/sample/model.safetensors"} <= names
    assert {Path(name).suffix for name in names} >= {".js", ".css", ".html", ".json"}
    assert sum(file.file_size for file in wheel.infolist()) < 8_000_000


def test_the_sdist_builds_that_wheel(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    with tarfile.open(build(SdistBuilder, tmp_path)) as packed:
        packed.extractall(tmp_path, filter="data")
    (home,) = (path for path in tmp_path.iterdir() if path.is_dir())
    top = {path.name for path in home.iterdir()}
    assert {"src", "pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "CHANGELOG.md"} <= top
    assert not top & {"tests", "docs", "studies", "benchmarks", ".venv", "runs", "demo", "dist"}
    assert not [path for path in home.rglob("*") if path.name in ("__pycache__", ".pytest_cache", ".ruff_cache")]
    (made,) = WheelBuilder(str(home)).build(directory=str(tmp_path / "again"), versions=["standard"])
    with zipfile.ZipFile(made) as again:
        assert set(again.namelist()) == set(wheel.namelist())


def test_one_version(wheel: zipfile.ZipFile) -> None:
    version = frugan.__version__
    assert metadata(wheel)["Version"] == version
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))["version"] == version
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    first = re.search(r"^## \[(\d[^\]]*)\]", changes, re.MULTILINE)
    assert (first[1] if first else "0.1.0") == version
    assert "## [Unreleased]" in changes


def test_metadata_of_the_wheel(wheel: zipfile.ZipFile) -> None:
    told = metadata(wheel)
    assert told["License-Expression"] == "Apache-2.0"
    assert told["Description-Content-Type"] == "text/markdown"
    assert told.get_payload() == (ROOT / "README.md").read_text("utf-8")
    assert told.get_all("Project-URL") is None  # none is known where it was built without one
    assert told.get_all("Dynamic") is None
    offered = set(told.get_all("Provides-Extra") or [])
    assert offered == {canonicalize_name(extra) for extra in PROJECT["optional-dependencies"]}


def test_a_release_leads_to_its_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUGAN_REPOSITORY", f"{REPOSITORY}/")
    monkeypatch.setenv("FRUGAN_REF", REF)
    with zipfile.ZipFile(build(WheelBuilder, tmp_path)) as made:
        told = metadata(made)
    assert f"Repository, {REPOSITORY}" in (told.get_all("Project-URL") or [])
    text = str(told.get_payload())
    links = re.findall(r"\]\(([^)\s]+)\)|<img [^>]*?src=\"([^\"]+)\"", text)
    assert len(links) > 10
    for path in (a or b for a, b in links):
        assert re.match(r"(https://|#)", path), path
        if path.startswith(REPOSITORY):
            kind, ref, file = path.removeprefix(f"{REPOSITORY}/").split("/", 2)
            assert (kind, ref) == ("raw" if re.search(r"\.(png|webp|gif)$", file) else "blob", REF)
            assert (ROOT / file.partition("#")[0]).exists(), file


def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LINKS = {
    "[a](docs/a.md)": f"[a]({REPOSITORY}/blob/{REF}/docs/a.md)",
    "[a](docs/a.md#part)": f"[a]({REPOSITORY}/blob/{REF}/docs/a.md#part)",
    "![a](docs/a.png)": f"![a]({REPOSITORY}/raw/{REF}/docs/a.png)",
    "[![a](docs/a.png)](docs/a.md)": f"[![a]({REPOSITORY}/raw/{REF}/docs/a.png)]({REPOSITORY}/blob/{REF}/docs/a.md)",
    '<img alt="a" src="docs/a.webp" width="9">': f'<img alt="a" src="{REPOSITORY}/raw/{REF}/docs/a.webp" width="9">',
    "[a](https://a.example/b)": "[a](https://a.example/b)",
    "[a](#part)": "[a](#part)",
    "`frugan[demo]` (docs)": "`frugan[demo]` (docs)",
}


@pytest.mark.parametrize("text", LINKS)
def test_relative_links_become_absolute(text: str) -> None:
    assert hook().absolute_links(text, REPOSITORY, REF) == LINKS[text]


def requirements(*left_out: str) -> dict[str, Requirement]:
    extras = PROJECT["optional-dependencies"]
    needs = [*PROJECT["dependencies"], *(n for name, ns in extras.items() if name not in left_out for n in ns)]
    found = [Requirement(need) for need in needs]
    return {canonicalize_name(need.name): need for need in found if need.name != "frugan"}


def pins(file: str) -> dict[str, Version]:
    lines = [line for line in (ROOT / file).read_text("utf-8").splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    return {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in lines)}


def test_the_oldest_versions_are_those_that_pyproject_allows() -> None:
    """Each at its lower bound, but where another package wants a newer one: these are counted, so that a bound that
    was raised without `.ci/oldest` is noticed."""
    needs, oldest = requirements("dev", "docs", *SERVICES), pins("constraints-oldest.txt")
    assert set(oldest) == set(needs), "run .ci/oldest, which needs uv"
    newer = set()
    for name, need in needs.items():
        assert oldest[name] in need.specifier, name
        (bound,) = (Version(s.version) for s in need.specifier if s.operator == ">=")
        if oldest[name].release[: len(bound.release)] != bound.release:
            newer.add(name)
    assert newer <= {"huggingface-hub", "transformers"}


def test_pinned_versions_are_allowed() -> None:
    pinned = pins("constraints.txt")
    for name, need in requirements().items():
        if name in pinned:
            assert pinned[name] in need.specifier, name


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_workflows(file: Path) -> None:
    text = file.read_text("utf-8")
    flow = yaml.safe_load(text)
    assert flow["permissions"] == {"contents": "read"}
    made = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"run: make ([a-z-]+)", text)) <= made
    for use in re.findall(r"uses: (\S+)", text):
        assert re.search(r"@[0-9a-f]{40}$", use) or (ROOT / use).is_file(), use
    for named in re.findall(r"constraints[\w-]*\.txt", text):
        assert (ROOT / named).is_file()


def test_the_container_copies_what_is_there() -> None:
    text = (ROOT / "Containerfile").read_text("utf-8")
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists()
            assert f"!{name}" in ignored
    extras = re.search(r"EXTRAS=(\S+)", text)
    assert extras
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])


def test_issue_forms() -> None:
    for file in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"):
        form = yaml.safe_load(file.read_text("utf-8"))
        assert {"name", "description", "body"} <= set(form)
        assert all(part["attributes"]["label"] for part in form["body"])


def test_the_readme_is_short_and_its_images_are_small() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 120
    images = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert len(images) >= 4
    assert all((ROOT / image).stat().st_size < 300_000 for image in images)
