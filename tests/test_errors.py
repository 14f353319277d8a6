"""Text from files is shown, not sent to the terminal."""

from __future__ import annotations

import builtins
import struct
import unicodedata
import zipfile
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import UnidentifiedImageError

from frugan.errors import by_reason, fault, plain, shown
from tests.fuzz.damage import OF_PYTHON


@given(st.text(max_size=300) | st.text(st.characters(codec=None), min_size=190, max_size=3000))
def test_shown_text_holds_no_control_characters_and_is_short(text: str) -> None:
    found = shown(text)
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in found)
    assert len(found) <= 10 * 200 + 1
    if text.isprintable() and len(text) <= 200:
        assert found == text


def test_what_it_looks_like() -> None:
    assert shown("\x1b]0;owned\x07") == r"\x1b]0;owned\x07"
    assert shown("a\nb\u202etxt.exe\udcff") == r"a\nb\u202etxt.exe\udcff"
    assert shown("Müller 東京 😀") == "Müller 東京 😀"
    assert shown("x" * 30_000_000) == "x" * 133 + "…" + "x" * 66
    assert shown(10**5000) == "a number of thousands of digits"


def test_files_of_one_reason_are_told_together() -> None:
    assert by_reason([]) == []
    items = [("a", "cut short"), ("b\n", "no image"), ("c", "cut short"), ("d", "cut short")]
    assert by_reason(items) == [("a, c, d", "cut short"), (r"b\n", "no image")]
    assert by_reason([*items, ("e", "cut short"), ("f", "cut short")])[0] == ("a, c, d and 2 more", "cut short")


@given(st.text(max_size=50))
@settings(deadline=None)
def test_plain_text_steers_no_terminal(text: str) -> None:
    told = plain(text)
    assert not [c for c in told if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    assert plain(told) == told
    assert told.count("\n") == text.count("\n")
    assert plain("é 漢字 \u00a0 ─ ✓") == "é 漢字 \u00a0 ─ ✓"


def _errors() -> list[BaseException]:
    """One of each kind that Python and readers of files raise, without and with a text."""
    kinds = [kind for kind in vars(builtins).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    kinds = [kind for kind in kinds if not issubclass(kind, (UnicodeError, BaseExceptionGroup))]
    kinds += [struct.error, zlib.error, zipfile.BadZipFile, UnidentifiedImageError]
    unicode = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
    return [
        unicode,
        OSError(5, "Input/output error", "a.png"),
        *(kind(*text) for kind in kinds for text in ((), ("in 3 parts",))),
    ]


@pytest.mark.parametrize("error", _errors(), ids=repr)
def test_a_fault_is_told_without_names_of_python(error: BaseException) -> None:
    told = fault(error)
    assert told
    assert not OF_PYTHON.search(told)
    assert fault(error, "it is gone") in (told, "it is gone")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("blocks of (9, 9)"), "blocks of (9, 9)"),
        (KeyError("shape"), "'shape' is missing in it"),
        (TypeError("'NoneType' object is not subscriptable"), "it is damaged or cut short"),
        (EOFError(), "it is damaged or cut short"),
        (
            UnidentifiedImageError("cannot identify image file <_io.BytesIO object at 0x7f>"),
            "no image in a known format",
        ),
        (OSError(5, "Input/output error", "/tmp/a.png"), "Input/output error"),
    ],
)
def test_what_a_fault_says(error: BaseException, told: str) -> None:
    assert fault(error).startswith(told)
