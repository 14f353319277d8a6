"""Every way of writing an image's path finds its row, and no other."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from frugan.data.labels.names import clean, match

FOLDERS = st.lists(st.sampled_from(["oak", "ash", "été", "a b", "v1.0"]), max_size=3)
BASE = st.text("abcdé0123_", min_size=1, max_size=6)
SETS = st.lists(st.tuples(FOLDERS, BASE), min_size=1, max_size=8, unique_by=lambda pair: pair[1].casefold())
NOTATIONS = {
    "as it is": lambda name: name,
    "no suffix": lambda name: name.rpartition(".")[0],
    "another suffix": lambda name: f"{name.rpartition('.')[0]}.tiff",
    "suffix in capitals": lambda name: f"{name.rpartition('.')[0]}.PNG",
    "no folder": lambda name: name.rpartition("/")[2],
    "dot": lambda name: f"./{name}",
    "absolute": lambda name: f"/home/me/set/{name}",
    "Windows": lambda name: "D:\\set\\" + name.replace("/", "\\"),
    "another folder": lambda name: f"there/{name.rpartition('/')[2]}",
    "below a folder": lambda name: f"set/{name}",
    "decomposed": lambda name: unicodedata.normalize("NFD", name),
    "capitals": lambda name: name.upper(),
    "blanks": lambda name: f"  {name} ",
    "all at once": lambda name: "E:\\X\\" + unicodedata.normalize("NFD", name.rpartition(".")[0].upper()),
}


@given(SETS, st.sampled_from(list(NOTATIONS)), st.randoms())
def test_every_notation_finds_the_row(found: list, notation: str, random) -> None:
    names = ["/".join([*folders, f"{base}.png"]) for folders, base in found]
    written = [clean(NOTATIONS[notation](name)) for name in names]
    keys = random.sample(written, len(written))
    matches = match(names, keys)
    assert matches.clash is None
    assert matches.keys == written


@given(SETS)
def test_rows_of_other_images_are_not_given_away(found: list) -> None:
    names = ["/".join(["test", *folders, f"{base}.png"]) for folders, base in found]
    others = [name.replace("test/", "train/", 1) for name in names]
    assert match([*others, *names], others).keys == [*others, *([None] * len(names))]


def test_the_closest_form_wins() -> None:
    assert match(["0.png"], ["oak/0.png", "0.png"]).keys == ["0.png"]
    assert match(["oak/0.png"], ["0.png", "oak/0.png"]).keys == ["oak/0.png"]
    assert match(["a.PNG", "a.jpg"], ["a.png", "a.jpg"]).keys == ["a.png", "a.jpg"]
    composed, decomposed = (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))
    assert match([composed, decomposed], [decomposed, composed]).keys == [composed, decomposed]
    assert match(["0.png"], ["oak/0.png", "ash/0.png"]).keys == [None]
    assert match(["oak/0.png", "ash/0.png"], ["0.png"]).clash == ("oak/0.png", "ash/0.png", "0.png")
