"""Linen bodies: arrays in, arrays out. Any Linen module of yours serves as well."""

from jmvae_jax.networks.classifier import Classifier
from jmvae_jax.networks.conv import ConvDecoder, ConvDiscriminator, ConvEncoder
from jmvae_jax.networks.mlp import MLP, Heads, scaled_glorot
from jmvae_jax.networks.norm import Norm

__all__ = [
    "MLP",
    "Classifier",
    "ConvDecoder",
    "ConvDiscriminator",
    "ConvEncoder",
    "Heads",
    "Norm",
    "scaled_glorot",
]
