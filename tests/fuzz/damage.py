"""Ways to damage what is otherwise right, and the program run within this process."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from unittest import mock

from hypothesis import strategies as st

from frugan.cli import main

OF_PYTHON = re.compile(r"\b\w+(Error|Exception)\b|NoneType|Traceback| object at 0x")
"""Nothing that a reason holds which is given to a user: names of Python's errors and types, addresses of objects."""

EVIL = ("../../evil.png", "/evil.png", "..\\..\\evil.png", "a/../../evil.png", "C:/evil.png")


@st.composite
def damaged(draw: st.DrawFn, contents: list[bytes]) -> bytes:
    """One of the contents with bytes flipped, overwritten, cut out, put in, the end lost, or another's piece inside."""
    data = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(1, 4))):
        at, length = draw(st.integers(0, len(data))), draw(st.integers(1, 32))
        kind = draw(st.sampled_from(["flip", "overwrite", "cut", "insert", "end", "splice", "extreme"]))
        if kind == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "overwrite":
            data[at : at + length] = draw(st.binary(min_size=1, max_size=32))
        elif kind == "cut":
            del data[at : at + length]
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=32))
        elif kind == "end":
            del data[at:]
        elif kind == "splice":
            other = draw(st.sampled_from(contents))
            data[at:at] = other[draw(st.integers(0, len(other))) :][: 8 * length]
        elif kind == "extreme":
            data[at : at + 4] = draw(st.sampled_from([b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff", b"\xff" * 4, bytes(4)]))
    return bytes(data)


SMALL_RUN = (
    "--preset", "tiny", "--batch", "4", "--channel-base", "64", "--channel-max", "8",
    "--kimg", "0.008", "--device", "cpu",
)  # fmt: skip
"""Options of a training of two steps."""


def program(*arguments: str) -> tuple[int, str]:
    """(exit code, what it printed) of `frugan …`; an exception that it lets through is raised here."""
    printed = io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["frugan", *arguments]),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0), printed.getvalue()
    return 0, printed.getvalue()
