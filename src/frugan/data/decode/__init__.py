"""Image files decoded: header facts, pixels, colour management, resizing."""

from frugan.data.decode.header import FORMATS, AlphaKind, Header, ProfileUse
from frugan.data.decode.reading import read_header, read_pixels
from frugan.data.decode.resizing import FILTERS, Background, Filter, Fit, MaskFilter, convert, resize

__all__ = [
    "FILTERS",
    "FORMATS",
    "AlphaKind",
    "Background",
    "Filter",
    "Fit",
    "Header",
    "MaskFilter",
    "ProfileUse",
    "convert",
    "read_header",
    "read_pixels",
    "resize",
]
