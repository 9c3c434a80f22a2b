"""A classifier of small images, for judging what a model generates."""

import math
from collections.abc import Sequence

import flax.linen as nn

from jmvae_jax.networks.strided import HalvingConv
from jmvae_jax.types import Array


class Classifier(nn.Module):
    """Halving convolutions and one hidden layer: images -> logits and features.

    Args:
      num_classes: C.
      channels: of each convolution; each halves height and width.
      hidden: F, size of the hidden layer.

    Called with images `[N, H, W, channels]` it gives logits `[N, C]` and the features `[N, F]` of
    the hidden layer, before its activation: the space in which sets of images are compared.

    Raises:
      ValueError: height or width cannot be halved so often.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jmvae_jax.networks import Classifier
      >>> judge = Classifier(num_classes=10)
      >>> (logits, features), _ = judge.init_with_output(
      ...     jax.random.key(0), jnp.zeros((2, 28, 28, 1)))
      >>> logits.shape, features.shape
      ((2, 10), (2, 128))
    """

    num_classes: int
    channels: Sequence[int] = (32, 64)
    hidden: int = 128

    @nn.compact
    def __call__(self, images: Array) -> tuple[Array, Array]:
        if images.ndim != 4 or math.gcd(*images.shape[1:3]) % 2 ** len(self.channels):
            raise ValueError(
                f"images have shape {images.shape}: expected [N, H, W, channels] with H and W "
                f"multiples of {2 ** len(self.channels)}"
            )
        maps = images
        for size in self.channels:
            maps = nn.relu(HalvingConv(size)(maps))
        features = nn.Dense(self.hidden)(maps.reshape(maps.shape[0], -1))
        return nn.Dense(self.num_classes)(nn.relu(features)), features
