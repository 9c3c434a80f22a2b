"""Gradients of a batch in parts, one after the other: the memory of one part, the mean of all."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def over_parts(
    function: Callable[[Any, Any], tuple[Any, Any]], carry: Any, rows: Any, count: int
) -> tuple[Any, Any]:
    """Runs a function on equal parts of the rows, one after the other.

    Args:
      function: `function(carry, part) -> (carry, values)`.
      carry: what a part leaves to the next one (running statistics).
      rows: a tree of arrays `[b, ...]`.
      count: of parts, which divides b.

    Returns:
      The last carry, and the means of the values: of means over the rows of a part, the mean
      over all rows.

    Raises:
      ValueError: `count` does not divide b.

    Example:
      >>> import jax.numpy as jnp
      >>> from jmvae_jax.training.accumulation import over_parts
      >>> total, mean = over_parts(
      ...     lambda sum, part: (sum + part.sum(), part.mean()), 0.0, jnp.arange(6.0), 3)
      >>> float(total), float(mean)
      (15.0, 2.5)
    """
    if count == 1:
        return function(carry, rows)
    size = jax.tree.leaves(rows)[0].shape[0]
    if size % count:
        raise ValueError(f"accumulate={count}: expected a divisor of the {size} rows of a device")
    parts = jax.tree.map(lambda x: x.reshape(count, size // count, *x.shape[1:]), rows)
    # The sums of the values ride along; their shapes are those of one part's.
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), parts)
    values = jax.eval_shape(function, carry, one)[1]
    sums = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), values)

    def step(state: tuple[Any, Any], part: Any) -> tuple[tuple[Any, Any], None]:
        carry, values = function(state[0], part)
        return (carry, jax.tree.map(jnp.add, state[1], values)), None

    (carry, sums), _ = jax.lax.scan(step, (carry, sums), parts)
    return carry, jax.tree.map(lambda x: x / count, sums)
