"""From an objective, per example, to a scalar for `grad`."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jmvae_jax.models.base import MultimodalModel
from jmvae_jax.types import Array, Batch, Key, Mask, Objective

LossFn = Callable[..., tuple[Array, tuple[Any, Any]]]


def weighted_mean(values: Array, example_weight: Array | None) -> Array:
    """Mean of `[B]`, each row counted with its weight; weights of padding are 0."""
    if example_weight is None:
        return jnp.mean(values)
    return jnp.sum(values * example_weight) / jnp.sum(example_weight)


def _check_weights(example_weight: Array) -> None:
    """Raises ValueError where no row counts, on concrete arrays; traced ones give a NaN."""
    if not isinstance(example_weight, jax.core.Tracer) and not np.any(example_weight > 0):
        raise ValueError("example_weight: no row has a weight above 0; expected one at least")


def make_loss_fn(model: MultimodalModel, objective: Objective) -> LossFn:
    """A pure loss of the parameters, ready for `jit`, `grad`, `vmap` and `pmap`.

    Args:
      model: any model of the zoo, or one of your own with its interface.
      objective: `elbo`, `jmvae_kl`, or a function with their signature.

    Returns:
      `loss_fn(params, model_state, key, batch, *, weights, mask=None, example_weight=None,
      train=True) -> (scalar, (bound, new_model_state))`. The scalar is the mean over examples
      of `bound.loss`, in nats. `weights` goes to the objective (`{"alpha": ..., "beta": ...}`,
      traced scalars are welcome); `model_state` is `{}` for a model without statistics, and the
      new one goes into the next call. It raises ValueError where the objective does, and for
      weights of rows in the training of a network with batch norm, whose statistics are those of
      the whole batch: absent modalities, which a `mask` leaves out of the bound, enter as zeros.

    Example:
      >>> import jax, jax.numpy as jnp, jmvae_jax as jm
      >>> body = jm.MLP((16,))
      >>> x = jm.Modality((4,), "normal", decoder=body, encoder=body)
      >>> model = jm.VAE(latent_dim=2, modalities={"x": x})
      >>> batch = {"x": jnp.ones((3, 4))}
      >>> params = model.init(jax.random.key(0), batch)["params"]
      >>> loss_fn = jm.make_loss_fn(model, jm.elbo)
      >>> gradient_fn = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
      >>> (loss, (bound, _)), grads = gradient_fn(
      ...     params, {}, jax.random.key(1), batch, weights={"beta": 1.0})
      >>> bound.loss.shape
      (3,)
    """

    def loss_fn(
        params: Any,
        model_state: Mapping[str, Any],
        key: Key,
        batch: Batch,
        *,
        weights: Mapping[str, Any],
        mask: Mask | None = None,
        example_weight: Array | None = None,
        train: bool = True,
    ) -> tuple[Array, tuple[Any, Any]]:
        if example_weight is not None:
            if train and "batch_stats" in model_state:
                raise ValueError(
                    "example_weight: batch norm counts every row of a batch that it trains on, so "
                    "none can be taken out; leave the rows out of the batch, or use group norm"
                )
            _check_weights(example_weight)
            # A row without weight is absent in every modality: what pads it reaches no gradient.
            counts = example_weight > 0
            there = mask or {}
            mask = {**there, **{name: counts & there.get(name, True) for name in batch}}
        bound, updated = objective(
            model,
            {"params": params, **model_state},
            key,
            batch,
            **weights,
            mask=mask,
            train=train,
            mutable=list(model_state) if train else [],
        )
        new_state = {**model_state, **updated}
        return weighted_mean(bound.loss, example_weight), (bound, new_state)

    return loss_fn
