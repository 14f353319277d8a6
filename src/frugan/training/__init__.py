"""Training: one step, the loop around it, the state it moves, and how that state is kept."""

from frugan.training.loop import StepReport, train
from frugan.training.phases import Phases
from frugan.training.state import TrainingConfig, TrainState
from frugan.training.transfer import StartReport, TransferConfig

__all__ = [
    "Phases",
    "StartReport",
    "StepReport",
    "TrainState",
    "TrainingConfig",
    "TransferConfig",
    "train",
]
