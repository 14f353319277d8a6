"""What one does with a frozen generator."""

from frugan.latent.labels import parse_label

__all__ = ["parse_label"]
