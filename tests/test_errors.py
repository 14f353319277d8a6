"""Text from files is shown, not sent to the terminal."""

from __future__ import annotations

import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from frugan.errors import plain, shown


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


@given(st.text(max_size=50))
@settings(deadline=None)
def test_plain_text_steers_no_terminal(text: str) -> None:
    told = plain(text)
    assert not [c for c in told if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    assert plain(told) == told
    assert told.count("\n") == text.count("\n")
    assert plain("é 漢字 \u00a0 ─ ✓") == "é 漢字 \u00a0 ─ ✓"
