"""The latent space: where examples lie in it, and what lies between them."""

import functools

import jax
import jax.numpy as jnp

from jmvae_jax import parallel
from jmvae_jax.evaluation.generation import check_given
from jmvae_jax.models.base import MultimodalModel, call_method
from jmvae_jax.models.checks import check_targets
from jmvae_jax.types import Array, Batch, Variables


def posterior_mean(model: MultimodalModel, variables: Variables, given: Batch) -> Array:
    """Mean of q(z | given), `[B, latent_dim]`.

    Args:
      model: a model and `variables`, its parameters and state.
      given: modality -> `[B, *shape]`, at least one.

    Raises:
      ValueError: a name that the model lacks, nothing given, a bad batch.

    Example:
      >>> import jax, jax.numpy as jnp, jmvae_jax as jm
      >>> from jmvae_jax.evaluation import posterior_mean
      >>> body = jm.MLP((16,))
      >>> x = jm.Modality((4,), "normal", decoder=body, encoder=body)
      >>> model = jm.VAE(latent_dim=2, modalities={"x": x})
      >>> variables = model.init(jax.random.key(0), {"x": jnp.ones((3, 4))})
      >>> posterior_mean(model, variables, {"x": jnp.ones((3, 4))}).shape
      (3, 2)
    """
    return _posterior_mean(model, variables, check_given(model, given))


@functools.partial(parallel.jit, static_argnums=0)
def _posterior_mean(model: MultimodalModel, variables: Variables, given: Batch) -> Array:
    mean: Array = call_method(model, variables, "posterior", given, tuple(given)).mean
    return mean


def interpolate(
    model: MultimodalModel,
    variables: Variables,
    first: Batch,
    second: Batch,
    *,
    targets: tuple[str, ...],
    num_steps: int,
) -> dict[str, Array]:
    """Means of p(target | z) on the straight line between the means of two posteriors.

    The values that a conditional decoder reads go the same way.

    Args:
      model: a model and `variables`, its parameters and state.
      first, second: modality -> `[B, *shape]`: where each row begins and ends, by the same names.
      targets: names of what is decoded.
      num_steps: points on the line, both ends among them.

    Returns:
      modality -> `[num_steps, B, *shape]`.

    Raises:
      ValueError: as `posterior_mean`, other names in `second`, or `num_steps` below 2.
    """
    check_targets("targets", targets, model)
    ends = [check_given(model, end) for end in (first, second)]
    if set(ends[0]) != set(ends[1]):
        raise ValueError(f"second has {sorted(ends[1])}: expected {sorted(ends[0])}, as first")
    if num_steps < 2:
        raise ValueError(f"num_steps={num_steps}: expected at least 2")
    return _interpolate(model, variables, *ends, tuple(targets), num_steps)


@functools.partial(parallel.jit, static_argnums=(0, 4, 5))
def _interpolate(
    model: MultimodalModel,
    variables: Variables,
    first: Batch,
    second: Batch,
    targets: tuple[str, ...],
    num_steps: int,
) -> dict[str, Array]:
    def between(start: Array, end: Array) -> Array:
        share = jnp.linspace(0.0, 1.0, num_steps).reshape(-1, *(1,) * start.ndim)
        return (1 - share) * start + share * end

    z = between(*(_posterior_mean(model, variables, end) for end in (first, second)))
    likelihoods = call_method(model, variables, "decode", z, jax.tree.map(between, first, second))
    return {name: likelihoods[name].mean for name in targets}
