"""A prior fitted after training: a mixture of Gaussians over draws of the aggregate posterior.

Training pulls the aggregate posterior

(1) `q(z) = (1/N) sum_n q(z | x_n)`

towards p(z) and does not reach it, so that draws of p(z) fall where nothing was decoded. A density
fitted to draws of (1) when the model is done takes p(z)'s place where nothing is given, and nothing
is trained again: "ex-post density estimation" (Ghosh et al., 2020, arXiv:1903.12436). It is no part
of the model: likelihoods and posteriors keep p(z).
"""

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from jmvae_jax import distributions, parallel
from jmvae_jax.distributions import Distribution
from jmvae_jax.evaluation.generation import check_given
from jmvae_jax.models.base import MultimodalModel, call_method
from jmvae_jax.types import Array, Batch, Key, Mask, Variables

COVARIANCES = ("full", "diag")
ITERATIONS = 200
"""Of expectation-maximisation, at most; scikit-learn warns where they were too few."""


def aggregate_posterior(
    model: MultimodalModel, variables: Variables, key: Key, batch: Batch, mask: Mask | None = None
) -> Array:
    """One draw of q(z | x_n) for each row, `[B, latent_dim]`: together, draws of (1).

    Args:
      model: a model and `variables`, its parameters and state.
      key: one key, folded with each row's number, or keys `[B]`.
      batch: modality -> `[B, *shape]`: what z is inferred from, at least one.
      mask: modality -> `bool[B]`: rows that have what is given; the others infer from the rest.

    Raises:
      ValueError: a name that the model lacks, nothing given, a bad batch.
    """
    batch = check_given(model, batch, mask)
    rows = next(iter(batch.values())).shape[0]
    keys = distributions.example_keys(key, jnp.arange(rows))
    draws: Array = _draw(variables, (keys, batch, mask), model=model)
    return draws


@parallel.by_rows
def _draw(
    variables: Variables, rows: tuple[Key, Batch, Mask | None], *, model: MultimodalModel
) -> Array:
    keys, batch, mask = rows
    posterior = call_method(model, variables, "posterior", batch, tuple(batch), mask)
    return distributions.sample(posterior, keys)


def fit_prior(
    z: np.ndarray, num_components: int, *, seed: int = 0, covariance: str = "full"
) -> Distribution:
    """The mixture of K Gaussians under which draws of q(z) are likeliest, see `mixture_prior`.

    By scikit-learn's `GaussianMixture`: expectation-maximisation in float64 from k-means, which
    finds a local maximum. 1e-6 is added to every variance.

    Args:
      z: draws `[N, D]`, see `aggregate_posterior`.
      num_components: K, at most N, which is 2 or more.
      seed: of k-means.
      covariance: "full" or "diag".

    Raises:
      ValueError: z is not `[N, D]`, has one draw or is not finite; K is not between 1 and N; or an
        unknown `covariance`.

    Example:
      >>> import numpy as np
      >>> from jmvae_jax.evaluation import fit_prior
      >>> z = np.random.default_rng(0).normal(size=(500, 2))
      >>> prior = fit_prior(z, num_components=3)
      >>> prior.batch_shape, prior.event_shape
      ((), (2,))
    """
    from sklearn.mixture import GaussianMixture  # takes a second, and most runs do not need it

    z = np.asarray(z, np.float64)
    if z.ndim != 2 or len(z) < 2 or not z.shape[1] or not np.isfinite(z).all():
        raise ValueError(f"z has shape {z.shape}: expected finite draws [N, D], two at least")
    if not 1 <= num_components <= len(z):
        raise ValueError(
            f"num_components={num_components}: expected between 1 and the {len(z)} draws"
        )
    if covariance not in COVARIANCES:
        raise ValueError(f"covariance={covariance!r}: expected one of {COVARIANCES}")
    found = GaussianMixture(
        num_components, covariance_type=covariance, max_iter=ITERATIONS, random_state=seed
    ).fit(z)
    covariances = found.covariances_
    if covariance == "diag":
        covariances = covariances[:, :, None] * np.eye(z.shape[1])
    return mixture_prior(found.weights_, found.means_, covariances)


def mixture_prior(weights: np.ndarray, means: np.ndarray, covariances: np.ndarray) -> Distribution:
    """`sum_k weight_k N(mean_k, covariance_k)`: batch shape `()`, event shape `[D]`.

    Args:
      weights: `[K]`, positive; their sum is made 1.
      means: `[K, D]`.
      covariances: `[K, D, D]`, symmetric and positive definite.

    Raises:
      ValueError: shapes that do not fit, a value that is not finite, a weight that is not
        positive, or a covariance that is not symmetric and positive definite.
    """
    weights, means, covariances = (
        np.asarray(values, np.float64) for values in (weights, means, covariances)
    )
    K, D = means.shape if means.ndim == 2 else (0, 0)
    if not K or weights.shape != (K,) or covariances.shape != (K, D, D):
        raise ValueError(
            f"weights, means and covariances have shapes {weights.shape}, {means.shape} and "
            f"{covariances.shape}: expected [K], [K, D] and [K, D, D]"
        )
    for name, values in (("weights", weights), ("means", means), ("covariances", covariances)):
        if not np.isfinite(values).all():
            raise ValueError(
                f"{name}: expected finite values, {values[~np.isfinite(values)][0]} came"
            )
    if not (weights > 0).all():
        raise ValueError(f"weights: expected positive ones, the least is {weights.min()}")
    if not np.allclose(covariances, np.swapaxes(covariances, -1, -2)):
        raise ValueError("covariances: expected symmetric ones, at least one is not")
    try:
        # In float64: a factor of a narrow covariance rounds well, the covariance itself does not.
        factors = np.linalg.cholesky(covariances)
    except np.linalg.LinAlgError as error:
        raise ValueError("covariances: expected positive definite ones, at least one is not") from (
            error
        )
    mixing = dist.Categorical(
        probs=jnp.asarray(weights / weights.sum(), jnp.float32), validate_args=False
    )
    components = dist.MultivariateNormal(
        loc=jnp.asarray(means, jnp.float32),
        scale_tril=jnp.asarray(factors, jnp.float32),
        validate_args=False,
    )
    return dist.MixtureSameFamily(mixing, components, validate_args=False)


def mixture_arrays(prior: Distribution) -> dict[str, np.ndarray]:
    """The arguments of `mixture_prior` that give `prior` again, in float64."""
    components = prior.component_distribution
    factors = np.asarray(components.scale_tril, np.float64)
    return {
        "weights": np.asarray(prior.mixing_distribution.probs, np.float64),
        "means": np.asarray(components.loc, np.float64),
        "covariances": factors @ factors.swapaxes(-1, -2),
    }
