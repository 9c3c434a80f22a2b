"""From what is stored to what a model reads: pure functions that run inside the step.

A transform maps keys `[B]` and stored values `[B, ...]` to floats `[B, *shape]`. The keys decide
how it is random: from (seed, step, position) in training, so every epoch draws anew; from a
fixed key and the example's index in evaluation, so an example is the same in any batch.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Transform = Callable[[jax.Array, jax.Array], jax.Array]

EVALUATION_SEED = 20161107
"""Seed of the key that fixes what evaluation draws: the test set is binarised once."""


def binarize(keys: jax.Array, pixels: jax.Array) -> jax.Array:
    """Bernoulli draws `{0., 1.}` with probability `pixels / 255`; pixels are `uint8[B, ...]`.

    The probability is rounded to 1/65536 (0 and 1 are exact), so that one random word serves two
    pixels.

    Raises:
      ValueError: the pixels are not uint8.
    """
    _check_stored(pixels)
    return jax.vmap(_binarize_one)(keys, pixels)


def _check_stored(pixels: jax.Array) -> None:
    if pixels.dtype != jnp.uint8:
        raise ValueError(f"pixels are {pixels.dtype}: expected uint8, as they are stored")


def _binarize_one(key: jax.Array, pixels: jax.Array) -> jax.Array:
    words = jax.random.bits(key, (-(-pixels.size // 2),))
    halves = jnp.concatenate([words & 0xFFFF, words >> 16])[: pixels.size]
    thresholds = (pixels.astype(jnp.uint32) * 65536 + 127) // 255
    return (halves.reshape(pixels.shape) < thresholds).astype(jnp.float32)


def unit_interval(keys: jax.Array, pixels: jax.Array) -> jax.Array:
    """`pixels / 255` in [0, 1], without noise; ValueError where they are not uint8."""
    _check_stored(pixels)
    return pixels.astype(jnp.float32) / 255.0


def standardize(mean: np.ndarray, deviation: np.ndarray) -> Transform:
    """Pixels `uint8[B, *shape]` to `(pixels / 255 - mean) / deviation`.

    Args:
      mean, deviation: `[*shape]`, of pixels / 255, see `data.pixel_statistics`.

    Raises:
      ValueError: a deviation that is not above 0.
    """
    if not np.all(np.asarray(deviation) > 0):
        raise ValueError(f"deviation: expected values above 0, the least is {np.min(deviation)}")

    def transform(keys: jax.Array, pixels: jax.Array) -> jax.Array:
        return (unit_interval(keys, pixels) - mean) / deviation

    return transform


def unstandardize(mean: np.ndarray, deviation: np.ndarray) -> Callable[[Any], jax.Array]:
    """The way back from `standardize`, to pixels in [0, 1]: `[..., *shape]`, clipped."""

    def pixels(values: Any) -> jax.Array:
        return jnp.clip(jnp.asarray(values) * deviation + mean, 0.0, 1.0)

    return pixels


def as_floats(keys: jax.Array, values: jax.Array) -> jax.Array:
    """The stored numbers themselves: attributes in {-1, 1}."""
    return values.astype(jnp.float32)


def one_hot(num_classes: int) -> Transform:
    """Integer labels `[B]` to one-hot floats `[B, num_classes]`."""

    def transform(keys: jax.Array, labels: jax.Array) -> jax.Array:
        return jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)

    return transform


def apply_transforms(
    transforms: Mapping[str, Transform], keys: jax.Array, stored: Mapping[str, Any]
) -> dict[str, jax.Array]:
    """The modalities named in `transforms`, each with its own stream of every example's key.

    Args:
      transforms: modality -> transform.
      keys: `[B]`, one an example.
      stored: modality -> stored values `[B, ...]`; others are left out.

    Returns:
      modality -> `float32[B, *shape]`.
    """
    fold = jax.vmap(jax.random.fold_in, (0, None))
    # By the name itself, so that a modality draws the same whatever stands beside it.
    return {
        name: transform(fold(keys, np.uint32(zlib.crc32(name.encode()))), stored[name])
        for name, transform in transforms.items()
    }


def streams(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two independent keys for each example `[B]`: the model's noise, and the transforms'."""
    fold = jax.vmap(jax.random.fold_in, (0, None))
    return fold(keys, 0), fold(keys, 1)


def evaluation_batch(
    transforms: Mapping[str, Transform], stored: Mapping[str, Any]
) -> tuple[dict[str, jax.Array], jax.Array]:
    """What a model reads in evaluation: each example is the same in any batch.

    Args:
      transforms: modality -> transform.
      stored: modality -> stored values `[B, ...]`, and `index int32[B]`, the examples' places
        in their split.

    Returns:
      modality -> `float32[B, *shape]`, and keys `[B]` for the model's noise.
    """
    key = jax.random.key(EVALUATION_SEED)
    noise, draws = streams(jax.vmap(jax.random.fold_in, (None, 0))(key, stored["index"]))
    return apply_transforms(transforms, draws, stored), noise
