"""State, steps, schedules, checkpoints, logs and the loop."""

from jmvae_jax.training.loop import NonFiniteError, Plan, resident_epochs, train
from jmvae_jax.training.state import TrainState, create_state
from jmvae_jax.training.steps import make_dispatch, make_eval_step, make_train_step, start_tally

__all__ = [
    "NonFiniteError",
    "Plan",
    "TrainState",
    "create_state",
    "make_dispatch",
    "make_eval_step",
    "make_train_step",
    "resident_epochs",
    "start_tally",
    "train",
]
