"""The latent space: where examples lie in it, and what lies between them."""

import jax
import jax.numpy as jnp

from jmvae_jax import distributions, parallel
from jmvae_jax.evaluation.generation import check_given
from jmvae_jax.models.base import MultimodalModel, call_method
from jmvae_jax.models.checks import check_targets
from jmvae_jax.types import Array, Batch, Variables


def posterior_mean(model: MultimodalModel, variables: Variables, given: Batch) -> Array:
    """Mean of q(z | given), `[B, latent_dim]`; of a flow, where it carries its base's mean.

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
    found: Array = _posterior_mean(variables, check_given(model, given), model=model)
    return found


@parallel.by_rows
def _posterior_mean(variables: Variables, given: Batch, *, model: MultimodalModel) -> Array:
    return distributions.center(call_method(model, variables, "posterior", given, tuple(given)))


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
      ValueError: as `posterior_mean`, other names or another number of rows in `second`, or
        `num_steps` below 2.
    """
    check_targets("targets", targets, model)
    ends = [check_given(model, end) for end in (first, second)]
    if set(ends[0]) != set(ends[1]):
        raise ValueError(f"second has {sorted(ends[1])}: expected {sorted(ends[0])}, as first")
    rows = [next(iter(end.values())).shape[0] for end in ends]
    if rows[0] != rows[1]:
        raise ValueError(f"second has {rows[1]} rows: expected {rows[0]}, as first")
    if num_steps < 2:
        raise ValueError(f"num_steps={num_steps}: expected at least 2")
    found = _interpolate(
        variables, tuple(ends), model=model, targets=tuple(targets), num_steps=num_steps
    )
    return {name: jnp.swapaxes(values, 0, 1) for name, values in found.items()}


@parallel.by_rows
def _interpolate(
    variables: Variables,
    ends: tuple[Batch, Batch],
    *,
    model: MultimodalModel,
    targets: tuple[str, ...],
    num_steps: int,
) -> dict[str, Array]:
    """`[B, num_steps, *shape]`."""

    def between(start: Array, end: Array) -> Array:
        share = jnp.linspace(0.0, 1.0, num_steps).reshape(-1, *(1,) * start.ndim)
        return (1 - share) * start + share * end

    found = (call_method(model, variables, "posterior", end, tuple(end)) for end in ends)
    z = between(*map(distributions.center, found))
    likelihoods = call_method(model, variables, "decode", z, jax.tree.map(between, *ends))
    return {name: jnp.swapaxes(likelihoods[name].mean, 0, 1) for name in targets}
