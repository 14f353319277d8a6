"""Whether an augmentation leaks into what a generator makes: exactly where that can be known, measured where not."""

from frugan.leaks.groups import GROUPS, FiniteGroup, cyclic
from frugan.leaks.recovery import Recovery, recovery
from frugan.leaks.shares import QUESTIONS, Leak, Question, fitting, measure_leaks, question_about
from frugan.leaks.spectra import SPECTRA, Spectrum

__all__ = [
    "GROUPS",
    "QUESTIONS",
    "SPECTRA",
    "FiniteGroup",
    "Leak",
    "Question",
    "Recovery",
    "Spectrum",
    "cyclic",
    "fitting",
    "measure_leaks",
    "question_about",
    "recovery",
]
