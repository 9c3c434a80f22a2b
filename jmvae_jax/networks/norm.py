"""Normalisation of activations, by name."""

import math
from typing import Any

import flax.linen as nn
import jax

from jmvae_jax.types import Array

NORMS = ("batch", "group", None)


class Norm(nn.Module):
    """Batch norm, group norm, or nothing, by name.

    Args:
      kind: "batch", "group" or None.
      axis_name: by which the shards of a batch reduce their statistics while they train.
      dtype: of what comes out; statistics are float32 in any case. None: that of the inputs and
        of the parameters, float32.

    Batch norm keeps running statistics in the collection `batch_stats`, with momentum 0.9: in
    training it uses those of the whole batch, otherwise the running ones. Group norm has groups of
    at most 32 and no statistics.
    """

    kind: str | None
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, inputs: Array, train: bool) -> Array:
        if self.kind not in NORMS:
            raise ValueError(f"norm={self.kind!r}: expected one of {NORMS}")
        if self.kind == "batch":
            name = self.axis_name
            if name is not None and train and jax.lax.axis_size(name) == 1:
                name = None  # the one shard is the batch
            norm = nn.BatchNorm(
                not train,
                momentum=0.9,
                epsilon=1e-5,
                axis_name=name,
                dtype=self.dtype,
            )
            return norm(inputs)
        if self.kind == "group":
            return nn.GroupNorm(math.gcd(inputs.shape[-1], 32), dtype=self.dtype)(inputs)
        return inputs
