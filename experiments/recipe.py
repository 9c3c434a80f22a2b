"""From a configuration to numbers that are checked, learning rates and optimisers."""

import math
from typing import Any, NamedTuple

import optax
from ml_collections import ConfigDict

from jmvae_jax.training import schedules
from jmvae_jax.training.schedules import Schedule


def check_config(config: ConfigDict) -> None:
    """Raises ValueError for a number that no run can have."""
    train = config.train
    above_0 = (
        "epochs",
        "batch_size",
        "accumulate",
        "steps_per_dispatch",
        "log_every",
        "keep_checkpoints",
    )
    from_0 = ("validate_every", "checkpoint_every", "clip_norm", "clip_value")
    lowest = dict.fromkeys(above_0, 1) | dict.fromkeys(from_0, 0)
    for name, bound in lowest.items():
        if not train[name] >= bound:
            raise ValueError(f"train.{name}={train[name]}: expected at least {bound}")
    rates = {"train.learning_rate": train.learning_rate}
    for group in ("generator", "discriminator"):
        if "adversary" in config:
            name = f"{group}_learning_rate"
            rates[f"adversary.{name}"] = config.adversary[name]
    for name, rate in rates.items():
        if not 0 < rate < math.inf:
            raise ValueError(f"{name}={rate}: expected more than 0, and finite")
    for name in ("adam_b1", "adam_b2"):
        if not 0 <= train[name] < 1:
            raise ValueError(f"train.{name}={train[name]}: expected [0, 1)")
    if not train.adam_eps > 0:
        raise ValueError(f"train.adam_eps={train.adam_eps}: expected more than 0")
    if not config.objective.get("alpha", 0.0) >= 0:
        raise ValueError(f"objective.alpha={config.objective.alpha}: expected at least 0")
    if not 0 <= config.seed < 2**32:
        raise ValueError(f"seed={config.seed}: expected 0 to 2**32 - 1")
    if not 0 <= train.average_decay < 1:
        raise ValueError(f"train.average_decay={train.average_decay}: expected [0, 1)")
    if train.average_decay and config.model.get("norm") == "batch":
        raise ValueError(
            f"train.average_decay={train.average_decay} with model.norm='batch': the statistics of "
            "batch norm are not averaged; expected an average_decay of 0, or model.norm=group"
        )
    if config.model.latent_dim < 1:
        raise ValueError(f"model.latent_dim={config.model.latent_dim}: expected at least 1")
    for name in ("workers", "blocks_ahead"):
        if config.data[name] < 1:
            raise ValueError(f"data.{name}={config.data[name]}: expected at least 1")
    removal(config)


class Removal(NamedTuple):
    """What training rows lose at random.

    Attributes:
      rates: every modality -> probability in [0, 1) of leaving a row.
      seed: of the draws.
      rows: "keep" those that have lost something, or "drop" them.
    """

    rates: dict[str, float]
    seed: int
    rows: str


def removal(config: ConfigDict) -> Removal:
    """What `data.missing_...` asks for; nothing in configurations of older runs, which lack it.

    Raises:
      ValueError: it cannot be done, by its key.
    """
    asked = config.data.get("missing_rates", {})
    found = Removal(
        rates=dict.fromkeys(config.modalities, 0.0) | dict(asked),
        seed=config.data.get("missing_seed", 0),
        rows=config.data.get("missing_rows", "keep"),
    )
    if found.rows not in ("keep", "drop"):
        raise ValueError(f"data.missing_rows={found.rows!r}: expected 'keep' or 'drop'")
    if found.seed < 0:
        raise ValueError(f"data.missing_seed={found.seed}: expected at least 0")
    for name, rate in found.rates.items():
        key = f"data.missing_rates.{name}={rate}"
        if name not in config.modalities:
            raise ValueError(f"{key}: expected a modality, one of {list(config.modalities)}")
        if not 0 <= rate < 1:
            raise ValueError(f"{key}: expected [0, 1)")
        if rate and len(config.modalities) == 1:
            raise ValueError(f"{key}: no row can lose its only modality; expected 0")
        if rate and found.rows == "keep" and "adversary" in config:
            raise ValueError(
                f"{key}: an adversarial step needs rows that have every modality; expected "
                "data.missing_rows=drop beside it, or 0"
            )
    return found


def limit_norm(limit: float) -> optax.GradientTransformation:
    """`optax.clip_by_global_norm`, by one factor for all elements instead of a division each."""

    def project(grads: Any, params: Any) -> Any:
        return optax.projections.projection_l2_ball(grads, limit)

    return optax.stateless(project)


def build_optimizer(config: ConfigDict, rate: Schedule) -> optax.GradientTransformation:
    """The paper's chain: limit the norm, clip the elements, Adam."""
    train = config.train
    parts = []
    if train.clip_norm:
        parts.append(limit_norm(train.clip_norm))
    if train.clip_value:
        parts.append(optax.clip(train.clip_value))
    parts.append(optax.adam(rate, b1=train.adam_b1, b2=train.adam_b2, eps=train.adam_eps))
    return optax.chain(*parts)


def build_rates(config: ConfigDict, num_steps: int) -> list[Schedule]:
    """Learning rates of encoders, generator and discriminator as functions of the step."""
    train = config.train
    peaks = [train.learning_rate] * 3
    if "adversary" in config:
        peaks[1:] = (
            config.adversary.generator_learning_rate,
            config.adversary.discriminator_learning_rate,
        )
    return [
        schedules.learning_rate(train.schedule, peak, num_steps, train.schedule_warmup_fraction)
        for peak in peaks
    ]
