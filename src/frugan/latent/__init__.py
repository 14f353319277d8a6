"""What one does with a frozen generator."""

from frugan.latent.labels import LabelPart, label_parts, outside, parse_label

__all__ = ["LabelPart", "label_parts", "outside", "parse_label"]
