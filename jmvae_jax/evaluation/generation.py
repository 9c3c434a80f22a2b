"""Draws and predictions of some modalities from others, or from the prior."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jmvae_jax import distributions, parallel
from jmvae_jax.distributions import Distribution
from jmvae_jax.evaluation.resampling import WEIGHTINGS, resample
from jmvae_jax.models.base import MultimodalModel, call_method, fill_absent
from jmvae_jax.models.checks import check_batch, check_names, check_targets
from jmvae_jax.types import Array, Batch, Key, Mask, Variables

_Z = 0
"""Stream of the noise of z; targets have those of their names."""


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
    num_proposals: int = 1,
    weighting: str = "posterior",
    prior: Distribution | None = None,
) -> dict[str, Array]:
    """`p(target | z)` at draws `z ~ q(z | given)`, or `z ~ p(z)` where nothing is given.

    With `num_proposals` R > 1 each z is one of R candidates from q(z | given), resampled by
    `p(given | z) p(z) / q(z | given)`: it comes from p(z | given) as R grows, at the cost of R
    decoded candidates a draw. Or by `p(given | z)` alone, which keeps to where q(z | given) was
    fitted and usually looks better. See `evaluation.resampling`.

    Args:
      model: a model and `variables`, its parameters and state.
      key: one key, folded with each row's number, or keys `[B]` (`[num_samples]` for the prior).
      given: modality -> `[B, *shape]`; `{}` draws from the prior.
      targets: names of what is generated; one that is given too is reconstructed.
      num_samples: draws of z for each row.
      draw: values drawn from p(target | z) instead of its mean.
      mask: modality -> `bool[B]`: rows that have what is given; the others infer from the rest.
      num_proposals: R, candidates for each z, of which one is kept.
      weighting: by what: "posterior", the first of those weights, or "likelihood", the second.
      prior: what z is drawn from instead of p(z) where nothing is given, over `[latent_dim]`:
        `evaluation.fit_prior` makes one.

    Returns:
      modality -> `[num_samples, B, *shape]`, or `[num_samples, *shape]` from the prior.

    Raises:
      ValueError: a name that the model lacks, a bad batch, `num_samples` or `num_proposals` below
        1; more than 1 proposal where nothing is given that has a likelihood; an unknown
        `weighting`; a `prior` where something is given, of a model with conditions, or over another
        shape; a `mask` where nothing is given.

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
    for argument, number in (("num_samples", num_samples), ("num_proposals", num_proposals)):
        if number < 1:
            raise ValueError(f"{argument}={number}: expected at least 1")
    if mask and not given:
        raise ValueError(f"mask names {sorted(mask)}, and nothing is given; expected None")
    given = check_given(model, given, mask) if given else {}
    _check_proposals(model, given, num_proposals, weighting)
    if prior is not None:
        _check_prior(model, given, prior)
    samples = jnp.arange(num_samples)
    z = None
    if not given:
        keys = distributions.example_keys(key, samples)
        z = None if prior is None else _draw_from(prior, keys)
    else:
        rows = next(iter(given.values())).shape[0]
        row_keys = distributions.example_keys(key, jnp.arange(rows))
        keys = jax.vmap(distributions.example_keys, (0, None))(row_keys, samples)
    found = _generate(
        variables,
        (keys, given, mask, z),
        model=model,
        targets=tuple(targets),
        draw=draw,
        num_proposals=num_proposals,
        weighting=weighting,
    )
    return {n: jnp.swapaxes(x, 0, 1) for n, x in found.items()} if given else dict(found)


def _check_proposals(
    model: MultimodalModel, given: Batch, num_proposals: int, weighting: str
) -> None:
    """Raises ValueError where there is nothing to resample by."""
    if weighting not in WEIGHTINGS:
        raise ValueError(f"weighting={weighting!r}: expected one of {list(WEIGHTINGS)}")
    if weighting != "posterior" and num_proposals == 1:
        raise ValueError(
            f"weighting={weighting!r} and num_proposals=1: one proposal is kept whatever its "
            "weight; expected more of them"
        )
    if num_proposals > 1 and not set(given) & set(model.generated):
        raise ValueError(
            f"num_proposals={num_proposals} and given={sorted(given)}: nothing that is given has a "
            "likelihood, so that all weights are equal; expected num_proposals=1"
        )


def _check_prior(model: MultimodalModel, given: Batch, prior: Distribution) -> None:
    """Raises ValueError where z cannot be drawn from `prior`."""
    if given:
        raise ValueError(
            f"prior and given={sorted(given)}: z is drawn from a prior where nothing is given; "
            "expected one or the other"
        )
    if model.conditions:
        raise ValueError(
            f"prior: a {type(model).__name__} has its own given {list(model.conditions)}; expected "
            "None"
        )
    if (prior.batch_shape, prior.event_shape) != ((), (model.latent_dim,)):
        raise ValueError(
            f"prior has batch shape {prior.batch_shape} and event shape {prior.event_shape}: "
            f"expected () and ({model.latent_dim},)"
        )


@parallel.by_rows
def _draw_from(prior: Distribution, keys: Key) -> Array:
    """One z for each key, `[N, D]`."""
    draws: Array = jax.vmap(lambda key: prior.sample(jax.random.fold_in(key, _Z)))(keys)
    return draws


@parallel.by_rows
def _generate(
    variables: Variables,
    rows: tuple[Key, Batch, Mask | None, Array | None],
    *,
    model: MultimodalModel,
    targets: tuple[str, ...],
    draw: bool,
    num_proposals: int,
    weighting: str,
) -> dict[str, Array]:
    """`[B, num_samples, *shape]`, or `[num_samples, *shape]` from the prior.

    The last of `rows` are draws z `[num_samples, D]` from another prior, or None.
    """
    keys, given, mask, z = rows
    keys = keys.T
    fold = jax.random.fold_in
    for _ in keys.shape:
        fold = jax.vmap(fold, (0, None))
    filled = fill_absent(given, mask)
    if z is None:
        posterior = call_method(model, variables, "posterior", given, tuple(given), mask)
        own = fold(keys, _Z)
        if num_proposals == 1:
            z = distributions.sample(posterior, own)
        else:
            z = resample(model, variables, own, posterior, filled, mask, num_proposals, weighting)
    likelihoods = call_method(model, variables, "decode", z, filled)
    found = {
        name: distributions.sample(likelihoods[name], fold(keys, distributions.name_number(name)))
        if draw
        else likelihoods[name].mean
        for name in targets
    }
    return {n: jnp.swapaxes(x, 0, 1) for n, x in found.items()} if given else found


def predict(
    model: MultimodalModel,
    variables: Variables,
    given: Batch,
    *,
    targets: Sequence[str],
    mask: Mask | None = None,
) -> dict[str, Array]:
    """Mean of `p(target | z)` at the mean of `q(z | given)`: modality -> `[B, *shape]`.

    Where that is a flow, at its `distributions.center`.

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
    z = distributions.center(call_method(model, variables, "posterior", given, tuple(given), mask))
    given = fill_absent(given, mask)
    likelihoods = call_method(model, variables, "decode", z, given)
    return {name: likelihoods[name].mean for name in targets}
