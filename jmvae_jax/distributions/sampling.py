"""Draws with one key each."""

import inspect
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import Distribution

from jmvae_jax.types import Array, Key


def example_keys(key: Key, positions: Array) -> Key:
    """One key for each position: `fold_in(key, position)`, of the shape of `positions`.

    A key array that has that shape already is returned as it is, so callers may choose the key
    of each example themselves.

    Raises:
      ValueError: `key` is neither one key nor an array of keys of the shape of `positions`.
    """
    if not hasattr(key, "dtype"):
        raise ValueError(f"key is {key!r}: expected one of jax.random.key, or an array of them")
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    if key.shape == positions.shape:
        return key
    if key.shape:
        raise ValueError(
            f"key has shape {key.shape}: expected one key, or one for each example, "
            f"{positions.shape}"
        )
    fold = jax.random.fold_in
    for _ in positions.shape:
        fold = jax.vmap(fold, in_axes=(None, 0))
    return fold(key, positions)


def draw_keys(keys: Key, numbers: Array) -> Key:
    """Keys `[K, B]` of K draws for each example: `fold_in(key, number)`."""
    return jax.vmap(jax.vmap(jax.random.fold_in, (0, None)), (None, 0))(keys, numbers)


def name_number(name: str) -> np.uint32:
    """A number to fold keys with: by the name itself, whatever stands beside it."""
    return np.uint32(zlib.crc32(name.encode()))


# What a multivariate Gaussian keeps beside its Cholesky factor, which says it all.
_DERIVED = ("covariance_matrix", "precision_matrix")

Parts = dict[str, Any]
"""The arrays of a distribution by name; of one that is made of others, theirs in dictionaries."""


def unpack(
    distribution: Distribution, batch_shape: tuple[int, ...] | None = None
) -> tuple[Parts, Callable[[Parts], Distribution]]:
    """A distribution as arrays and the function that builds it from them again.

    A distribution that passes through `vmap`, `scan` or `map` keeps its old batch shape; the
    arrays pass, and it is built anew inside.

    Args:
      distribution: a family that its parameters describe, such a one with event axes added, a
        mixture of one such family, or one with a method `unpack` of its own (`Flow`).
      batch_shape: what the arrays are broadcast to; None: the distribution's own.

    Returns:
      Arrays `[*batch_shape, ...]` by name, and the builder.

    Raises:
      ValueError: a family that its parameters do not describe (expanded, truncated).
    """
    batch_shape = distribution.batch_shape if batch_shape is None else batch_shape
    if isinstance(distribution, dist.MixtureSameFamily):
        return _unpack_mixture(distribution, batch_shape)
    if hasattr(distribution, "unpack"):
        return distribution.unpack(batch_shape)
    base, ndim = distribution, 0
    while isinstance(base, dist.Independent):
        base, ndim = base.base_dist, ndim + base.reinterpreted_batch_ndims
    batch_shape += base.batch_shape[len(base.batch_shape) - ndim :]
    arrays = {}
    for name, constraint in base.arg_constraints.items():
        if name in vars(base) and not (name in _DERIVED and "scale_tril" in vars(base)):
            value = jnp.asarray(getattr(base, name))
            event = value.shape[value.ndim - constraint.event_dim :]
            arrays[name] = jnp.broadcast_to(value, batch_shape + event)
    # What is no parameter but was chosen with them: the number of bins, say.
    options = {
        name: vars(base)[name]
        for name in inspect.signature(type(base)).parameters
        if name in vars(base) and name not in base.arg_constraints
    }

    def build(parameters: Parts) -> Distribution:
        return type(base)(**parameters, **options, validate_args=False).to_event(ndim)

    try:
        build(arrays)
    except (TypeError, NotImplementedError) as error:
        raise ValueError(
            f"{type(base).__name__} cannot be taken apart into its parameters ({error}): give a "
            "family whose constructor takes them alone"
        ) from error
    return arrays, build


def _unpack_mixture(
    mixture: dist.MixtureSameFamily, batch_shape: tuple[int, ...]
) -> tuple[Parts, Callable[[Parts], Distribution]]:
    mixing, build_mixing = unpack(mixture.mixing_distribution, batch_shape)
    shape = (*batch_shape, mixture.mixture_size)
    component, build_component = unpack(mixture.component_distribution, shape)

    def build(parts: Parts) -> Distribution:
        made = build_mixing(parts["mixing"]), build_component(parts["component"])
        return dist.MixtureSameFamily(*made, validate_args=False)

    return {"mixing": mixing, "component": component}, build


def sample(distribution: Distribution, keys: Key) -> Array:
    """One draw for each key, reparameterised where the family allows it.

    Args:
      distribution: batch shape `b`, event shape `e`.
      keys: keys of shape `[*s, *b]`: one for each draw.

    Returns:
      Draws `[*s, *b, *e]`; the draw at an index depends on the key and the parameters there.

    Raises:
      ValueError: the keys' shape does not end in the batch shape.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jmvae_jax.distributions import example_keys, gaussian, sample
      >>> q = gaussian(jnp.zeros((3, 2)), jnp.ones((3, 2)))
      >>> sample(q, example_keys(jax.random.key(0), jnp.arange(3))).shape
      (3, 2)
    """
    batch_ndim = len(distribution.batch_shape)
    if keys.shape[keys.ndim - batch_ndim :] != distribution.batch_shape:
        raise ValueError(
            f"keys have shape {keys.shape}: expected a shape that ends in the batch shape "
            f"{distribution.batch_shape}"
        )

    arrays, build = unpack(distribution)

    def draw(parameters: Parts, key: Key) -> Array:
        return build(parameters).sample(key)

    for axis in range(keys.ndim):
        draw = jax.vmap(draw, in_axes=(0 if axis < batch_ndim else None, 0))
    return draw(arrays, keys)
