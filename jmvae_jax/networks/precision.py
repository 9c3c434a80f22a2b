"""The last layer of a network in half precision: products of halves, results in float32."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jmvae_jax.types import Array


def unrounded_dense(size: int, features: Array, **options: Any) -> nn.Dense:
    """A dense layer for `features`: float32 comes out of float32, and of half precision as well.

    Features of half precision meet the kernel in their own dtype. Their products are summed in
    float32 and stay there, and so does the bias: neither outputs nor logits are rounded. Gradients
    are products of halves again.

    Args:
      size: of the outputs.
      features: what the layer will be called with.
      options: further fields of `nn.Dense`.
    """
    dtype = features.dtype
    if not jnp.issubdtype(dtype, jnp.floating) or jnp.finfo(dtype).bits >= 32:
        return nn.Dense(size, **options)

    def product(features: Array, kernel: Array, dimensions: Any, precision: Any = None) -> Array:
        halves = features.astype(dtype), kernel.astype(dtype)
        return _product_of_halves(*halves, dimensions, precision)

    return nn.Dense(size, dot_general=product, **options)


# Left to itself, autodiff multiplies float32 gradients with halves: a product in full precision.


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _product_of_halves(first: Array, second: Array, dimensions: Any, precision: Any) -> Array:
    return jax.lax.dot_general(
        first, second, dimensions, precision, preferred_element_type=jnp.float32
    )


@_product_of_halves.defjvp
def _product_of_halves_jvp(
    dimensions: Any, precision: Any, primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    def rounded(first: Array, second: Array) -> Array:
        return jax.lax.dot_general(first, second, dimensions, precision)

    _, tangent = jax.jvp(rounded, primals, tangents)
    return _product_of_halves(*primals, dimensions, precision), tangent.astype(jnp.float32)
