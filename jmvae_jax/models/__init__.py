"""One paper's model, one file."""

from jmvae_jax.models.base import MultimodalModel
from jmvae_jax.models.cmma import CMMA
from jmvae_jax.models.conditional import ConditionalModel
from jmvae_jax.models.cvae import CVAE
from jmvae_jax.models.jmvae import JMVAE
from jmvae_jax.models.modality import Modality
from jmvae_jax.models.vae import VAE

__all__ = ["CMMA", "CVAE", "JMVAE", "VAE", "ConditionalModel", "Modality", "MultimodalModel"]
