"""Convolutions of 4 x 4 that halve or double an image, in two implementations that are equal."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jmvae_jax.types import Array

IMPLEMENTATIONS = ("auto", "native", "matmul")
"""How a convolution is computed: by XLA's convolution, or by slices and one matrix product, whose
gradient is several times faster on a CPU and knows reverse mode only. "auto" takes the faster one
of the default backend."""


def _is_native(implementation: str) -> bool:
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(f"implementation={implementation!r}: expected one of {IMPLEMENTATIONS}")
    if implementation == "auto":
        return jax.default_backend() != "cpu"
    return implementation == "native"


class Kernel(nn.Module):
    """The matrix `[16 C, F]` and bias of a convolution of 4 x 4 over squares of 2 x 2 pixels.

    Its rows count square rows, square columns, rows and columns inside a square, and channels.
    """

    inputs: int
    features: int
    use_bias: bool = True

    @nn.compact
    def __call__(self) -> tuple[Array, Array | None]:
        shape = (16 * self.inputs, self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, shape[1:]) if self.use_bias else None
        return kernel, bias


def _window(kernel: Array, inputs: int) -> Array:
    """`[16 C, F] -> [4, 4, C, F]`: rows, columns, channels, features."""
    squares = kernel.reshape(2, 2, 2, 2, inputs, -1)
    return squares.transpose(0, 2, 1, 3, 4, 5).reshape(4, 4, inputs, -1)


class HalvingConv(nn.Module):
    """Convolution of 4 x 4 with stride 2 and padding 1: `[N, H, W, C] -> [N, H/2, W/2, F]`.

    Height and width are even. `dtype` is that of the computation and of what comes out; matrix and
    bias stay float32, as do the sums. None: that of the images and of the matrix, float32.
    """

    features: int
    use_bias: bool = True
    implementation: str = "auto"
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array) -> Array:
        channels = images.shape[-1]
        kernel, bias = Kernel(channels, self.features, self.use_bias, name="Dense_0")()
        images = _promoted(images, kernel, self.dtype)
        native = _is_native(self.implementation)
        outputs = _halve_natively(images, kernel) if native else _halve(images, kernel)
        return _biased(outputs, bias)


def _promoted(images: Array, kernel: Array, dtype: Any) -> Array:
    """Images in the dtype of the computation."""
    return images.astype(nn.dtypes.canonicalize_dtype(images, kernel, dtype=dtype))


def _biased(outputs: Array, bias: Array | None) -> Array:
    """`outputs + bias`, added in the dtype of the bias, which is float32, and rounded once."""
    return outputs if bias is None else (outputs + bias).astype(outputs.dtype)


def _halve_natively(images: Array, kernel: Array) -> Array:
    return jax.lax.conv_general_dilated(
        images,
        _window(kernel.astype(images.dtype), images.shape[-1]),
        window_strides=(2, 2),
        padding=((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _columns(images: Array) -> Array:
    """What each output of a halving convolution sees: `[N, H, W, C] -> [N, H/2, W/2, 16 C]`."""
    rows, height, width, channels = images.shape
    high, wide = height // 2, width // 2
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    # Squares of 2 x 2 pixels as channels: an output sees four neighbouring squares.
    squares = padded.reshape(rows, high + 1, 2, wide + 1, 2, channels)
    squares = squares.transpose(0, 1, 3, 2, 4, 5).reshape(rows, high + 1, wide + 1, -1)
    seen = [squares[:, i : i + high, j : j + wide] for i in (0, 1) for j in (0, 1)]
    return jnp.concatenate(seen, axis=-1)


# The two are each other's transposes, so each one's gradient is the other and one more product.
# Left to itself, autodiff builds the gradient of `_double` from scattered sums: ten times slower
# on a CPU. The barriers keep XLA from computing `_columns` anew inside the products.
#
# Images have the dtype of the computation, kernels that of the parameters: sums that are written
# out here and the gradients of kernels have the latter, and are not rounded on their way.


@jax.custom_vjp
def _halve(images: Array, kernel: Array) -> Array:
    return _columns(images) @ kernel.astype(images.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _double(images: Array, kernel: Array, features: int) -> Array:
    rows, high, wide, _ = images.shape
    products = _product(images, kernel.T.astype(images.dtype), kernel.dtype)
    patches = products.reshape(rows, high, wide, 2, 2, 2, 2, features)
    # Each input adds a square of 2 x 2 pixels at each of its four corners.
    squares = jnp.zeros((rows, high + 1, wide + 1, 2, 2, features), patches.dtype)
    for i in (0, 1):
        for j in (0, 1):
            edges = ((0, 0), (i, 1 - i), (j, 1 - j), (0, 0), (0, 0), (0, 0))
            squares = squares + jnp.pad(patches[:, :, :, i, j], edges)
    pixels = squares.transpose(0, 1, 3, 2, 4, 5).reshape(rows, 2 * high + 2, 2 * wide + 2, features)
    return pixels[:, 1:-1, 1:-1].astype(images.dtype)


def _product(first: Array, second: Array, dtype: Any) -> Array:
    """A matrix product that is not rounded below `dtype`."""
    return jnp.matmul(first, second, preferred_element_type=dtype)


def _summed_products(first: Array, second: Array, dtype: Any) -> Array:
    """`[N, H, W, A]` and `[N, H, W, B]` to the sum of their outer products, `[A, B]`."""
    columns = first.reshape(-1, first.shape[-1]).T
    return _product(columns, second.reshape(-1, second.shape[-1]), dtype)


def _halve_forward(images: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _halve(images, kernel), (images, kernel)


def _halve_backward(kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    images, kernel = kept
    columns, gradient = jax.lax.optimization_barrier((_columns(images), gradient))
    to_images = _double(gradient, kernel, images.shape[-1])
    return to_images, _summed_products(columns, gradient, kernel.dtype)


def _double_forward(
    images: Array, kernel: Array, features: int
) -> tuple[Array, tuple[Array, Array]]:
    return _double(images, kernel, features), (images, kernel)


def _double_backward(
    features: int, kept: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    images, kernel = kept
    columns = jax.lax.optimization_barrier(_columns(jax.lax.optimization_barrier(gradient)))
    to_images = columns @ kernel.astype(columns.dtype)
    return to_images, _summed_products(columns, images, kernel.dtype)


_halve.defvjp(_halve_forward, _halve_backward)
_double.defvjp(_double_forward, _double_backward)


class DoublingConv(nn.Module):
    """Transposed convolution of 4 x 4, stride 2, padding 1: `[N, H, W, C] -> [N, 2H, 2W, F]`.

    The transpose of `HalvingConv` from F to C channels with the same matrix; `dtype` as there.
    """

    features: int
    use_bias: bool = True
    implementation: str = "auto"
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array) -> Array:
        channels = images.shape[-1]
        shape = (16 * self.features, channels)
        # Four of the sixteen products meet in each output, so the fan is 4 C.
        initial = nn.initializers.variance_scaling(0.25, "fan_in", "truncated_normal", 1, 0)
        kernel = self.param("kernel", initial, shape)
        bias = (
            self.param("bias", nn.initializers.zeros, (self.features,)) if self.use_bias else None
        )
        images = _promoted(images, kernel, self.dtype)
        native = _is_native(self.implementation)
        double = _double_natively if native else _double
        return _biased(double(images, kernel, self.features), bias)


def _double_natively(images: Array, kernel: Array, features: int) -> Array:
    window = _window(kernel.astype(images.dtype), features)  # [4, 4, F, C]
    return jax.lax.conv_transpose(
        images,
        window,
        strides=(2, 2),
        padding=((2, 2), (2, 2)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        transpose_kernel=True,
    )
