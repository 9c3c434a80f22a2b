"""State, steps, schedules, checkpoints, logs and the loop."""

from jmvae_jax.training.adversarial import (
    ADVERSARIAL_METRICS,
    AdversarialUpdate,
    GroupOptimizers,
    create_adversarial_state,
)
from jmvae_jax.training.feeds import Resident, Stream
from jmvae_jax.training.loop import NonFiniteError, Plan, train
from jmvae_jax.training.state import TrainState, create_state
from jmvae_jax.training.steps import (
    make_dispatch,
    make_eval_step,
    make_train_step,
    plain_update,
    start_tally,
)

__all__ = [
    "ADVERSARIAL_METRICS",
    "AdversarialUpdate",
    "GroupOptimizers",
    "NonFiniteError",
    "Plan",
    "Resident",
    "Stream",
    "TrainState",
    "create_adversarial_state",
    "create_state",
    "make_dispatch",
    "make_eval_step",
    "make_train_step",
    "plain_update",
    "start_tally",
    "train",
]
