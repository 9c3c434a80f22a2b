"""A linear-Gaussian model: every posterior and every likelihood has a closed form.

`p(z) = N(0, I)` in two dimensions and `p(x_m | z) = N(A_m z + b_m, s_m^2 I)`. The columns of
each `A_m` are orthogonal, so the posterior from any part of the modalities is diagonal.

`posterior_of`, `evidence` and `log_weights` are the oracles: float64, NumPy and SciPy, written
from the matrices and not from the model's code.
"""

import itertools
from collections.abc import Collection, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import distributions as dist
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm

import jmvae_jax as jm
from jmvae_jax.distributions import gaussian
from jmvae_jax.models.base import fill_absent

MATRIX = {
    "x": np.array([[0.6, 0.2], [0.3, -0.6], [-0.2, -0.3]]),
    "w": np.array([[0.7, -0.36], [0.4, 0.63]]),
    "y": np.array([[0.5, 0.3], [-0.5, 0.5], [0.3, 0.2], [0.1, 0.4]]),
}
OFFSET = {
    "x": np.array([0.5, -1.0, 0.2]),
    "w": np.array([2.0, 0.3]),
    "y": np.array([-0.4, 0.1, 0.0, 1.5]),
}
SCALE = {"x": 0.8, "w": 1.1, "y": 0.7}
NAMES = tuple(MATRIX)


class LinearGaussian(jm.MultimodalModel):
    """The library's interface without parameters: its variables are `{}`.

    Args:
      widen: factor on the posterior's variance; at 1 and without `shift` it is exact.
      shift: added to the posterior's mean.
      noise: factor on every `s_m`.

    A row that has none of its modalities has the prior, neither wider nor shifted.
    """

    widen: float = 1.0
    shift: float = 0.0
    noise: float = 1.0

    def setup(self):
        pass

    def posterior(self, batch, given=None, mask=None, train=False):
        names = [name for name in self.modalities if given is None or name in given]
        if not names:
            return self.prior()
        filled = fill_absent({name: batch[name] for name in names}, mask)
        precision, weighted = jnp.ones(2), jnp.zeros(2)
        some = False
        for name in names:
            there = jnp.ones(filled[name].shape[:1], bool)
            there = there if mask is None else mask.get(name, there)
            variance = (self.noise * SCALE[name]) ** 2
            gain = np.square(MATRIX[name]).sum(axis=0) / variance
            pull = (filled[name] - OFFSET[name]) @ MATRIX[name] / variance
            precision = precision + there[:, None] * gain
            weighted = weighted + there[:, None] * pull
            some = some | there[:, None]
        factor, shift = jnp.where(some, self.widen, 1.0), jnp.where(some, self.shift, 0.0)
        return gaussian(weighted / precision + shift, factor / precision)

    def decode(self, z, batch=None, train=False):
        return {
            name: dist.Normal(
                z @ MATRIX[name].T + OFFSET[name], self.noise * SCALE[name], validate_args=False
            ).to_event(1)
            for name in self.modalities
        }


def linear_gaussian(*names: str, **options: float) -> LinearGaussian:
    """The model over the modalities named, all three by default."""
    modalities = {
        name: jm.Modality(OFFSET[name].shape, "normal", decoder=jm.MLP((1,)))
        for name in names or NAMES
    }
    return LinearGaussian(latent_dim=2, modalities=modalities, **options)


def draw_batch(model: LinearGaussian, rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Rows from the model itself: name -> `float32[rows, D]`."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(rows, 2))
    return {
        name: (
            z @ MATRIX[name].T
            + OFFSET[name]
            + model.noise * SCALE[name] * rng.normal(size=(rows, len(OFFSET[name])))
        ).astype(np.float32)
        for name in model.modalities
    }


def stack(model: LinearGaussian, names: Collection[str]) -> tuple[np.ndarray, ...]:
    """`A`, `b` and the diagonal of the noise of several modalities as one."""
    return (
        np.concatenate([np.zeros((0, 2)), *(MATRIX[name] for name in names)]),
        np.concatenate([np.zeros(0), *(OFFSET[name] for name in names)]),
        np.concatenate(
            [
                np.zeros(0),
                *(np.full(len(OFFSET[n]), (model.noise * SCALE[n]) ** 2) for n in names),
            ]
        ),
    )


def stack_values(batch: Mapping[str, np.ndarray], names: Collection[str]) -> np.ndarray:
    rows = len(next(iter(batch.values())))
    parts = [np.asarray(batch[name], np.float64) for name in names]
    return np.concatenate([np.zeros((rows, 0)), *parts], axis=1)


def evidence(
    model: LinearGaussian, batch: Mapping[str, np.ndarray], names: Collection[str]
) -> np.ndarray:
    """`log p(x_S)` of each row, `[B]`; 0 for no modality."""
    A, b, noise = stack(model, names)
    values = stack_values(batch, names)
    if not len(b):
        return np.zeros(len(values))
    density = multivariate_normal(b, A @ A.T + np.diag(noise))
    return np.array([density.logpdf(row) for row in values])


def posterior_of(
    model: LinearGaussian, batch: Mapping[str, np.ndarray], names: Collection[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean `[B, 2]` and deviation `[2]` of the model's q(z | x_S), widened and shifted as it is."""
    A, b, noise = stack(model, names)
    covariance = np.linalg.inv(np.eye(2) + A.T @ (A / noise[:, None]))
    np.testing.assert_allclose(covariance[0, 1], 0.0, atol=1e-12)
    mean = (stack_values(batch, names) - b) / noise @ A @ covariance
    if not len(b):
        return mean, np.ones(2)
    return mean + model.shift, np.sqrt(model.widen * np.diag(covariance))


def _noise(key: jax.Array, rows: int, K: int) -> jax.Array:
    fold = jax.random.fold_in

    def draw(row: jax.Array, number: jax.Array) -> jax.Array:
        return jax.random.normal(fold(fold(key, row), number), (2,))

    over_rows = jax.vmap(draw, (0, None))
    return jax.vmap(over_rows, (None, 0))(jnp.arange(rows), jnp.arange(K))


def log_weights(
    model: LinearGaussian, key: jax.Array, batch: Mapping[str, np.ndarray], source, names, K: int
) -> np.ndarray:
    """`log p(x_names | z_k) + log p(z_k) - log q(z_k | x_source)`, `[K, B]`.

    The draws follow the library's rule: example i draws k from `fold_in(fold_in(key, i), k)`.
    """
    rows = len(next(iter(batch.values())))
    noise = jax.jit(_noise, static_argnums=(1, 2))(key, rows, K)
    mean, deviation = posterior_of(model, batch, source)
    z = mean + deviation * np.asarray(noise, np.float64)
    total = norm.logpdf(z).sum(-1) - norm.logpdf(z, mean, deviation).sum(-1)
    for name in names:
        centre = z @ MATRIX[name].T + OFFSET[name]
        scale = model.noise * SCALE[name]
        total += norm.logpdf(np.asarray(batch[name], np.float64), centre, scale).sum(-1)
    return total


def subsets(names):
    sizes = range(len(names) + 1)
    return [part for size in sizes for part in itertools.combinations(names, size)]


def rest(*names):
    return tuple(name for name in NAMES if name not in names)


def field(estimates, name):
    """One attribute of several estimates: `float64[queries, B]`."""
    return np.stack([np.asarray(getattr(e, name), np.float64) for e in estimates])


def truth(model, batch, query):
    return evidence(model, batch, query.target + query.given) - evidence(model, batch, query.given)


def by_hand(model, seed, batch, query, K):
    """Value, Monte-Carlo variance and effective sample size from weights in float64."""
    key = jax.random.key(seed)
    both = log_weights(model, key, batch, query.source, query.target + query.given, K)
    low = np.zeros_like(both)
    if query.given:
        low = log_weights(model, jax.random.key(seed), batch, query.source, query.given, K)
    a, b = np.exp(both - logsumexp(both, axis=0)), np.exp(low - logsumexp(low, axis=0))
    value = logsumexp(both, axis=0) - logsumexp(low, axis=0)
    variance = K * np.var(a - b, axis=0, ddof=1)  # of a mean of K, relative to it
    return value, variance, 1.0 / np.square(a).sum(axis=0)
