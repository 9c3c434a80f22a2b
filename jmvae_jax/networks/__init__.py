"""Linen bodies: arrays in, arrays out."""

from jmvae_jax.networks.mlp import MLP, Heads

__all__ = ["MLP", "Heads"]
