"""Gaussian posteriors, their divergences and their products."""

import contextlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import Distribution

from jmvae_jax.distributions.flow import Flow
from jmvae_jax.distributions.low_rank import LowRankNormal
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
      ValueError: there is no closed form and `z` was not given, or its shape does not end in
        that of such draws.
    """
    with contextlib.suppress(NotImplementedError):
        return dist.kl_divergence(p, q)
    if is_gaussian(p) and is_gaussian(q):
        return _gaussian_divergence(_precise(p), _precise(q))
    if z is None:
        raise ValueError(
            f"KL({type(p).__name__} || {type(q).__name__}) has no closed form: give z, a "
            "draw from the first"
        )
    mixture = mixture_of(p)
    components = () if mixture is None else (mixture.mixture_size,)
    expected = (*components, *p.batch_shape, *p.event_shape)
    further = z.ndim - len(expected)
    if z.shape[further:] != expected or (components and further):
        what = "a draw of each component of" if components else "draws from"
        raise ValueError(
            f"z has shape {z.shape}: expected {expected}, {what} the first, see component_draws"
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


def _precise(gaussian: Distribution) -> Distribution:
    """The same Gaussian, one of low rank with the density that single precision needs."""
    if type(gaussian) is not dist.LowRankMultivariateNormal:
        return gaussian
    parts = gaussian.loc, gaussian.cov_factor, gaussian.cov_diag
    return LowRankNormal(*parts, validate_args=False)


def _gaussian_divergence(p: Distribution, q: Distribution) -> Array:
    """`E_p[log p] - E_p[log q]` of Gaussians over `[D]` with any covariances, without inverses.

    `log p(m) - log q(m) + (tr(C_q^-1 C_p) - D) / 2` at the mean m of p. No covariance of low rank
    is multiplied out: in single precision its small variances would drown.
    """
    shape = jax.lax.broadcast_shapes(p.batch_shape, q.batch_shape)
    mean = jnp.broadcast_to(p.mean, (*shape, *p.event_shape))
    apart: Array = p.log_prob(mean) - q.log_prob(mean)
    return apart + (_relative_variance(p, q, shape) - mean.shape[-1]) / 2


def _relative_variance(p: Distribution, q: Distribution, shape: tuple[int, ...]) -> Array:
    """`tr(C_q^-1 C_p)`, over the batch shape `shape`."""
    if is_diagonal(q):
        return jnp.sum(p.variance / q.variance, axis=-1)
    root = _root(p)
    root = jnp.broadcast_to(root, (*shape, *root.shape[-2:]))
    if isinstance(q, dist.MultivariateNormal):
        factor = jnp.broadcast_to(q.scale_tril, (*shape, *q.scale_tril.shape[-2:]))
        return jnp.sum(jnp.square(_solve(factor, root)), axis=(-2, -1))
    relative: Array = q.relative_variance(root)  # of low rank
    return relative


def _solve(factor: Array, values: Array) -> Array:
    return jax.scipy.linalg.solve_triangular(factor, values, lower=True)


def _root(gaussian: Distribution) -> Array:
    """A matrix `[..., D, N]` whose product with its transpose is the covariance."""
    if isinstance(gaussian, dist.MultivariateNormal):
        return gaussian.scale_tril
    low = isinstance(gaussian, LowRankNormal)
    deviation = jnp.sqrt(gaussian.cov_diag if low else gaussian.variance)
    diagonal = deviation[..., None] * jnp.eye(deviation.shape[-1])
    return jnp.concatenate([gaussian.cov_factor, diagonal], axis=-1) if low else diagonal


def is_gaussian(distribution: Distribution) -> bool:
    """Whether it is a Gaussian over `[D]` of any covariance that a posterior family makes."""
    correlated = (dist.MultivariateNormal, dist.LowRankMultivariateNormal)
    return is_diagonal(distribution) or isinstance(distribution, correlated)


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
