"""Order, batching and position: which stored rows a step reads is a function of the step alone.

A data set that fits lives on the device; of others a block of rows does. `Epoch` is what travels
to the compiled step: the arrays and the order of their rows; `take` picks a step's rows inside it.
Nothing is remembered between steps, so a run that goes on reads what the unbroken run would have
read.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np


class Epoch(NamedTuple):
    """What a step reads from.

    Attributes:
      arrays: modality -> stored values `[N, ...]`.
      mask: modality -> `bool[N]`, true where a row has the modality; {}: all have all.
      order: `int32[N]`, the epoch's order of the rows, or that of a block's.
    """

    arrays: dict[str, Any]
    mask: dict[str, Any]
    order: Any


def num_steps(num_examples: int, batch_size: int) -> int:
    """Steps in an epoch. The incomplete last batch is left out; another order, other rows.

    Raises:
      ValueError: there is not one whole batch.
    """
    if not 1 <= batch_size <= num_examples:
        raise ValueError(
            f"batch_size={batch_size}: expected between 1 and the {num_examples} examples there are"
        )
    return num_examples // batch_size


def epoch_order(key: jax.Array, epoch: int | jax.Array, num_examples: int) -> jax.Array:
    """The order of an epoch (counted from 0): a permutation, from the key and the epoch alone."""
    return jax.random.permutation(jax.random.fold_in(key, epoch), num_examples)


def take(
    epoch: Epoch, step: jax.Array, positions: jax.Array, batch_size: int
) -> tuple[dict[str, jax.Array], dict[str, jax.Array] | None]:
    """The rows of `step` at the given positions of its batch, as they are stored.

    Args:
      epoch: what is read from.
      step: counted from 0 over the whole training.
      positions: `int32[b]` in the global batch.
      batch_size: of the global batch.

    Returns:
      modality -> `[b, ...]`, and modality -> `bool[b]` or None where nothing is masked.
    """
    steps = num_steps(epoch.order.shape[0], batch_size)
    rows = epoch.order[(step % steps) * batch_size + positions]
    pick = {name: values[rows] for name, values in epoch.arrays.items()}
    mask = {name: values[rows] for name, values in epoch.mask.items()}
    return pick, mask or None


def padded_batches(
    arrays: Mapping[str, np.ndarray], batch_size: int
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    """Every row once, in order, in batches of one size.

    The last batch is filled up with its last row under `example_weight` 0.

    Yields:
      modality -> `[batch_size, ...]`, and `example_weight float32[batch_size]`.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: expected at least 1")
    total = len(next(iter(arrays.values())))
    for start in range(0, total, batch_size):
        rows = np.arange(start, start + batch_size)
        weight = (rows < total).astype(np.float32)
        kept = np.minimum(rows, total - 1)
        yield {name: values[kept] for name, values in arrays.items()}, weight
