"""What comes through the public door is checked once: names, shapes, dtypes, ranges."""

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from jmvae_jax import distributions
from jmvae_jax.distributions import Family
from jmvae_jax.types import Array, Batch, Mask

if TYPE_CHECKING:
    from jmvae_jax.models.base import MultimodalModel
    from jmvae_jax.models.modality import Modality


def check_names(argument: str, names: Collection[str], modalities: Collection[str]) -> None:
    """Raises ValueError if `names` is a bare string, or has a name twice or one too many."""
    if isinstance(names, str):
        raise ValueError(f"{argument}={names!r} is a string: expected a tuple, ({names!r},)")
    if len(set(names)) < len(names):
        raise ValueError(f"{argument}={tuple(names)} names a modality twice")
    unknown = sorted(set(names) - set(modalities))
    if unknown:
        raise ValueError(
            f"{argument} names {unknown}, which the model lacks: it has {list(modalities)}"
        )


def check_targets(argument: str, names: Collection[str], model: "MultimodalModel") -> None:
    """`check_names`, and ValueError if a model of the conditional kind is given one of `names`."""
    check_names(argument, names, model.modalities)
    given = [name for name in names if name in model.conditions]
    if given:
        raise ValueError(
            f"{argument} names {given}, which a {type(model).__name__} is given: it generates "
            f"{list(model.generated)}"
        )


def check_no_posteriors(modalities: Mapping[str, "Modality"], what: str) -> None:
    """Raises ValueError where a modality has a family for an encoder that `what` lacks."""
    for name, modality in modalities.items():
        if modality.posterior != distributions.DIAGONAL:
            raise ValueError(
                f"modalities[{name!r}].posterior={modality.posterior}: {what} has no encoder of "
                "one modality; expected Diagonal()"
            )


_RANGES: Mapping[Family, tuple[Callable[[np.ndarray], bool], str]] = {
    distributions.bernoulli: (lambda v: bool(((v >= 0) & (v <= 1)).all()), "values in [0, 1]"),
    distributions.categorical: (
        lambda v: bool((v >= 0).all() and np.allclose(v.sum(-1), 1, atol=1e-4)),
        "one-hot rows (non-negative, sum 1)",
    ),
}


def check_batch(
    modalities: Mapping[str, "Modality"],
    batch: Batch,
    mask: Mask | None = None,
    names: Collection[str] | None = None,
) -> None:
    """Checks names, shapes, dtypes and, on concrete arrays, finiteness and range.

    Args:
      modalities: those of the model.
      batch: the arrays.
      mask: rows that count; the others may hold anything.
      names: modalities that must be there and no others; None: all of the model's.

    Raises:
      ValueError: what is wrong, with what came and what was expected.
    """
    expected = tuple(modalities if names is None else names)
    if set(batch) != set(expected):
        raise ValueError(f"batch has modalities {sorted(batch)}: expected {sorted(expected)}")
    if mask is not None:
        check_names("mask", mask.keys(), modalities)
    rows = {name: np.shape(batch[name])[:1] for name in expected}
    if len(set(rows.values())) > 1 or (0,) in rows.values():
        raise ValueError(f"batch has these numbers of rows: {rows}; expected one, above 0")
    for name, flags in (mask or {}).items():
        if (np.shape(flags), jnp.asarray(flags).dtype) != (rows[expected[0]], bool):
            raise ValueError(
                f"mask[{name!r}] is {jnp.asarray(flags).dtype}{list(np.shape(flags))}: expected "
                f"bool{list(rows[expected[0]])}"
            )
    for name in expected:
        values, shape, there = batch[name], modalities[name].shape, (mask or {}).get(name)
        if np.ndim(values) != len(shape) + 1 or np.shape(values)[1:] != shape:
            raise ValueError(
                f"batch[{name!r}] has shape {np.shape(values)}: expected [B, *{shape}]"
            )
        if not jnp.issubdtype(jnp.asarray(values).dtype, jnp.floating):
            raise ValueError(
                f"batch[{name!r}] has dtype {jnp.asarray(values).dtype}: expected floats (apply "
                "the data transforms first; a label is a one-hot float vector)"
            )
        if not isinstance(values, jax.core.Tracer) and not isinstance(there, jax.core.Tracer):
            _check_values(name, modalities[name].likelihood, np.asarray(values), there)


def _check_values(
    name: str, likelihood: str | Family, values: np.ndarray, there: Array | None
) -> None:
    rows = values if there is None else values[np.asarray(there)]
    if not np.isfinite(rows).all():
        raise ValueError(f"batch[{name!r}] holds a value that is not finite in a row that counts")
    family = distributions.likelihood_family(likelihood)
    if family in _RANGES and rows.size:
        fits, words = _RANGES[family]
        if not fits(rows):
            raise ValueError(
                f"batch[{name!r}] lies in [{rows.min():.4g}, {rows.max():.4g}] and does not fit "
                f"likelihood={likelihood!r}: expected {words}"
            )
