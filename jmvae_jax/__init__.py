"""Joint multimodal variational autoencoders in JAX and Flax.

Models are Linen modules whose methods return distributions; objectives are functions of a model
that return one number an example; everything else (training, evaluation) is built on these two.
"""

from jmvae_jax import distributions, objectives, parallel
from jmvae_jax.evaluation import Query, estimate, generate, log_likelihood, predict
from jmvae_jax.models import CMMA, CVAE, JMVAE, VAE, Modality, MultimodalModel
from jmvae_jax.networks import MLP
from jmvae_jax.objectives import Bound, elbo, elbo_toward_normal, jmvae_kl, make_loss_fn

__version__ = "0.1.0"

__all__ = [
    "CMMA",
    "CVAE",
    "JMVAE",
    "MLP",
    "VAE",
    "Bound",
    "Modality",
    "MultimodalModel",
    "Query",
    "distributions",
    "elbo",
    "elbo_toward_normal",
    "estimate",
    "generate",
    "jmvae_kl",
    "log_likelihood",
    "make_loss_fn",
    "objectives",
    "parallel",
    "predict",
]
