"""Fully connected networks."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
from flax.core import FrozenDict

from jmvae_jax.networks.norm import Norm
from jmvae_jax.networks.precision import unrounded_dense
from jmvae_jax.types import Array

glorot_uniform = nn.initializers.glorot_uniform


def scaled_glorot(scale: float, stacked: bool = False) -> Callable[..., Array]:
    """Glorot-uniform initial kernels times `scale`; of `stacked` ones each by itself."""
    if scale == 0:
        return nn.initializers.zeros_init()
    batch_axis = (0,) if stacked else ()
    return nn.initializers.variance_scaling(scale**2, "fan_avg", "uniform", batch_axis=batch_axis)


class MLP(nn.Module):
    """Dense layers, an activation after each: `[N, ...] -> [N, features[-1]]`.

    All axes but the first are flattened. Kernels start Glorot-uniform and biases at zero.

    Args:
      features: sizes of the layers.
      activation: after each.
      norm, axis_name: see `Norm`; before the activation of every layer but the first.
      dtype: of the computation and the features, `jnp.bfloat16` say. Parameters and statistics
        stay float32. None: that of the inputs and of the parameters, float32.

    Raises:
      ValueError: a dtype that is not floating.

    Example:
      >>> import jax, jax.numpy as jnp, jmvae_jax as jm
      >>> body = jm.MLP((512, 512))
      >>> features, variables = body.init_with_output(jax.random.key(0), jnp.zeros((2, 28, 28, 1)))
      >>> features.shape
      (2, 512)
    """

    features: Sequence[int]
    activation: Callable[[Array], Array] = nn.relu
    norm: str | None = None
    axis_name: str | None = None
    dtype: Any = None

    def __post_init__(self) -> None:
        # Hashable, so that a model that holds it can be a static argument.
        object.__setattr__(self, "features", tuple(self.features))
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        hidden = inputs.reshape(inputs.shape[0], -1)
        for layer, size in enumerate(self.features):
            normed = layer > 0 and self.norm is not None
            dense = nn.Dense(size, not normed, self.dtype, kernel_init=glorot_uniform())
            hidden = dense(hidden)
            if normed:
                hidden = Norm(self.norm, self.axis_name, self.dtype)(hidden, train)
            hidden = self.activation(hidden)
        return hidden


class Heads(nn.Module):
    """One linear map for each named output: `[N, ...] -> {name: [N, *shape]}`.

    The maps multiply in the dtype of the features, and give float32 where that is half precision
    (see `unrounded_dense`). A body that predicts the outputs itself gives them as a dictionary,
    which passes through.

    Args:
      shapes: name -> shape of one row's output.
      scales: name -> size of the first kernel, relative to Glorot's; 1 where it is not named, and
        at 0 the output starts at 0.

    Raises:
      ValueError: such a dictionary has other names or shapes than `shapes`.
    """

    shapes: Mapping[str, tuple[int, ...]]
    scales: Mapping[str, float] = FrozenDict()

    @nn.compact
    def __call__(self, features: Array | Mapping[str, Array]) -> dict[str, Array]:
        if isinstance(features, Mapping):
            found = {name: value.shape[1:] for name, value in features.items()}
            if found != dict(self.shapes):
                raise ValueError(
                    f"the network gives {found}: expected a feature array, or {dict(self.shapes)}"
                )
            return dict(features)
        flat = features.reshape(features.shape[0], -1)
        outputs = {}
        for name, shape in self.shapes.items():
            options = {"kernel_init": scaled_glorot(self.scales.get(name, 1.0)), "name": name}
            size, rows = math.prod(shape), flat.shape[0]
            values = unrounded_dense(size, flat, **options)(flat) if size else flat[:, :0]
            outputs[name] = values.reshape(rows, *shape)
        return outputs
