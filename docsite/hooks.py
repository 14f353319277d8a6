"""Hooks of mkdocs: pages made from the code and from files of the root, and the explorer of the sample generator."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # mkdocs loads hooks by path

from docsite.links import DOCS, ROOT_IMAGES, relinked  # noqa: E402
from docsite.pages import completed, generated  # noqa: E402

EXPLORER = "explorer/sample.html"
CACHE = ROOT / ".cache" / "docs"


def export_explorer() -> Path:
    """The explorer of the sample generator as one file, kept by the hash of the package, the network included."""
    package = (ROOT / "src" / "frugan").rglob("*")
    sources = sorted(path for path in package if path.is_file() and path.suffix != ".pyc")
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    out = CACHE / f"sample-{digest}.html"
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "frugan", "export", "sample", str(out), "--format", "page"]
        subprocess.run(command, check=True, cwd=ROOT)
    return out


def on_config(config: Any) -> Any:
    config.nav = completed(config.nav)
    return config


def on_files(files: Files, *, config: Any) -> Files:
    for place, text in generated().items():
        files.append(File.generated(config, place, content=text))
    copied = {EXPLORER: export_explorer()} | {place: ROOT / name for name, place in ROOT_IMAGES.items()}
    for place, path in copied.items():
        files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    if page.file.generated_by:
        return markdown
    return relinked(markdown, DOCS / page.file.src_uri, page.file.src_uri)


def on_page_content(html: str, **_: Any) -> str:
    """Images are loaded when they are near; an option such as `--seeds` is not broken at its hyphens."""
    lazy = re.sub(r"<img (?![^>]*loading=)", '<img loading="lazy" ', html)
    return re.sub(r"<code\b[^>]*>.*?</code>", lambda code: unbroken_options(code[0]), lazy, flags=re.DOTALL)


def unbroken_options(html: str) -> str:
    """HTML whose options stand in `<span class="option">`, which site.css keeps on one line; tags are left alone."""
    pieces = re.split(r"(<[^>]*>)", html)
    pieces[::2] = [
        re.sub(r"(?<![\w-])--[a-z][\w-]*", r'<span class="option">\g<0></span>', text) for text in pieces[::2]
    ]
    return "".join(pieces)
