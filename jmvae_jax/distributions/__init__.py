"""Likelihood families by name, Gaussian posteriors, products of experts, divergences, sampling.

Everything here is a `numpyro.distributions` object, built without argument validation, or an
operation on such objects. Parameters and values are float32.

Sampling has one rule (`sample`): the shape of the keys is the shape of the draws, so noise
belongs to an example and not to a batch, and the same example draws the same numbers on any
device, in any chunk and under any padding.
"""

from numpyro.distributions import Distribution

from jmvae_jax.distributions.families import (
    FAMILIES,
    Family,
    OneHotCategorical,
    as_event,
    bernoulli,
    categorical,
    laplace,
    laplace_learned,
    likelihood_family,
    normal,
    normal_channel_mean,
    normal_learned,
    normal_tanh,
    positive,
    predicted_parameters,
)
from jmvae_jax.distributions.flow import Flow
from jmvae_jax.distributions.posterior_families import (
    DIAGONAL,
    Coupling,
    Diagonal,
    Full,
    LowRank,
    Mixture,
    Output,
    PosteriorFamily,
    center,
    is_reparameterized,
)
from jmvae_jax.distributions.posteriors import (
    component_draws,
    gaussian,
    is_diagonal,
    kl_divergence,
    moments,
    product_of_experts,
    standard_normal,
)
from jmvae_jax.distributions.sampling import draw_keys, example_keys, name_number, sample, unpack

__all__ = [
    "DIAGONAL",
    "FAMILIES",
    "Coupling",
    "Diagonal",
    "Distribution",
    "Family",
    "Flow",
    "Full",
    "LowRank",
    "Mixture",
    "OneHotCategorical",
    "Output",
    "PosteriorFamily",
    "as_event",
    "bernoulli",
    "categorical",
    "center",
    "component_draws",
    "draw_keys",
    "example_keys",
    "gaussian",
    "is_diagonal",
    "is_reparameterized",
    "kl_divergence",
    "laplace",
    "laplace_learned",
    "likelihood_family",
    "moments",
    "name_number",
    "normal",
    "normal_channel_mean",
    "normal_learned",
    "normal_tanh",
    "positive",
    "predicted_parameters",
    "product_of_experts",
    "sample",
    "standard_normal",
    "unpack",
]
