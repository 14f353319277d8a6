"""Labels as a person writes them."""

from __future__ import annotations

import torch
from torch import Tensor

from frugan.errors import FruganError


def parse_label(text: str | None, label_size: int, class_names: list[str] | None = None) -> Tensor | None:
    """A class's name or number, or `label_size` values joined by commas → float32 `[K]`; None for none."""
    if not label_size:
        if text is not None:
            raise FruganError(f"class {text!r}: this generator was trained without labels; leave --class out")
        return None
    if text is None:
        raise FruganError(f"this generator makes pictures by label; add --class, {_choices(label_size, class_names)}")
    if class_names and text in class_names:
        return torch.eye(label_size)[class_names.index(text)]
    if text.isdecimal() and len(text) < 10 and int(text) < label_size:
        return torch.eye(label_size)[int(text)]
    try:
        values = torch.tensor([float(part) for part in text.split(",")])
    except ValueError:
        values = torch.zeros(0)
    if len(values) != label_size or not values.isfinite().all():
        raise FruganError(f"class {text!r}: give {_choices(label_size, class_names)}")
    return values


def _choices(label_size: int, class_names: list[str] | None) -> str:
    names = f"one of {', '.join(class_names[:20])}; or " if class_names and len(class_names) == label_size else ""
    return f"{names}a number from 0 to {label_size - 1}, or {label_size} values joined by commas"
