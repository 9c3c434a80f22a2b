"""A conditional normalizing flow of affine coupling layers."""

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution, constraints

from jmvae_jax.distributions.sampling import Parts, unpack
from jmvae_jax.types import Array, Key

OFF = -1e9
"""Context at which no unit of a layer is above 0, and the layer leaves z as it is."""


class Flow(Distribution):
    """`z = f_L(... f_1(e))`, `e ~ base`, each f an affine coupling layer (Dinh et al., 2017).

    A layer keeps the dimensions of one parity, `e_k`, and from them shifts and scales the others:

    `h = relu(e_k W + context)`, `(s, t) = h V`, `z = e exp(2 tanh(s / 2)) + t`

    (equation (7) of arXiv:1605.08803, conditioned on a row by `context`). With `V = 0` it is its
    base. Draws are reparameterised where the base's are.

    Args:
      base: batch shape `[*b]`, event shape `[D]`.
      context: `[*b, L, H]`.
      inner, outer: `W`, `[L, D, H]`, and `V`, `[L, H, 2 D]`, of all rows.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.real_vector
    pytree_data_fields = ("base", "context", "inner", "outer")

    def __init__(
        self,
        base: Distribution,
        context: Array,
        inner: Array,
        outer: Array,
        *,
        validate_args: bool | None = None,
    ):
        self.base, self.context, self.inner, self.outer = base, context, inner, outer
        super().__init__(base.batch_shape, base.event_shape, validate_args=validate_args)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        return self.transform(self.base.sample(key, sample_shape))

    def transform(self, values: Array) -> Array:
        """From draws of the base to draws of the flow, `[..., D]`."""
        for layer in range(len(self.inner)):
            log_scale, shift = self._affine(layer, values)
            values = values * jnp.exp(log_scale) + shift
        return values

    def log_prob(self, value: Array) -> Array:
        log_det = jnp.zeros(())
        for layer in reversed(range(len(self.inner))):
            log_scale, shift = self._affine(layer, value)
            value = (value - shift) * jnp.exp(-log_scale)
            log_det = log_det + log_scale.sum(axis=-1)
        return self.base.log_prob(value) - log_det

    def _affine(self, layer: int, values: Array) -> tuple[Array, Array]:
        """Logarithm of the scale, and shift, of every dimension; 0 of those that are kept."""
        dim = values.shape[-1]
        kept = (jnp.arange(dim) + layer) % 2 == 0
        inputs = jnp.where(kept, values, 0.0) @ self.inner[layer]
        hidden = jax.nn.relu(inputs + self.context[..., layer, :])
        raw, shift = jnp.split(hidden @ self.outer[layer], 2, axis=-1)
        # Bounded, so that no row's scale runs away.
        log_scale = 2.0 * jnp.tanh(raw / 2.0)
        return jnp.where(kept, 0.0, log_scale), jnp.where(kept, 0.0, shift)

    def unpack(self, batch_shape: tuple[int, ...]) -> tuple[Parts, Callable[[Parts], Distribution]]:
        """See `distributions.unpack`: the arrays of rows; the builder keeps what rows share."""
        base, build_base = unpack(self.base, batch_shape)
        context = jnp.broadcast_to(self.context, batch_shape + self.context.shape[-2:])

        def build(parts: Parts) -> Distribution:
            return Flow(build_base(parts["base"]), parts["context"], self.inner, self.outer)

        return {"base": base, "context": context}, build
