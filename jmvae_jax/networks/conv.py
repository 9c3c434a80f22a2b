"""The paper's convolutional networks (section 4.2 of arXiv:1611.01891), for images of any size.

Images are square, `[N, S, S, C]` with S a power of two from 8 on. Each stage halves or doubles the
size, so there are `log2(S) - 2` of them around an innermost map of 4 x 4; channels double from 64
to 256 and stay there: 64, 128, 256, 256 at S = 64. `width` multiplies them all.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jmvae_jax.networks.norm import Norm
from jmvae_jax.networks.precision import unrounded_dense
from jmvae_jax.networks.strided import DoublingConv, HalvingConv
from jmvae_jax.types import Array

INNERMOST = 4


def stage_channels(size: int, width: float) -> list[int]:
    """Channels of each stage from the image inwards.

    Raises:
      ValueError: a size that is no power of two from 8 on, or a width that leaves no channel.
    """
    stages = size.bit_length() - 1 - (INNERMOST.bit_length() - 1)
    if size < 2 * INNERMOST or size != 1 << (size.bit_length() - 1):
        raise ValueError(f"images of size {size}: expected a power of two from {2 * INNERMOST} on")
    channels = [round(width * min(64 * 2**stage, 256)) for stage in range(stages)]
    if min(channels) < 1:
        raise ValueError(f"width={width} leaves stages of {channels} channels")
    return channels


class ConvEncoder(nn.Module):
    """Halving convolutions, and a hidden layer over them: `[N, S, S, C] -> [N, hidden]`.

    Args:
      width: factor on the channels and on `hidden`.
      hidden: size of the layer after the last convolution; None: its map, flat.
      norm, axis_name: see `Norm`; after every convolution but the first.
      implementation: see `strided.IMPLEMENTATIONS`.
      activation: after each layer.
      dtype: of the computation and the features, `jnp.bfloat16` say. Parameters and statistics
        stay float32. None: that of the images and of the parameters, float32.
      remat: whether the backward pass computes each stage anew (convolution, norm, activation)
        from what went into it, instead of keeping what happened inside: less memory, more time,
        the same parameters and statistics. XLA undoes it on a CPU.

    Raises:
      ValueError: images that are not square, or of another size than a power of two; a dtype that
        is not floating.
    """

    width: float = 1.0
    hidden: int | None = 1024
    norm: str | None = "batch"
    axis_name: str | None = None
    implementation: str = "auto"
    activation: Callable[[Array], Array] = nn.relu
    dtype: Any = None
    remat: bool = False

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array:
        maps = _halved(self, images, self.activation, self.norm, self.axis_name, train)
        if self.hidden is None:
            return maps
        dense = nn.Dense(round(self.width * self.hidden), dtype=self.dtype)
        return self.activation(dense(maps))


class ConvDiscriminator(nn.Module):
    """The discriminator of JMVAE-GAN: images, and what else it may see, to one logit `[N]`.

    Args:
      width, hidden, implementation, dtype, remat: as in `ConvEncoder`; leaky rectifiers (0.01),
        no norm. The logit is float32.

    Called with images `[N, S, S, C]` and, for a conditional one, features `[N, F]`, which stand
    beside the last map.
    """

    width: float = 1.0
    hidden: int = 1024
    implementation: str = "auto"
    dtype: Any = None
    remat: bool = False

    @nn.compact
    def __call__(self, images: Array, features: Array | None = None) -> Array:
        seen = _halved(self, images, nn.leaky_relu)
        if features is not None:
            seen = jnp.concatenate([seen, features], axis=-1)
        dense = nn.Dense(round(self.width * self.hidden), dtype=self.dtype)
        hidden = nn.leaky_relu(dense(seen))
        return unrounded_dense(1, hidden)(hidden)[:, 0]


class Stage(nn.Module):
    """A convolution, its norm and the activation, whose parameters the network around it holds."""

    conv: nn.Module
    norm: nn.Module | None
    activation: Callable[[Array], Array]

    def __call__(self, maps: Array, train: bool) -> Array:
        maps = self.conv(maps)
        if self.norm is not None:
            maps = self.norm(maps, train)
        return self.activation(maps)


def _stage(remat: bool) -> type[Stage]:
    """`Stage`, or the one that the backward pass computes anew; `train` stays a Python value."""
    return nn.remat(Stage, static_argnums=(2,)) if remat else Stage


def _halved(
    network: ConvEncoder | ConvDiscriminator,
    images: Array,
    activation: Callable[[Array], Array],
    norm: str | None = None,
    axis_name: str | None = None,
    train: bool = False,
) -> Array:
    """The stages of an encoder or a discriminator, flat; the norm is in all but the first."""
    if images.ndim != 4 or images.shape[1] != images.shape[2]:
        raise ValueError(f"images have shape {images.shape}: expected [N, S, S, channels]")
    maps = images
    stage = _stage(network.remat)
    for number, channels in enumerate(stage_channels(images.shape[1], network.width)):
        normed = number > 0 and norm is not None
        conv = HalvingConv(channels, not normed, network.implementation, network.dtype)
        own = Norm(norm, axis_name, network.dtype) if normed else None
        maps = stage(conv, own, activation)(maps, train)
    return maps.reshape(maps.shape[0], -1)


class ConvDecoder(nn.Module):
    """A map of 4 x 4 and doubling convolutions: `[N, D] -> {parameter: [N, S, S, C]}`.

    Args:
      shape: of one image, `(64, 64, 3)` say.
      parameters: names of what is predicted; the likelihood's ("loc" of `normal`).
      width, norm, axis_name, implementation, activation, dtype, remat: as in `ConvEncoder`; the
        norm is after every convolution but the last, which is linear and no stage of `remat`.

    Raises:
      ValueError: a shape that is not square, or of another size than a power of two.
    """

    shape: tuple[int, int, int]
    parameters: tuple[str, ...] = ("loc",)
    width: float = 1.0
    norm: str | None = "batch"
    axis_name: str | None = None
    implementation: str = "auto"
    activation: Callable[[Array], Array] = nn.relu
    dtype: Any = None
    remat: bool = False

    @nn.compact
    def __call__(self, z: Array, train: bool = False) -> Mapping[str, Array]:
        size, other, channels = self.shape
        if size != other:
            raise ValueError(f"shape={self.shape}: expected a square image")
        inner = stage_channels(size, self.width)[::-1]
        dense = nn.Dense(INNERMOST * INNERMOST * inner[0], dtype=self.dtype)
        first = self.activation(dense(z))
        maps = first.reshape(-1, INNERMOST, INNERMOST, inner[0])
        stage = _stage(self.remat)
        for features in inner[1:]:
            conv = DoublingConv(features, self.norm is None, self.implementation, self.dtype)
            norm = Norm(self.norm, self.axis_name, self.dtype)
            maps = stage(conv, norm, self.activation)(maps, train)
        count = len(self.parameters)
        last = DoublingConv(channels * count, True, self.implementation, self.dtype)(maps)
        return dict(zip(self.parameters, jnp.split(last, count, axis=-1), strict=True))
