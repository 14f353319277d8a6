"""HTML of the explorer: one page whose modules lie beside it on the server, or within it in a file of its own.

The modules import each other by bare names ("frugan/latent.js"), which an import map in the page leads to their place: an
address of the server, or a data: URL that holds the module. So there is one source, and nothing to bundle.
"""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files

_WORKER, _LICENCE = "worker.js", "onnxruntime-web.LICENSE"
MODULES = tuple(
    sorted(
        f.name for f in (files("frugan.explorer") / "assets").iterdir() if f.name.endswith(".js") and f.name != _WORKER
    )
)
"""The page's modules, by file name."""


@cache
def asset(name: str) -> str:
    """The text of one of the explorer's own files."""
    return (files("frugan.explorer") / "assets" / name).read_text("utf-8")


def server_page() -> tuple[str, str]:
    """The page as the server has it, and its Content-Security-Policy: nothing but this server's own files run."""
    imports = {f"frugan/{name}": f"./assets/{name}" for name in MODULES}
    html, hashes = _filled(imports, _main("server.js", "serverEngines"))
    policy = {
        "default-src": "'none'",
        "script-src": f"'self' {hashes['script']}",
        "style-src": hashes["style"],
        "img-src": "'self' data: blob:",
        "media-src": "blob:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return html, csp(policy)


def file_page(blocks: Mapping[str, str]) -> str:
    """The page as one file with all its data inside; `blocks` are base64 of gzip by name."""
    data = "".join(
        f'<script type="application/octet-stream" id="{name}">{text}</script>\n' for name, text in _all(blocks).items()
    )
    return _offline(data, "")


def folder_page(blocks: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The page, and the scripts beside it that hold its data, by file name: a page from disk can load scripts, but no files."""
    data, scripts = "", {}
    for name, text in _all(blocks).items():
        data += f'<script id="{name}" src="{name}.js"></script>\n'
        scripts[f"{name}.js"] = f'document.currentScript.textContent = "{text}";\n'
    return _offline(data, " 'self' file:"), scripts


def _all(blocks: Mapping[str, str]) -> dict[str, str]:
    worker = b64encode(gzip.compress(asset(_WORKER).encode(), 9, mtime=0)).decode("ascii")
    return {"worker": worker, **blocks}


def _offline(data: str, scripts: str) -> str:
    """The page without a server. Its policy allows no connection at all: what it needs is in it."""
    imports = {f"frugan/{name}": f"data:text/javascript;base64,{_base64(asset(name))}" for name in MODULES}
    html, hashes = _filled(imports, _main("in-page.js", "pageEngines"), data + f"<!--\n{asset(_LICENCE)}-->\n")
    policy = {
        "default-src": "'none'",
        "script-src": f"{hashes['script']} data: blob: 'wasm-unsafe-eval'{scripts}",
        "worker-src": "blob:",
        "style-src": hashes["style"],
        "img-src": "data: blob:",
        "media-src": "blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return html.replace("<!-- head -->", f'<meta http-equiv="Content-Security-Policy" content="{csp(policy)}">')


def _main(engine: str, opens: str) -> str:
    """The module that starts the page."""
    lines = (
        f'import {{ {opens} }} from "frugan/{engine}";',
        'import { start } from "frugan/explorer.js";',
        "",
        f"start({opens}());",
    )
    return "\n".join(lines) + "\n"


def csp(sources: Mapping[str, str]) -> str:
    """A Content-Security-Policy of directives and their sources."""
    return "; ".join(f"{what} {where}" for what, where in sources.items())


def _filled(imports: Mapping[str, str], main: str, data: str = "") -> tuple[str, dict[str, str]]:
    """The page, and the hashes of its scripts and its style for a policy; `main` is the module that starts it."""
    import_map, style = json.dumps({"imports": imports}, indent=1), asset("explorer.css")
    html = asset("explorer.html")
    for mark, text in (("style", style), ("imports", import_map), ("main", main), ("data", data)):
        html = html.replace(f"<!-- {mark} -->", text)
    return html, {"script": f"{hash_source(import_map)} {hash_source(main)}", "style": hash_source(style)}


def hash_source(text: str) -> str:
    """The source of a policy that allows one inline script or style: 'sha256-…' of its text."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode('ascii')}'"


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode("ascii")
