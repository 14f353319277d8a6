"""Prompts: texts, or images in place of texts, as unit vectors of a joint model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from frugan.errors import FruganError, shown
from frugan.latent.text.models import JointModel

Prompt = str | Tensor
"""A text; or images float32 `[N, C, H, W]` in [-1, 1] whose mean vector stands for what they have in common."""
SAME = 0.9999
"""Prompts whose vectors are more alike than this say the same."""


@torch.no_grad()
def prompt_vector(model: JointModel, prompt: Prompt, templates: Sequence[str] | None = None) -> Tensor:
    """The unit vector `[d]` of a prompt: the normalised mean over templates of a text, or over images.

    Args:
        model: the joint model.
        prompt: a text, or images `[N, C, H, W]` in [-1, 1].
        templates: texts with {} in the place of the prompt; None: the model's own.

    Raises `FruganError` for an empty prompt, or a template without {}.
    """
    if isinstance(prompt, Tensor):
        if not len(prompt):
            raise FruganError("an image prompt without images: give at least one")
        vectors = torch.cat([model.images(some) for some in prompt.split(32)])
    else:
        if not prompt.strip():
            raise FruganError("an empty prompt: say in words what the image is to show, for instance 'a sad critter'")
        patterns = model.templates if templates is None else templates
        if bad := [t for t in patterns if "{}" not in t]:
            raise FruganError(
                f"template {shown(bad[0])!r}: put {{}} where the prompt belongs, for instance 'a photo of {{}}'"
            )
        vectors = model.texts([t.replace("{}", prompt.strip()) for t in patterns])
    return F.normalize(vectors.mean(0), dim=0)


def change(model: JointModel, neutral: Prompt, target: Prompt, templates: Sequence[str] | None = None) -> Tensor:
    """Δt `[d]`: the unit vector from a neutral prompt to a target prompt.

    Args:
        model: the joint model.
        neutral, target: prompts.
        templates: as in `prompt_vector`.

    Raises `FruganError` where both mean the same.
    """
    start, end = (prompt_vector(model, prompt, templates) for prompt in (neutral, target))
    if float(start @ end) > SAME:
        raise FruganError(
            f"the prompts {_name(neutral)} and {_name(target)} say the same to {model.name}: there is no way from one to the other"
        )
    return F.normalize(end - start, dim=0)


def _name(prompt: Prompt) -> str:
    return repr(shown(prompt)) if isinstance(prompt, str) else f"of {len(prompt)} images"
