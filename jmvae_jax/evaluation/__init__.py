"""What a trained model is worth, and what it draws."""

from jmvae_jax.evaluation.coherence import (
    Agreement,
    Judge,
    Judged,
    agreement,
    frechet_distance,
    frechet_stderr,
    judge_from_labels,
    judge_from_prior,
    judge_images,
)
from jmvae_jax.evaluation.generation import generate, predict
from jmvae_jax.evaluation.importance import Estimate
from jmvae_jax.evaluation.latent import interpolate, posterior_mean
from jmvae_jax.evaluation.likelihood import (
    Query,
    estimate,
    log_likelihood,
    standard_queries,
    summarize,
)

__all__ = [
    "Agreement",
    "Estimate",
    "Judge",
    "Judged",
    "Query",
    "agreement",
    "estimate",
    "frechet_distance",
    "frechet_stderr",
    "generate",
    "interpolate",
    "judge_from_labels",
    "judge_from_prior",
    "judge_images",
    "log_likelihood",
    "posterior_mean",
    "predict",
    "standard_queries",
    "summarize",
]
