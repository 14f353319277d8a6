"""Matching of image names with the names in a table of labels."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from frugan.data.sources.base import SUFFIXES

DEEPEST = 64  # folders of a name that are compared


@dataclass(frozen=True)
class Matches:
    """For each image the key of its row, or None; and two images that claim the same row, with its key."""

    keys: list[str | None]
    clash: tuple[str, str, str] | None = None


def clean(name: str) -> str:
    """A path in any notation with "/" between folders, without "./", doubled or leading slashes."""
    return "/".join(part for part in name.strip().replace("\\", "/").split("/") if part not in ("", "."))


def has_suffix(name: str) -> bool:
    """Whether a name ends as an image file does."""
    return name.lower().endswith(SUFFIXES)


def stem(name: str) -> str:
    """The name without the suffix of an image file, or another of three or four letters."""
    if has_suffix(name):
        return name[: name.rindex(".")]
    return re.sub(r"\.[A-Za-z]{3,4}$", "", name)


def loosest(name: str) -> str:
    """The part of a name that matching ones have in common: no folder, no suffix, no case, accents composed."""
    return _nfc(stem(clean(name).rpartition("/")[2])).casefold()


def match(names: Sequence[str], keys: Iterable[str]) -> Matches:
    """Finds the (cleaned) key of each name, the closest forms first; a form counts where a single key has it.

    A name and a key agree where they are equal, or one is the end of the other (`oak/0.png`, `C:/leaves/oak/0.png`); where
    no name agrees so, those with the longest common end do. First names are compared as written, then with accents
    composed (NFC), then in any case; each time first with the suffix, then without. No key is given away twice.
    """
    found: dict[str, str] = {}
    left, keys = list(dict.fromkeys(names)), set(keys)
    for strict in (True, False):
        for fold in (str, _nfc, lambda name: _nfc(name).casefold()):
            for cut in (str, stem):
                if not left or (found and not strict):
                    break
                new = _agreeing(left, keys, lambda name, fold=fold, cut=cut: fold(cut(name)), strict)
                if clash := _twice(new):
                    return Matches([], clash)
                found |= new
                keys -= set(new.values())
                left = [name for name in left if name not in new]
    return Matches([found.get(name) for name in names])


def _agreeing(names: Iterable[str], keys: set[str], form: Callable[[str], str], strict: bool) -> dict[str, str]:
    """name → key, for one form; `strict`: one of the two is the whole end of the other."""
    split = {name: form(clean(name)).split("/")[-DEEPEST:] for name in names}
    depth = max(map(len, split.values()))
    whole: dict[str, str | None] = {}  # None: of several keys
    ends: dict[str, str | None] = {}
    for key in keys:
        parts = form(key).split("/")
        whole["/".join(parts)] = None if "/".join(parts) in whole else key
        for n in range(1, min(len(parts), depth) + 1):
            end = "/".join(parts[-n:])
            ends[end] = None if end in ends else key
    found = {}
    for name, parts in split.items():
        own = ["/".join(parts[-n:]) for n in range(len(parts), 0, -1)]
        end = next((end for end in own if end in ends), None)
        key = None if end is None else (end == own[0] and whole.get(end)) or ends[end]
        if key and (not strict or end in (own[0], form(key))):
            found[name] = key
    return found


def _twice(found: dict[str, str]) -> tuple[str, str, str] | None:
    first: dict[str, str] = {}
    for name, key in found.items():
        if key in first:
            return first[key], name, key
        first[key] = name
    return None


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)
