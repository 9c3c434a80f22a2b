"""Draws and predictions of some modalities from others, or from the prior."""

import zlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jmvae_jax import distributions, parallel
from jmvae_jax.models.base import MultimodalModel, call_method, fill_absent
from jmvae_jax.models.checks import check_batch, check_names, check_targets
from jmvae_jax.types import Array, Batch, Key, Mask, Variables


def generate(
    model: MultimodalModel,
    variables: Variables,
    key: Key,
    given: Batch,
    *,
    targets: Sequence[str],
    num_samples: int = 1,
    draw: bool = False,
    mask: Mask | None = None,
) -> dict[str, Array]:
    """`p(target | z)` at draws `z ~ q(z | given)`, or `z ~ p(z)` where nothing is given.

    Args:
      model: a model and `variables`, its parameters and state.
      key: one key, folded with each row's number, or keys `[B]` (`[num_samples]` for the prior).
      given: modality -> `[B, *shape]`; `{}` draws from the prior.
      targets: names of what is generated; one that is given too is reconstructed.
      num_samples: draws of z for each row.
      draw: values drawn from p(target | z) instead of its mean.
      mask: modality -> `bool[B]`: rows that have what is given; the others infer from the rest.

    Returns:
      modality -> `[num_samples, B, *shape]`, or `[num_samples, *shape]` from the prior.

    Raises:
      ValueError: a name that the model lacks, a bad batch, `num_samples` below 1.

    Example:
      >>> import jax, jax.numpy as jnp, jmvae_jax as jm
      >>> body = jm.MLP((16,))
      >>> x = jm.Modality((4,), "normal", decoder=body, encoder=body)
      >>> model = jm.VAE(latent_dim=2, modalities={"x": x})
      >>> variables = model.init(jax.random.key(0), {"x": jnp.ones((3, 4))})
      >>> drawn = jm.generate(
      ...     model, variables, jax.random.key(1), {}, targets=("x",), num_samples=5)
      >>> drawn["x"].shape
      (5, 4)
    """
    check_targets("targets", targets, model)
    if num_samples < 1:
        raise ValueError(f"num_samples={num_samples}: expected at least 1")
    samples = jnp.arange(num_samples)
    if not given:
        keys = distributions.example_keys(key, samples)
    else:
        given = check_given(model, given, mask)
        rows = next(iter(given.values())).shape[0]
        row_keys = distributions.example_keys(key, jnp.arange(rows))
        keys = jax.vmap(distributions.example_keys, (0, None))(row_keys, samples)
    found = _generate(
        variables, (keys, given, mask), model=model, targets=tuple(targets), draw=draw
    )
    return {n: jnp.swapaxes(x, 0, 1) for n, x in found.items()} if given else dict(found)


@parallel.by_rows
def _generate(
    variables: Variables,
    rows: tuple[Key, Batch, Mask | None],
    *,
    model: MultimodalModel,
    targets: tuple[str, ...],
    draw: bool,
) -> dict[str, Array]:
    """`[B, num_samples, *shape]`, or `[num_samples, *shape]` from the prior."""
    keys, given, mask = rows
    keys = keys.T
    posterior = call_method(model, variables, "posterior", given, tuple(given), mask)
    given = fill_absent(given, mask)
    fold = jax.random.fold_in
    for _ in keys.shape:
        fold = jax.vmap(fold, (0, None))
    z = distributions.sample(posterior, fold(keys, 0))
    likelihoods = call_method(model, variables, "decode", z, given)
    found = {
        name: distributions.sample(likelihoods[name], fold(keys, _stream(name)))
        if draw
        else likelihoods[name].mean
        for name in targets
    }
    return {n: jnp.swapaxes(x, 0, 1) for n, x in found.items()} if given else found


def _stream(name: str) -> np.uint32:
    """By the name itself, so that a target draws the same whatever stands beside it."""
    return np.uint32(zlib.crc32(name.encode()))


def predict(
    model: MultimodalModel,
    variables: Variables,
    given: Batch,
    *,
    targets: Sequence[str],
    mask: Mask | None = None,
) -> dict[str, Array]:
    """Mean of `p(target | z)` at the mean of `q(z | given)`: modality -> `[B, *shape]`.

    For a categorical target these are class probabilities; their argmax is the paper's
    prediction of a label from an image.

    Args:
      model: a model and `variables`, its parameters and state.
      given: modality -> `[B, *shape]`, at least one.
      targets: names of what is predicted.
      mask: as in `generate`.

    Raises:
      ValueError: a name that the model lacks, nothing given, a bad batch.
    """
    check_targets("targets", targets, model)
    given = check_given(model, given, mask)
    return dict(_predict(variables, (given, mask), model=model, targets=tuple(targets)))


def check_given(model: MultimodalModel, given: Batch, mask: Mask | None = None) -> dict[str, Array]:
    """What z is inferred from, as arrays; ValueError where it is nothing, unknown or unfit."""
    check_names("given", given.keys(), model.modalities)
    if not given:
        raise ValueError("given is empty: a posterior needs at least one modality")
    check_batch(model.modalities, given, mask, names=tuple(given))
    return {name: jnp.asarray(value) for name, value in given.items()}


@parallel.by_rows
def _predict(
    variables: Variables,
    rows: tuple[Batch, Mask | None],
    *,
    model: MultimodalModel,
    targets: tuple[str, ...],
) -> dict[str, Array]:
    given, mask = rows
    z = call_method(model, variables, "posterior", given, tuple(given), mask).mean
    given = fill_absent(given, mask)
    likelihoods = call_method(model, variables, "decode", z, given)
    return {name: likelihoods[name].mean for name in targets}
