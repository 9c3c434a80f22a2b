"""What a trained model is worth, and what it draws."""

from jmvae_jax.evaluation.attributes import (
    attribute_scores,
    balanced_accuracy_stderr,
    mean_scores,
)
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
from jmvae_jax.evaluation.editing import Edit, average_image, edit, signs
from jmvae_jax.evaluation.fitted_prior import (
    aggregate_posterior,
    fit_prior,
    mixture_arrays,
    mixture_prior,
)
from jmvae_jax.evaluation.generation import generate, predict
from jmvae_jax.evaluation.importance import Estimate, summarize
from jmvae_jax.evaluation.latent import interpolate, posterior_mean
from jmvae_jax.evaluation.likelihood import (
    Query,
    estimate,
    log_likelihood,
    standard_queries,
)
from jmvae_jax.evaluation.sharpness import sharpness

__all__ = [
    "Agreement",
    "Edit",
    "Estimate",
    "Judge",
    "Judged",
    "Query",
    "aggregate_posterior",
    "agreement",
    "attribute_scores",
    "average_image",
    "balanced_accuracy_stderr",
    "edit",
    "estimate",
    "fit_prior",
    "frechet_distance",
    "frechet_stderr",
    "generate",
    "interpolate",
    "judge_from_labels",
    "judge_from_prior",
    "judge_images",
    "log_likelihood",
    "mean_scores",
    "mixture_arrays",
    "mixture_prior",
    "posterior_mean",
    "predict",
    "sharpness",
    "signs",
    "standard_queries",
    "summarize",
]
