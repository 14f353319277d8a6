"""Evaluation report of a trained generator: what it is, quality, copying, privacy, usefulness, artefacts, and a statement."""
