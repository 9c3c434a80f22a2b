"""What a trained model is worth, and what it draws."""

from jmvae_jax.evaluation.generation import generate, predict
from jmvae_jax.evaluation.importance import Estimate
from jmvae_jax.evaluation.likelihood import (
    Query,
    estimate,
    log_likelihood,
    standard_queries,
    summarize,
)

__all__ = [
    "Estimate",
    "Query",
    "estimate",
    "generate",
    "log_likelihood",
    "predict",
    "standard_queries",
    "summarize",
]
