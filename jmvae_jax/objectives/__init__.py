"""Bounds and alignments, per example and in nats."""

from jmvae_jax.objectives.adversarial import Adversary, discriminator_loss, generator_loss
from jmvae_jax.objectives.alignment import jmvae_kl, kl_alignment
from jmvae_jax.objectives.elbo import (
    Bound,
    elbo,
    elbo_toward_normal,
    importance_weighted,
    joint_elbo,
)
from jmvae_jax.objectives.loss import make_loss_fn

__all__ = [
    "Adversary",
    "Bound",
    "discriminator_loss",
    "elbo",
    "elbo_toward_normal",
    "generator_loss",
    "importance_weighted",
    "jmvae_kl",
    "joint_elbo",
    "kl_alignment",
    "make_loss_fn",
]
