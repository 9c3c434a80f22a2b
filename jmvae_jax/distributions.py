"""Likelihood families by name, Gaussian posteriors, products of experts, divergences.

Everything here is a `numpyro.distributions` object, built without argument validation, or an
operation on such objects. Parameters and values are float32.

Sampling has one rule (`sample`): the shape of the keys is the shape of the draws, so noise
belongs to an example and not to a batch, and the same example draws the same numbers on any
device, in any chunk and under any padding.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import Distribution, constraints

from jmvae_jax.types import Array, Key

Family = Callable[..., Distribution]

VARIANCE_FLOOR = float(jnp.finfo(jnp.float32).eps)
"""Added to every softplus variance, as in the authors' code (1.19e-7)."""


class OneHotCategorical(Distribution):
    """A categorical variable whose values are one-hot vectors.

    Args:
      logits: `[..., C]`, unnormalised log-probabilities.

    `sample` gives one-hot floats `[..., C]`, `mean` the probabilities `[..., C]`, and
    `log_prob(value)` is `sum_c value_c log softmax(logits)_c`, in nats, of shape `[...]`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jmvae_jax.distributions import OneHotCategorical
      >>> print(OneHotCategorical(jnp.zeros(4)).log_prob(jnp.array([0.0, 1.0, 0.0, 0.0])))
      -1.3862944
    """

    arg_constraints: ClassVar = {"logits": constraints.real_vector}
    support = constraints.simplex
    pytree_data_fields = ("logits",)

    def __init__(self, logits: Array, *, validate_args: bool | None = None):
        self.logits = logits
        super().__init__(
            batch_shape=logits.shape[:-1],
            event_shape=logits.shape[-1:],
            validate_args=validate_args,
        )

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        shape = sample_shape + self.batch_shape
        drawn = jax.random.categorical(key, self.logits, shape=shape)
        return jax.nn.one_hot(drawn, self.event_shape[-1], dtype=self.logits.dtype)

    def log_prob(self, value: Array) -> Array:
        return jnp.sum(value * jax.nn.log_softmax(self.logits), axis=-1)

    @property
    def mean(self) -> Array:
        return jax.nn.softmax(self.logits)


def _scale(raw: Array) -> Array:
    return jax.nn.softplus(raw) + VARIANCE_FLOOR


def bernoulli(logits: Array) -> Distribution:
    """Independent binary values (or probabilities in [0, 1]) under `logits`."""
    return dist.BernoulliLogits(logits, validate_args=False)


def categorical(logits: Array) -> Distribution:
    """A one-hot vector along the last axis under `logits` `[..., C]`."""
    return OneHotCategorical(logits, validate_args=False)


def normal(loc: Array, scale: float = 1.0) -> Distribution:
    """Gaussian values around `loc` with a fixed deviation."""
    return dist.Normal(loc, scale, validate_args=False)


def normal_learned(loc: Array, raw_scale: Array) -> Distribution:
    """Gaussian values with the learned deviation `softplus(raw_scale) + 1.19e-7`."""
    return dist.Normal(loc, _scale(raw_scale), validate_args=False)


def laplace(loc: Array, scale: float = 1.0) -> Distribution:
    """Laplace values around `loc` with a fixed scale."""
    return dist.Laplace(loc, scale, validate_args=False)


def laplace_learned(loc: Array, raw_scale: Array) -> Distribution:
    """Laplace values with the learned scale `softplus(raw_scale) + 1.19e-7`."""
    return dist.Laplace(loc, _scale(raw_scale), validate_args=False)


FAMILIES: Mapping[str, Family] = {
    family.__name__: family
    for family in (bernoulli, categorical, normal, normal_learned, laplace, laplace_learned)
}


def likelihood_family(likelihood: str | Family) -> Family:
    """The family named `likelihood`, or the callable itself.

    A family is any callable from arrays `[..., *shape]` to a distribution over such values. Its
    positional parameters without a default are what a decoder must predict; the others are
    settings (`functools.partial(normal, scale=0.1)`).

    Raises:
      ValueError: no family has that name.
    """
    if callable(likelihood):
        return likelihood
    if likelihood not in FAMILIES:
        raise ValueError(
            f"likelihood={likelihood!r} is not known: give one of {sorted(FAMILIES)}, or a "
            "callable from arrays to a numpyro distribution"
        )
    return FAMILIES[likelihood]


def predicted_parameters(family: Family) -> tuple[str, ...]:
    """Names of the arrays that a decoder predicts for `family`: `("loc", "raw_scale")`, say."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = tuple(
        name
        for name, parameter in inspect.signature(family).parameters.items()
        if parameter.kind in positional and parameter.default is inspect.Parameter.empty
    )
    if not names:
        raise ValueError(
            f"likelihood={family!r} has no positional parameter without a default, so there is "
            "nothing that a decoder could predict for it"
        )
    return names


def as_event(distribution: Distribution, ndim: int) -> Distribution:
    """The same distribution with its last `ndim` axes as one event."""
    return distribution.to_event(ndim - distribution.event_dim)


def gaussian(mean: Array, variance: Array) -> Distribution:
    """Diagonal Gaussian over `[..., D]` from its mean and variance."""
    return dist.Normal(mean, jnp.sqrt(variance), validate_args=False).to_event(1)


def positive_variance(raw: Array) -> Array:
    """`softplus(raw) + 1.19e-7`, the paper's variance from a linear layer."""
    return jax.nn.softplus(raw) + VARIANCE_FLOOR


def standard_normal(dim: int) -> Distribution:
    """`N(0, I)` over `[dim]`, without batch axes."""
    return gaussian(jnp.zeros(dim), jnp.ones(dim))


def example_keys(key: Key, positions: Array) -> Key:
    """One key for each position: `fold_in(key, position)`, of the shape of `positions`.

    A key array that has that shape already is returned as it is, so callers may choose the key
    of each example themselves.

    Raises:
      ValueError: `key` is neither one key nor an array of keys of the shape of `positions`.
    """
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    if key.shape == positions.shape:
        return key
    if key.shape:
        raise ValueError(
            f"key has shape {key.shape}: expected one key, or one for each example, "
            f"{positions.shape}"
        )
    fold = jax.random.fold_in
    for _ in positions.shape:
        fold = jax.vmap(fold, in_axes=(None, 0))
    return fold(key, positions)


def unpack(
    distribution: Distribution, batch_shape: tuple[int, ...] | None = None
) -> tuple[dict[str, Array], Callable[[dict[str, Array]], Distribution]]:
    """A distribution as arrays and the function that builds it from them again.

    A distribution that passes through `vmap`, `scan` or `map` keeps its old batch shape; the
    arrays pass, and it is built anew inside.

    Args:
      distribution: a family that its parameters describe, or such a one with event axes added.
      batch_shape: what the arrays are broadcast to; None: the distribution's own.

    Returns:
      Arrays `[*batch_shape, ...]` by name, and the builder.
    """
    base, ndim = distribution, 0
    if isinstance(distribution, dist.Independent):
        base, ndim = distribution.base_dist, distribution.reinterpreted_batch_ndims
    batch_shape = distribution.batch_shape if batch_shape is None else batch_shape
    batch_shape += distribution.event_shape[:ndim]
    arrays = {}
    for name, constraint in base.arg_constraints.items():
        if name in vars(base):
            value = jnp.asarray(getattr(base, name))
            event = value.shape[value.ndim - constraint.event_dim :]
            arrays[name] = jnp.broadcast_to(value, batch_shape + event)

    def build(parameters: dict[str, Array]) -> Distribution:
        return type(base)(**parameters, validate_args=False).to_event(ndim)

    return arrays, build


def sample(distribution: Distribution, keys: Key) -> Array:
    """One draw for each key, reparameterised where the family allows it.

    Args:
      distribution: batch shape `b`, event shape `e`.
      keys: keys of shape `[*s, *b]`: one for each draw.

    Returns:
      Draws `[*s, *b, *e]`; the draw at an index depends on the key and the parameters there.

    Raises:
      ValueError: the keys' shape does not end in the batch shape.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jmvae_jax.distributions import example_keys, gaussian, sample
      >>> q = gaussian(jnp.zeros((3, 2)), jnp.ones((3, 2)))
      >>> sample(q, example_keys(jax.random.key(0), jnp.arange(3))).shape
      (3, 2)
    """
    batch_ndim = len(distribution.batch_shape)
    if keys.shape[keys.ndim - batch_ndim :] != distribution.batch_shape:
        raise ValueError(
            f"keys have shape {keys.shape}: expected a shape that ends in the batch shape "
            f"{distribution.batch_shape}"
        )

    arrays, build = unpack(distribution)

    def draw(parameters: dict[str, Array], key: Key) -> Array:
        return build(parameters).sample(key)

    for axis in range(keys.ndim):
        draw = jax.vmap(draw, in_axes=(0 if axis < batch_ndim else None, 0))
    return draw(arrays, keys)


def kl_divergence(p: Distribution, q: Distribution, z: Array | None = None) -> Array:
    """`KL(p || q)` in nats, over the batch shape: `E_p[log p(z) - log q(z)]`.

    In closed form where there is one, otherwise the one-sample estimate at `z`, a draw from `p`.

    Raises:
      ValueError: there is no closed form and `z` was not given.
    """
    try:
        return dist.kl_divergence(p, q)
    except NotImplementedError:
        if z is None:
            raise ValueError(
                f"KL({type(p).__name__} || {type(q).__name__}) has no closed form: give z, a "
                "draw from the first"
            ) from None
        return p.log_prob(z) - q.log_prob(z)


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
      ValueError: no expert, or an unknown `prior`.
    """
    if not experts:
        raise ValueError("experts is empty: a product needs at least one")
    if prior not in ("once", "each"):
        raise ValueError(f"prior={prior!r}: expected 'once' or 'each'")
    means, variances = (jnp.stack(parts) for parts in zip(*map(moments, experts), strict=True))
    there = jnp.ones(means.shape[:-1], bool) if present is None else jnp.stack(list(present))
    there = there[..., None]
    count = jnp.sum(there, axis=0)
    precisions = 1.0 / variances
    if prior == "once":
        precisions = jnp.where(count > 1, jnp.maximum(precisions, 1.0), precisions)
        surplus = count - 1
    else:
        surplus = -(count == 0).astype(precisions.dtype)
    total = jnp.sum(jnp.where(there, precisions, 0.0), axis=0) - surplus
    mean = jnp.sum(jnp.where(there, precisions * means, 0.0), axis=0) / total
    return gaussian(mean, 1.0 / total)
