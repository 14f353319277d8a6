"""Fitting variables of a generator (latents, noise, weights) to images, and the distances to fit by."""

from frugan.latent.fitting.distances import DISTANCES, Distance, open_distance
from frugan.latent.fitting.loop import FitReport, Problem, Schedule, Terms, fit

__all__ = ["DISTANCES", "Distance", "FitReport", "Problem", "Schedule", "Terms", "fit", "open_distance"]
