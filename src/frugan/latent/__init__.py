"""Tools for a trained generator: directions, edits, paths, blending, projection, tuning."""

from frugan.latent.labels import LabelPart, label_lines, label_parts, outside, parse_label, sweep_labels

__all__ = ["LabelPart", "label_lines", "label_parts", "outside", "parse_label", "sweep_labels"]
