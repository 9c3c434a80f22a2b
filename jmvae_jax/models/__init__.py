"""One paper's model, one file."""

from jmvae_jax.models.base import Modality, MultimodalModel
from jmvae_jax.models.jmvae import JMVAE
from jmvae_jax.models.vae import VAE

__all__ = ["JMVAE", "VAE", "Modality", "MultimodalModel"]
