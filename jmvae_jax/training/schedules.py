"""Functions of the step: the weight of the rate, and learning rates."""

from collections.abc import Callable

import jax.numpy as jnp
import optax

from jmvae_jax.types import Array

Schedule = Callable[[Array], Array]

LEARNING_RATES = ("constant", "cosine", "warmup_cosine")


def warmup_epochs(epochs: int, fraction: float) -> int:
    """N_t of `beta_warmup`."""
    return round(fraction * epochs)


def beta_warmup(epochs: int, steps_per_epoch: int, fraction: float) -> Schedule:
    """The paper's warm-up of the rate, by whole epochs.

    `beta(e) = min(1, (e - 1) / (N_t - 1))` with `e = 1 + floor(step / steps_per_epoch)` and
    `N_t = round(fraction * epochs)`; 1 throughout where `N_t <= 1`.

    Raises:
      ValueError: `fraction` is outside [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"warmup_fraction={fraction}: expected a share of the run, in [0, 1]")
    warmup = warmup_epochs(epochs, fraction)

    def beta(step: Array) -> Array:
        if warmup <= 1:
            return jnp.ones(())
        return jnp.minimum(1.0, (step // steps_per_epoch) / (warmup - 1))

    return beta


def learning_rate(
    name: str, peak: float, num_steps: int, warmup_fraction: float = 0.05
) -> Schedule:
    """A learning rate over `num_steps` steps.

    Args:
      name: "constant"; "cosine", from `peak` to 0; or "warmup_cosine", the same after a linear
        rise from 0 over `warmup_fraction` of the steps.
      peak: the highest rate.
      num_steps: in the whole training.
      warmup_fraction: share of the steps, for "warmup_cosine".

    Raises:
      ValueError: an unknown name, or a `warmup_fraction` outside [0, 1).
    """
    if not 0 <= warmup_fraction < 1:
        raise ValueError(f"schedule_warmup_fraction={warmup_fraction}: expected a share in [0, 1)")
    if name == "constant":
        return optax.constant_schedule(peak)
    if name == "cosine" or (name == "warmup_cosine" and warmup_fraction == 0):
        return optax.cosine_decay_schedule(peak, num_steps)
    if name == "warmup_cosine":
        # Optax wants a step of each, the rise and the fall.
        num_steps = max(2, num_steps)
        rise = min(max(1, round(warmup_fraction * num_steps)), num_steps - 1)
        return optax.warmup_cosine_decay_schedule(0.0, peak, rise, num_steps)
    raise ValueError(f"schedule={name!r}: expected one of {list(LEARNING_RATES)}")
