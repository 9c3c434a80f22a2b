"""Gaussian posteriors, their divergences and their products."""

import contextlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import Distribution

from jmvae_jax.distributions.flow import Flow
from jmvae_jax.distributions.sampling import example_keys, sample
from jmvae_jax.types import Array, Key


def gaussian(mean: Array, variance: Array) -> Distribution:
    """Diagonal Gaussian over `[..., D]` from its mean and variance."""
    return dist.Normal(mean, jnp.sqrt(variance), validate_args=False).to_event(1)


def standard_normal(dim: int) -> Distribution:
    """`N(0, I)` over `[dim]`, without batch axes."""
    return gaussian(jnp.zeros(dim), jnp.ones(dim))


def kl_divergence(p: Distribution, q: Distribution, z: Array | None = None) -> Array:
    """`KL(p || q)` in nats, over the batch shape: `E_p[log p(z) - log q(z)]`.

    In closed form where there is one (between any two Gaussians, among others), otherwise the
    one-sample estimate at `z`, a reparameterised draw from `p`. There the gradient reaches `p`
    through `z` alone, which is unbiased and vanishes where `p` is `q` ("sticking the landing",
    Roeder et al., 2017, arXiv:1703.09194). Of a mixture `p`, or a flow over one, whose
    draws have no gradient to the weights, `z` holds a draw of each component, `[K, *b, D]` (see
    `component_draws`), and the estimate is `sum_k w_k (log p(z_k) - log q(z_k))`.

    Raises:
      ValueError: there is no closed form and `z` was not given, or it has another shape.
    """
    for form in (lambda distribution: distribution, _multivariate):
        with contextlib.suppress(NotImplementedError):
            return dist.kl_divergence(form(p), form(q))
    if z is None:
        raise ValueError(
            f"KL({type(p).__name__} || {type(q).__name__}) has no closed form: give z, a "
            "draw from the first"
        )
    mixture = mixture_of(p)
    if mixture is not None:
        expected = (mixture.mixture_size, *p.batch_shape, *p.event_shape)
        if z.shape != expected:
            raise ValueError(
                f"z has shape {z.shape}: expected {expected}, a draw of each component of the "
                "first, see component_draws"
            )
    fixed: Distribution = jax.lax.stop_gradient(p)
    terms: Array = fixed.log_prob(z) - q.log_prob(z)
    if mixture is not None:
        weights = jnp.moveaxis(mixture.mixing_distribution.probs, -1, 0)
        terms = jnp.sum(weights * terms, axis=0)
    return terms


def mixture_of(distribution: Distribution) -> dist.MixtureSameFamily | None:
    """The mixture that its draws come from, by themselves or through a flow; None: they do not."""
    base = distribution.base if isinstance(distribution, Flow) else distribution
    return base if isinstance(base, dist.MixtureSameFamily) else None


def component_draws(distribution: Distribution, keys: Key) -> Array:
    """What `kl_divergence` needs of its first argument: a draw for each key, `[*b, D]`.

    Of a mixture, or a flow over one, a draw of each of its K components, `[K, *b, D]`.
    """
    mixture = mixture_of(distribution)
    if mixture is None:
        return sample(distribution, keys)
    keys = jax.vmap(example_keys, (0, None))(keys, jnp.arange(mixture.mixture_size))
    draws: Array = jnp.moveaxis(sample(mixture.component_distribution, keys), -2, 0)
    return distribution.transform(draws) if isinstance(distribution, Flow) else draws


def _multivariate(distribution: Distribution) -> Distribution:
    """A Gaussian over `[D]` by its Cholesky factor; any other distribution as it is."""
    if isinstance(distribution, dist.LowRankMultivariateNormal):
        mean, factor = distribution.loc, distribution.scale_tril
    elif is_diagonal(distribution):
        mean, deviation = distribution.mean, distribution.base_dist.scale
        factor = deviation[..., None] * jnp.eye(mean.shape[-1])
    else:
        return distribution
    return dist.MultivariateNormal(mean, scale_tril=factor, validate_args=False)


def is_diagonal(distribution: Distribution) -> bool:
    """Whether it is a Gaussian over `[D]` with independent dimensions, as `gaussian` makes it."""
    return (
        isinstance(distribution, dist.Independent)
        and isinstance(distribution.base_dist, dist.Normal)
        and distribution.event_dim == 1
    )


def moments(distribution: Distribution) -> tuple[Array, Array]:
    """Mean and variance of a diagonal Gaussian, each `[..., D]`."""
    return distribution.mean, distribution.variance


def product_of_experts(
    experts: Sequence[Distribution],
    present: Sequence[Array] | None = None,
    *,
    prior: str = "once",
) -> Distribution:
    """Product of diagonal Gaussian posteriors of the same latent, all under the prior N(0, I).

    Each posterior already contains the prior. With `prior="once"` the surplus copies are divided
    out: `L_m = max(1/var_m, 1)`, `L = sum_m L_m - (n - 1)`, `mean = (sum_m L_m mu_m) / L` over
    the `n` experts of a row. It is always proper, a row with one expert keeps that expert as it
    is, and a row with none has the prior. `prior="each"` is the plain product `L = sum_m 1/var_m`.

    Args:
      experts: diagonal Gaussians over `[B, D]`.
      present: for each expert `bool[B]`, true where the row has it; None: everywhere.
      prior: "once" or "each".

    Raises:
      ValueError: no expert, one that is no diagonal Gaussian, not a `present` for each, or an
        unknown `prior`.
    """
    if not experts:
        raise ValueError("experts is empty: a product needs at least one")
    if not all(map(is_diagonal, experts)):
        found = sorted({type(expert).__name__ for expert in experts if not is_diagonal(expert)})
        raise ValueError(f"experts: a product is of diagonal Gaussians, and {found} came")
    if present is not None and len(present) != len(experts):
        raise ValueError(
            f"present has length {len(present)}: expected {len(experts)}, one an expert"
        )
    if prior not in ("once", "each"):
        raise ValueError(f"prior={prior!r}: expected 'once' or 'each'")
    means, variances = (jnp.stack(parts) for parts in zip(*map(moments, experts), strict=True))
    there = jnp.ones(means.shape[:-1], bool) if present is None else jnp.stack(list(present))
    there = there[..., None]
    count = jnp.sum(there, axis=0)
    precisions = 1.0 / variances
    if prior == "once":
        precisions = jnp.maximum(precisions, 1.0)
        surplus = count - 1
    else:
        surplus = -(count == 0).astype(precisions.dtype)
    total = jnp.sum(jnp.where(there, precisions, 0.0), axis=0) - surplus
    mean = jnp.sum(jnp.where(there, precisions * means, 0.0), axis=0) / total
    alone = [jnp.sum(jnp.where(there, part, 0.0), axis=0) for part in (means, variances)]
    return gaussian(
        jnp.where(count == 1, alone[0], mean), jnp.where(count == 1, alone[1], 1.0 / total)
    )
