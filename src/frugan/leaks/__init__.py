"""Whether an augmentation leaks into what a generator makes: exactly where that can be known, measured where not."""

from frugan.leaks.empirical import QUESTIONS, Leak, Recovery, leak, recovery
from frugan.leaks.groups import GROUPS, FiniteGroup, cyclic
from frugan.leaks.spectra import SPECTRA, Spectrum

__all__ = [
    "GROUPS",
    "QUESTIONS",
    "SPECTRA",
    "FiniteGroup",
    "Leak",
    "Recovery",
    "Spectrum",
    "cyclic",
    "leak",
    "recovery",
]
