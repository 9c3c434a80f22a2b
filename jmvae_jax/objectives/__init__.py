"""Bounds and alignments, per example and in nats."""

from jmvae_jax.objectives.alignment import jmvae_kl, kl_alignment
from jmvae_jax.objectives.elbo import Bound, elbo, elbo_toward_normal, joint_elbo
from jmvae_jax.objectives.loss import make_loss_fn

__all__ = [
    "Bound",
    "elbo",
    "elbo_toward_normal",
    "jmvae_kl",
    "joint_elbo",
    "kl_alignment",
    "make_loss_fn",
]
