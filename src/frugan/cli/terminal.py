"""The terminal: what is printed steers it nowhere, and ends nothing when a window closes or a reader goes."""

from __future__ import annotations

import errno
import io
import logging
import os
import re
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from frugan.errors import plain

LONGEST_SENTENCE = 4000
GONE = (errno.EPIPE, errno.EIO, errno.ENXIO)


for _size in ("COLUMNS", "LINES"):  # of a terminal that nobody has (0 prints nothing): the real one's count then
    if not re.fullmatch(r"[1-9]\d{1,2}", os.environ.get(_size, "80")):
        del os.environ[_size]


class _Console(Console):
    """Prints control characters, in names from files for instance, as escapes."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(plain(text), **options)


console = _Console(highlight=False)


class PlainFormatter(logging.Formatter):
    """A log's line, without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))


def sentence(text: object) -> str:
    """The message of an error that ends the program: without control characters, and never longer than a screen."""
    told = str(text)
    half = LONGEST_SENTENCE // 2
    return plain(told if len(told) <= LONGEST_SENTENCE else f"{told[:half]}…{told[-half:]}")


class _Output(io.FileIO):
    """A file that drops what can be shown to nobody any more."""

    def write(self, data, /) -> int:  # type: ignore[no-untyped-def, override]
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in GONE:
                raise
            _silence(self.fileno())  # from here on, for libraries that write to it themselves too
            return len(data)


def _silence(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def flush(stream: TextIO | None) -> None:
    """Writes out what waits in a stream, if there is one. Where that fails, as on a full disk, it is dropped, and the error
    is raised: the interpreter's end would make a traceback of it."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        _silence(stream.fileno())
        raise


def outlasting(stream: TextIO) -> TextIO:
    """The stream, over the same file; characters that it cannot encode become escapes: file names need not be text."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream  # none, or a test's
    try:
        number = stream.fileno()
    except OSError:
        stream.reconfigure(errors="backslashreplace")
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Output(number, "w", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
    )
