"""Networks in the hub's conventions: in a directory, and over HTTP with a small hub of our own."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
import yaml
from huggingface_hub.utils import validate_repo_id
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import frugan
from conftest import GOLDEN
from frugan.errors import FruganError
from frugan.interop import Imported, read_network, read_release
from frugan.interop.hub import FILES
from frugan.interop.model_card import SAMPLES, Provenance, _address, model_card
from frugan.networks import Generator, GeneratorConfig, MappingConfig, SynthesisConfig
from frugan.pixel_format import PixelFormat
from frugan.run.load import generator_folder, read_class_names, read_source

SYNTHESIS = SynthesisConfig(channel_base=64, channel_max=8)


def small(label_size: int = 0, channels: int = 1, pixels: PixelFormat | None = None) -> Generator:
    mapping = MappingConfig(num_layers=2)
    return Generator(GeneratorConfig((12, 16), channels, label_size, 8, 8, mapping, SYNTHESIS, pixels=pixels))


def assert_same(ours: torch.nn.Module | None, theirs: torch.nn.Module | None) -> None:
    assert ours is not None
    assert theirs is not None
    assert all(torch.equal(v, theirs.state_dict()[k]) for k, v in ours.state_dict().items())


class Hub(ThreadingHTTPServer):
    """What the hub's client asks for: commits of repositories held in memory."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.repos: dict[str, dict[str, bytes]] = {}
        self.tokens: set[str | None] = set()
        self.downloads: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @staticmethod
    def commit(files: dict[str, bytes]) -> str:
        return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


class Answers(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def answer(self, value: object, status: int = 200, **headers: str) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        self.server.tokens.add(self.headers["Authorization"])
        parts = urlsplit(self.path).path.strip("/").split("/")
        repo = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        files = self.server.repos.get(repo)
        if files is None:
            self.answer({"error": "no such repository"}, 404, X_Error_Code="RepoNotFound")
        elif parts[0] == "api" and parts[4] == "revision" and parts[5] != "main":
            self.answer({"error": "no such revision"}, 404, X_Error_Code="RevisionNotFound")
        elif parts[0] == "api" and parts[4] == "tree":
            blob = lambda body: hashlib.sha1(body).hexdigest()  # noqa: E731
            tree = [{"type": "file", "path": k, "size": len(v), "oid": blob(v)} for k, v in files.items()]
            self.answer(tree)
        elif parts[0] == "api":
            siblings = [{"rfilename": name} for name in files]
            self.answer({"id": repo, "modelId": repo, "sha": Hub.commit(files), "siblings": siblings, "tags": []})
        else:
            name = parts[-1]
            if self.command == "GET":
                self.server.downloads.append(name)
            etag = f'"{hashlib.sha1(files[name]).hexdigest()}"'
            self.answer(files[name], ETag=etag, X_Repo_Commit=Hub.commit(files))

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.server.tokens.add(self.headers["Authorization"])
        if self.headers["Transfer-Encoding"] == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        parts = urlsplit(self.path).path.strip("/").split("/")
        if parts[:3] == ["api", "repos", "create"]:
            asked = json.loads(body)
            repo = f"{asked.get('organization') or 'me'}/{asked['name']}"
            if repo in self.server.repos:
                self.answer({"url": f"{self.server.address}/{repo}", "error": "it exists"}, 409)
            else:
                self.server.repos[repo] = {}
                self.answer({"url": f"{self.server.address}/{repo}"})
            return
        if parts[-1] == "validate-yaml":
            self.answer({"errors": [], "warnings": []})
            return
        repo = "/".join(parts[2:4])
        if parts[4] == "preupload":
            names = [entry["path"] for entry in json.loads(body)["files"]]
            self.answer({"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})
        elif parts[4] == "commit":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "deletedFile":
                    del self.server.repos[repo][line["value"]["path"]]
                if line["key"] == "file":
                    self.server.repos[repo][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            sha = Hub.commit(self.server.repos[repo])
            self.answer({"commitUrl": f"{self.server.address}/{repo}/commit/{sha}", "commitOid": sha, "success": True})
        else:
            self.answer({"error": self.path}, 404)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    constants = pytest.importorskip("huggingface_hub.constants")
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_directory(tmp_path: Path) -> None:
    G = small()
    path = frugan.save_pretrained(G, tmp_path / "critters")
    assert {p.name for p in path.iterdir()} == {"README.md", SAMPLES, "config.json", "model.safetensors"}
    for found in (frugan.from_pretrained(path), frugan.from_pretrained(str(path)), frugan.load(path)):
        assert_same(found, G)
        assert found.config == G.config
        assert not found.training
    (path / "README.md").write_text("my own words")
    frugan.save_pretrained(G, path)
    assert (path / "README.md").read_text() == "my own words"


@pytest.mark.parametrize("label_size, names", [(0, None), (2, None), (2, ["cat", "dog"])])
def test_the_card(label_size: int, names: list[str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its header is what the hub reads, and its code runs."""
    G = small(label_size)
    text = model_card(G, "me/critters", names)
    _, header, body = text.split("---\n", 2)
    facts = yaml.safe_load(header)
    assert facts["library_name"] == "frugan"
    assert "stylegan2" in facts["tags"]
    assert "license" not in facts
    assert body.strip().startswith("# critters")
    assert ("cat, dog" in body) == bool(names)
    frugan.save_pretrained(G, tmp_path / "me" / "critters")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, torch.Tensor] = {}
    exec(body.split("```python\n")[1].split("```")[0], scope)
    assert scope["images"].shape == (16, 1, 12, 16)


@pytest.mark.parametrize("channels", [1, 2])
def test_the_card_says_what_numbers_the_data_holds(channels: int) -> None:
    G = small(channels=channels)
    assert f"12×16 pixels, {channels} channel{'s' * (channels > 1)} |" in model_card(G, "me/scans")
    assert "Numbers of the data" not in model_card(G, "me/scans")
    measured = small(channels=channels, pixels=PixelFormat("int16", ((-1024.0, 958.0),)))
    assert "| Numbers of the data | int16, -1024 to 958 |" in model_card(measured, "me/scans")


@given(st.text(max_size=120) | st.text('aZ0 .-_"ü\n\\', max_size=120))
def test_the_address_on_a_card_is_one_of_the_hub_whatever_the_run_is_called(name: str) -> None:
    validate_repo_id(_address(f"USER/{name.replace('/', '')}"))


@pytest.mark.parametrize("name", ["me/cats", "me/cats-2_small.v1", "cats"])
def test_an_address_of_the_hub_stays_as_it_is(name: str) -> None:
    assert f'"{name}"' in model_card(small(), name)


def test_the_card_says_whence_it_comes(tmp_path: Path) -> None:
    rows = {"Data": "12 images | of cats", "Figures": "kid 0.1"}
    text = model_card(small(), "me/cats", None, Provenance(rows, "cc0-1.0"))
    header, body = text.split("---\n", 2)[1:]
    assert yaml.safe_load(header)["license"] == "cc0-1.0"
    assert "| Data | 12 images \\| of cats |" in body
    assert "| Figures | kid 0.1 |" in body
    assert "| Licence | cc0-1.0 |" in body
    assert f"]({SAMPLES})" in body
    assert "which images it learned from" not in body
    assert "its licence" not in body
    bare = model_card(small(), "me/cats")
    assert "which images it learned from" in bare
    assert "| Licence | to be decided by its owner |" in bare
    frugan.save_pretrained(small(2), tmp_path / "labelled")
    with Image.open(tmp_path / "labelled" / SAMPLES) as grid:
        assert grid.size == (8 * (16 + 4) + 4, 2 * (12 + 4) + 4)


def test_up_and_down(hub: Hub, tmp_path: Path) -> None:
    """All of an import goes up; a generator for use comes down alone, and all of it to train on from."""
    released = read_release(GOLDEN / "nvidia_pytorch.pkl")
    (tmp_path / "network").mkdir()
    (tmp_path / "network" / "private.txt").write_text("not to be uploaded")
    names = ["a", "b"]
    frugan.save_pretrained(
        released,
        tmp_path / "network",
        class_names=names,
        push_to_hub=True,
        repo_id="me/faces",
        token="hf_x",
        private=True,
    )
    assert set(hub.repos["me/faces"]) == {*FILES, "README.md", SAMPLES}
    assert b'from_pretrained("me/faces")' in hub.repos["me/faces"]["README.md"]
    assert "Bearer hf_x" in hub.tokens

    assert_same(frugan.from_pretrained("me/faces", cache_dir=tmp_path / "other", token="hf_y"), released.generator)
    assert set(hub.downloads) == {"config.json", "model.safetensors"}
    assert "Bearer hf_y" in hub.tokens
    assert_same(frugan.load("hf:me/faces"), released.generator)
    assert_same(frugan.load(Path("hf:me/faces")), released.generator)
    assert read_class_names("hf:me/faces") == read_class_names(tmp_path / "network") == names
    everything = read_source("hf:me/faces")
    assert_same(everything.raw_generator, released.raw_generator)
    assert_same(everything.discriminator, released.discriminator)
    assert everything.p == released.p
    assert_same(read_network(generator_folder("hf:me/faces")).discriminator, released.discriminator)

    before = len(hub.downloads)
    frugan.save_pretrained(released, tmp_path / "network", push_to_hub=True, repo_id="me/faces")  # it exists: no error
    assert_same(frugan.from_pretrained("me/faces", local_files_only=True), released.generator)
    assert len(hub.downloads) == before

    frugan.save_pretrained(released.generator, tmp_path / "network", push_to_hub=True, repo_id="me/faces")
    assert set(hub.repos["me/faces"]) == {"config.json", "model.safetensors", "README.md", SAMPLES}
    assert read_source("hf:me/faces").discriminator is None


def test_what_cannot_be_had(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frugan.save_pretrained(small(), tmp_path / "network", push_to_hub=True, repo_id="me/critters")
    for source, options in (
        ("me/nothing", {}),
        ("me/critters", {"revision": "no-such-branch"}),
        ("me/nothing", {"local_files_only": True}),
        ("no/such/place", {}),
    ):
        with pytest.raises(FruganError, match=f"{source} is no directory here, and cannot be had from the hub: ."):
            frugan.from_pretrained(source, **options)  # pyright: ignore[reportArgumentType]
    hub.repos["me/critters"].pop("model.safetensors")
    with pytest.raises(FruganError, match="holds no generator"):
        frugan.from_pretrained("me/critters")
    with pytest.raises(FruganError, match='give repo_id="user/name"'):
        frugan.save_pretrained(small(), tmp_path / "network", push_to_hub=True)
    with pytest.raises(FruganError, match="not/a/name could not be uploaded"):
        frugan.save_pretrained(small(), tmp_path / "network", push_to_hub=True, repo_id="not/a/name")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FruganError, match=r"pip install 'frugan\[hub\]'"):
        frugan.load("hf:me/critters")


def test_a_generator_alone_is_an_import_too(tmp_path: Path) -> None:
    G = small()
    frugan.save_pretrained(G, tmp_path / "a")
    frugan.save_pretrained(Imported(G), tmp_path / "b")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
