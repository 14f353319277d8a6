"""Package metadata that depends on where a release comes from: project addresses, and absolute links in the README.

A package index shows the README without the repository's files. Where FRUGAN_REPOSITORY names the repository
(https://HOST/OWNER/NAME) and FRUGAN_REF the tag, relative links lead there; without them nothing is changed and no address
is given.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"""(?P<before>\]\(|<img [^>]*?src=")(?P<path>[^)"#\s:]+)(?P<after>[)"#])""")
_IMAGES = (".png", ".webp", ".gif", ".jpg", ".svg")


class RepositoryHook(MetadataHookInterface):
    """Fills in `readme` and `urls`."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Called by hatchling with the project table."""
        text = Path(self.root, "README.md").read_text("utf-8")
        repository, ref = os.environ.get("FRUGAN_REPOSITORY", "").rstrip("/"), os.environ.get("FRUGAN_REF", "")
        metadata["urls"] = {}
        if repository and ref:
            text = absolute_links(text, repository, ref)
            metadata["urls"] = {
                "Repository": repository,
                "Issues": f"{repository}/issues",
                "Changelog": f"{repository}/blob/{ref}/CHANGELOG.md",
                "Documentation": f"{repository}/tree/{ref}/docs",
            }
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def absolute_links(text: str, repository: str, ref: str) -> str:
    """Markdown whose relative links and images lead to `ref` of a repository."""

    def link(found: re.Match[str]) -> str:
        kind = "raw" if found["path"].endswith(_IMAGES) else "blob"
        return f"{found['before']}{repository}/{kind}/{ref}/{found['path']}{found['after']}"

    return _LINK.sub(link, text)
