"""Likelihood families by name: functions from arrays to distributions."""

import inspect
from collections.abc import Callable, Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import Distribution, constraints

from jmvae_jax.distributions.sampling import unpack
from jmvae_jax.types import Array, Key

Family = Callable[..., Distribution]

FLOOR = float(jnp.finfo(jnp.float32).eps)
"""Added to every learned scale and variance, as in the authors' code (1.19e-7)."""


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
        # An impossible class that did not occur counts nothing: 0, not 0 times -inf.
        terms = jnp.where(value == 0, 0.0, value * jax.nn.log_softmax(self.logits))
        return jnp.sum(terms, axis=-1)

    @property
    def mean(self) -> Array:
        return jax.nn.softmax(self.logits)


class Bernoulli(dist.BernoulliLogits):
    """NumPyro's, with the right gradient at logit 0, where theirs is 0 or 1 (a zero head)."""

    def log_prob(self, value: Array) -> Array:
        return value * self.logits - jax.nn.softplus(self.logits)


def positive(raw: Array) -> Array:
    """`softplus(raw) + 1.19e-7`: a scale or a variance from a linear layer."""
    return jax.nn.softplus(raw) + FLOOR


def bernoulli(logits: Array) -> Distribution:
    """Independent binary values (or probabilities in [0, 1]) under `logits`."""
    return Bernoulli(logits, validate_args=False)


def categorical(logits: Array) -> Distribution:
    """A one-hot vector along the last axis under `logits` `[..., C]`."""
    return OneHotCategorical(logits, validate_args=False)


def _check_scale(scale: float) -> None:
    if not isinstance(scale, jax.core.Tracer) and not np.all(np.asarray(scale) > 0):
        raise ValueError(f"scale={scale}: expected above 0")


def normal(loc: Array, scale: float = 1.0) -> Distribution:
    """Gaussian values around `loc` with a fixed deviation."""
    _check_scale(scale)
    return dist.Normal(loc, scale, validate_args=False)


def normal_learned(loc: Array, raw_scale: Array) -> Distribution:
    """Gaussian values with the learned deviation `softplus(raw_scale) + 1.19e-7`."""
    return dist.Normal(loc, positive(raw_scale), validate_args=False)


class ChannelMeanNormal(Distribution):
    """A Gaussian over the last axis whose `log_prob` is the mean over it instead of the sum.

    What the JMVAE authors' code takes for the pixels of CelebA: the sum over height and width of
    the mean over the three channels. It is no density: its "log-likelihoods" are a third of the
    sum's, and compare with figures by the same convention alone.

    Args:
      loc, scale: `[..., channels]`.
    """

    arg_constraints: ClassVar = {
        "loc": constraints.real_vector,
        "scale": constraints.independent(constraints.positive, 1),
    }
    support = constraints.real_vector
    pytree_data_fields = ("loc", "scale")

    def __init__(self, loc: Array, scale: Array, *, validate_args: bool | None = None):
        self.loc, self.scale = loc, scale
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=validate_args)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        noise = jax.random.normal(key, sample_shape + self.batch_shape + self.event_shape)
        return self.loc + self.scale * noise

    def log_prob(self, value: Array) -> Array:
        elementwise = dist.Normal(self.loc, self.scale, validate_args=False)
        return jnp.mean(elementwise.log_prob(value), axis=-1)

    @property
    def mean(self) -> Array:
        return self.loc


def normal_channel_mean(loc: Array, scale: float = 1.0) -> Distribution:
    """Gaussian images `[..., channels]`, the mean over their channels: see `ChannelMeanNormal`."""
    _check_scale(scale)
    return ChannelMeanNormal(loc, jnp.full_like(loc, scale), validate_args=False)


def normal_tanh(raw_loc: Array, scale: float = 1.0) -> Distribution:
    """Gaussian values around `tanh(raw_loc)`: attributes in {-1, 1}, as the paper takes them."""
    _check_scale(scale)
    return dist.Normal(jnp.tanh(raw_loc), scale, validate_args=False)


def laplace(loc: Array, scale: float = 1.0) -> Distribution:
    """Laplace values around `loc` with a fixed scale."""
    _check_scale(scale)
    return dist.Laplace(loc, scale, validate_args=False)


def laplace_learned(loc: Array, raw_scale: Array) -> Distribution:
    """Laplace values with the learned scale `softplus(raw_scale) + 1.19e-7`."""
    return dist.Laplace(loc, positive(raw_scale), validate_args=False)


FAMILIES: Mapping[str, Family] = {
    family.__name__: family
    for family in (
        bernoulli,
        categorical,
        normal,
        normal_channel_mean,
        normal_learned,
        normal_tanh,
        laplace,
        laplace_learned,
    )
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


class FlatEvent(dist.Independent):
    """Independent values, whose densities are summed along one axis instead of several.

    The sum is the same; XLA's code for a CPU takes up to eight times as long over `[28, 28, 1]`
    as over `[784]`. The parameters are flattened, not the densities: a reshape in between would be
    moved out of the way again.
    """

    def log_prob(self, value: Array) -> Array:
        ndim = self.reinterpreted_batch_ndims
        arrays, build = unpack(self.base_dist)

        def flat(values: Array) -> Array:
            return values.reshape(*values.shape[: values.ndim - ndim], -1)

        elements = build({name: flat(values) for name, values in arrays.items()})
        log_prob: Array = elements.log_prob(flat(jnp.asarray(value))).sum(axis=-1)
        return log_prob


def as_event(distribution: Distribution, ndim: int) -> Distribution:
    """The same distribution with its last `ndim` axes as one event."""
    extra = ndim - distribution.event_dim
    if extra > 1 and _is_elementwise(distribution):
        return FlatEvent(distribution, extra)
    return distribution.to_event(extra)


def _is_elementwise(distribution: Distribution) -> bool:
    """Whether every parameter is one number for each value, and nothing else describes it."""
    try:
        arrays, _ = unpack(distribution)
    except ValueError:
        return False
    # Of a distribution that is made of others, dictionaries stand among the arrays.
    return all(jnp.shape(v) == distribution.batch_shape for v in jax.tree.leaves(arrays))
