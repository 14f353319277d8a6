"""The one exception that means "the user can fix this", and what the system's own errors mean to a user."""

from __future__ import annotations

import errno
import re
import unicodedata
import zlib
from collections.abc import Iterable, Sequence


class FruganError(ValueError):
    """A mistake in what the user gave: a path, a file, an option, a combination.

    The message is one sentence (or a few short ones) that names the value, the limit and the remedy. The command line
    prints it without a traceback and exits with `exit_code`.
    """

    exit_code = 2


def shown(text: object, longest: int = 200) -> str:
    """Text from a file, fit for a sentence or a terminal: control characters as escapes, long text cut in the middle.

    Whatever came from outside (names of files, of classes, of labels) goes through here before anybody reads it: escape
    sequences reach a terminal as text, never as commands.
    """
    try:
        text = str(text)
    except ValueError:  # Python writes out no integer of more than some thousand digits
        text = "a number of thousands of digits"
    if len(text) > longest:
        text = f"{text[: longest * 2 // 3]}…{text[-(longest // 3) :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def counted(number: int, word: str) -> str:
    """ "1 image", "2 images"."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def abbreviated(names: Sequence[str], most: int = 3) -> str:
    """The first `most` names as a part of a sentence, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def by_reason(items: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """(names, reason), fit for a terminal, from (name, reason) of files: those of one reason are told in one line."""
    names: dict[str, list[str]] = {}
    for name, reason in items:
        names.setdefault(reason, []).append(shown(name))
    return [(abbreviated(those), shown(reason)) for reason, those in names.items()]


def fault(error: BaseException, otherwise: str = "it is damaged or cut short") -> str:
    """The reason why something could not be read, as a part of a sentence, without names of Python's errors.

    Args:
        error: what a reader raised. A broken file makes readers raise anything at all.
        otherwise: the reason where the error's own text tells nothing to who does not know the reader's source.
    """
    from PIL import UnidentifiedImageError

    text = next(iter(str(error).strip().splitlines()), "").strip()
    text = shown(re.sub(r"\b\w+(Error|Exception): ", "", text))  # an error of the library that it calls
    if isinstance(error, UnidentifiedImageError):
        return "no image in a known format, or its beginning is damaged"
    if isinstance(error, KeyError) and text:
        return f"{text} is missing in it"
    if isinstance(error, UnicodeError):
        return "it holds text in another encoding than it should, or is damaged"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, zlib.error):
        return "its compressed data are damaged"
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        return error.strerror
    silent = (AttributeError, TypeError, LookupError, AssertionError, ArithmeticError)
    return otherwise if isinstance(error, silent) or not text else text


def plain(text: str) -> str:
    """Text as a terminal may have it: what would steer it, or turn its direction, as escapes; lines stay lines.

    The last guard, for whatever is printed; `shown` is for each name from a file, and cuts it too.
    """
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(c.encode("unicode_escape").decode("ascii") if _steers(c) else c for c in text)


def _steers(c: str) -> bool:
    return c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")


_ROOM = "make room on that disk, or move the files to another one"
_PLACE = "check the permissions, or name another place"

REMEDIES = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), or use another file system",
    errno.EROFS: _PLACE,
    errno.EACCES: _PLACE,
    errno.EPERM: _PLACE,
    errno.EIO: "check that disk",
    errno.ENOENT: "check the path, and that nothing removes it meanwhile",
    errno.ENOTDIR: "a part of that path is a file; name another place",
    errno.EISDIR: "name a file, not a folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENOMEM: "close other programs, or use a machine with more memory",
}

_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


def explain(error: BaseException) -> str | None:
    """The system's failure and what helps, in one sentence; None for an error that is not the system's."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in text.lower() for words in _NO_MEMORY)
    ):
        return (
            f"out of memory{f' ({text[:200]})' if text else ''}; lower --batch-per-device (of a run under way: "
            "training.batch_per_device in its config.yaml), --resolution or --channel-max"
        )
    if isinstance(error, OSError) and error.errno is not None:
        where = f"{error.filename2 or error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or text}; {REMEDIES.get(error.errno, 'check that file and its disk')}"
    return None
