"""Trains K lanes. Tensors in, tensors out; knows nothing of Optuna, MLflow or Prefect.

Read in this order: lane (what goes in and out), engine (pools by shape), pool (one epoch), plan and
clock (what an epoch needs), stack (the network as one function), optimizers, schedules, losses,
randomness, state (what a checkpoint keeps), reference (the slow twin), hypergradient and
smooth_updates (how a lane answers to its hyperparameters).
"""

from lanewise.engine.engine import Engine
from lanewise.engine.lane import Goal, Lane, LaneResult, Report, SplitTensors
from lanewise.engine.pixels import PixelRows
from lanewise.engine.state import LaneState

__all__ = ["Engine", "Goal", "Lane", "LaneResult", "LaneState", "PixelRows", "Report", "SplitTensors"]
