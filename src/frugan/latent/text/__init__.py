"""Editing by words: joint models of images and text, and the methods that move a generator's images by them."""

from frugan.latent.text.models import JOINT_MODELS, JointModel, open_model
from frugan.latent.text.prompts import Prompt, change, prompt_vector

__all__ = ["JOINT_MODELS", "JointModel", "Prompt", "change", "open_model", "prompt_vector"]
