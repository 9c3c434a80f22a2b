"""Families of posteriors q(z | x): what an encoder predicts for a row, and the distribution of it.

A family says which arrays a row has (`outputs`) and which parameters all rows share (`shared`), and
builds the distribution from them: batch shape `[B]`, event shape `[D]`, with `log_prob`, and draws
by `distributions.sample`. `Diagonal` is the paper's.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import Distribution, constraints

from jmvae_jax.distributions.posteriors import gaussian
from jmvae_jax.distributions.sampling import Parts, unpack
from jmvae_jax.types import Array, Key


class Output(NamedTuple):
    """An array that an encoder predicts for a row, or that all rows share.

    Attributes:
      shape: of one row's.
      rest: the value at which, all outputs together, the distribution is N(0, I).
      positive: whether it is `softplus(raw) + 1.19e-7` of a linear layer.
      scale: size of the first kernel, relative to Glorot's; 0: the output starts at 0.
    """

    shape: tuple[int, ...]
    rest: float = 0.0
    positive: bool = False
    scale: float = 1.0


class PosteriorFamily(Protocol):
    """A family of distributions over z; hashable, since it is part of a model."""

    def outputs(self, dim: int) -> dict[str, Output]:
        """What is predicted for a row, for z of size `dim`."""

    def shared(self, dim: int) -> dict[str, Output]:
        """What all rows share and training changes: arrays of L kernels, one for each layer."""

    def build(self, arrays: Mapping[str, Array], shared: Mapping[str, Array]) -> Distribution:
        """The distribution of outputs `[B, *shape]`."""


class _Unshared:
    """A family whose rows share nothing."""

    def shared(self, dim: int) -> dict[str, Output]:
        return {}


@dataclasses.dataclass(frozen=True)
class Diagonal(_Unshared):
    """Gaussian with independent dimensions: the paper's posterior."""

    def outputs(self, dim: int) -> dict[str, Output]:
        return {"mean": Output((dim,)), "variance": Output((dim,), 1.0, positive=True)}

    def build(self, arrays: Mapping[str, Array], shared: Mapping[str, Array]) -> Distribution:
        return gaussian(arrays["mean"], arrays["variance"])


DIAGONAL = Diagonal()


@dataclasses.dataclass(frozen=True)
class Full(_Unshared):
    """Gaussian with any covariance, by its Cholesky factor `L = diag(sqrt(variance)) (I + lower)`.

    `lower` is strictly lower triangular and starts at 0, where the Gaussian is `Diagonal`.
    """

    def outputs(self, dim: int) -> dict[str, Output]:
        lower = Output((dim * (dim - 1) // 2,), scale=0.0)
        return DIAGONAL.outputs(dim) | {"lower": lower}

    def build(self, arrays: Mapping[str, Array], shared: Mapping[str, Array]) -> Distribution:
        mean, deviation = arrays["mean"], jnp.sqrt(arrays["variance"])
        dim = mean.shape[-1]
        rows, columns = jnp.tril_indices(dim, -1)
        unit = jnp.broadcast_to(jnp.eye(dim), (*mean.shape, dim))
        unit = unit.at[..., rows, columns].set(arrays["lower"])
        factor = deviation[..., None] * unit
        return dist.MultivariateNormal(mean, scale_tril=factor, validate_args=False)


@dataclasses.dataclass(frozen=True)
class LowRank(_Unshared):
    """Gaussian with covariance `diag(variance) + F F^T`, F of `rank` columns."""

    rank: int

    def __post_init__(self) -> None:
        _check_at_least_1("rank", self.rank)

    def outputs(self, dim: int) -> dict[str, Output]:
        # Not 0: there F F^T has no gradient.
        factor = Output((dim, self.rank), scale=0.1)
        return DIAGONAL.outputs(dim) | {"factor": factor}

    def build(self, arrays: Mapping[str, Array], shared: Mapping[str, Array]) -> Distribution:
        return dist.LowRankMultivariateNormal(
            arrays["mean"], arrays["factor"], arrays["variance"], validate_args=False
        )


@dataclasses.dataclass(frozen=True)
class Mixture(_Unshared):
    """`sum_k softmax(logits)_k q_k`, K Gaussians of one family.

    Its draws carry no gradient to the logits: it is fitted by its density (the forward divergence)
    or component by component, see `kl_divergence`.
    """

    components: int
    of: Diagonal | Full | LowRank = DIAGONAL

    def __post_init__(self) -> None:
        _check_at_least_1("components", self.components)
        if not isinstance(self.of, Diagonal | Full | LowRank):
            raise ValueError(f"of={self.of!r}: expected Diagonal(), Full() or LowRank(rank)")

    def outputs(self, dim: int) -> dict[str, Output]:
        count = self.components
        each = {
            name: output._replace(shape=(count, *output.shape))
            for name, output in self.of.outputs(dim).items()
        }
        return each | {"logits": Output((count,), scale=0.0)}

    def build(self, arrays: Mapping[str, Array], shared: Mapping[str, Array]) -> Distribution:
        mixing = dist.Categorical(logits=arrays["logits"], validate_args=False)
        return dist.MixtureSameFamily(mixing, self.of.build(arrays, shared), validate_args=False)


@dataclasses.dataclass(frozen=True)
class Coupling:
    """A conditional normalizing flow of affine coupling layers over a base, see `Flow`.

    Args:
      layers: how many; every second one transforms the even dimensions.
      hidden: units of each layer's network.
      base: family of the base.
    """

    layers: int
    hidden: int = 128
    base: Diagonal | Full | LowRank | Mixture = DIAGONAL

    def __post_init__(self) -> None:
        _check_at_least_1("layers", self.layers)
        _check_at_least_1("hidden", self.hidden)
        if not isinstance(self.base, Diagonal | Full | LowRank | Mixture):
            raise ValueError(f"base={self.base!r}: expected a Gaussian family or a Mixture")

    def outputs(self, dim: int) -> dict[str, Output]:
        context = Output((self.layers, self.hidden), rest=_OFF)
        return self.base.outputs(dim) | {"context": context}

    def shared(self, dim: int) -> dict[str, Output]:
        if dim < 2:
            raise ValueError(f"latent_dim={dim}: a coupling flow needs at least 2")
        # It starts as its base.
        outer = Output((self.layers, self.hidden, 2 * dim), scale=0.0)
        return {"inner": Output((self.layers, dim, self.hidden)), "outer": outer}

    def build(self, arrays: Mapping[str, Array], shared: Mapping[str, Array]) -> Distribution:
        base = self.base.build(arrays, {})
        return Flow(base, arrays["context"], shared["inner"], shared["outer"])


_OFF = -1e9
"""Context at which no unit of a layer is above 0, and the layer leaves z as it is."""


class Flow(Distribution):
    """`z = f_L(... f_1(e))`, `e ~ base`, each f an affine coupling layer (Dinh et al., 2017).

    A layer keeps the dimensions of one parity, `e_k`, and from them shifts and scales the others:

    `h = relu(e_k W + context)`, `(s, t) = h V`, `z = e exp(2 tanh(s / 2)) + t`

    (equation (7) of arXiv:1605.08803, conditioned on a row by `context`). With `V = 0` it is its
    base. Draws are reparameterised where the base's are.

    Args:
      base: batch shape `[*b]`, event shape `[D]`.
      context: `[*b, L, H]`.
      inner, outer: `W`, `[L, D, H]`, and `V`, `[L, H, 2 D]`, of all rows.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.real_vector
    pytree_data_fields = ("base", "context", "inner", "outer")

    def __init__(
        self,
        base: Distribution,
        context: Array,
        inner: Array,
        outer: Array,
        *,
        validate_args: bool | None = None,
    ):
        self.base, self.context, self.inner, self.outer = base, context, inner, outer
        super().__init__(base.batch_shape, base.event_shape, validate_args=validate_args)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        return self.transform(self.base.sample(key, sample_shape))

    def transform(self, values: Array) -> Array:
        """From draws of the base to draws of the flow, `[..., D]`."""
        for layer in range(len(self.inner)):
            log_scale, shift = self._affine(layer, values)
            values = values * jnp.exp(log_scale) + shift
        return values

    def log_prob(self, value: Array) -> Array:
        log_det = jnp.zeros(())
        for layer in reversed(range(len(self.inner))):
            log_scale, shift = self._affine(layer, value)
            value = (value - shift) * jnp.exp(-log_scale)
            log_det = log_det + log_scale.sum(axis=-1)
        return self.base.log_prob(value) - log_det

    def _affine(self, layer: int, values: Array) -> tuple[Array, Array]:
        """Logarithm of the scale, and shift, of every dimension; 0 of those that are kept."""
        dim = values.shape[-1]
        kept = (jnp.arange(dim) + layer) % 2 == 0
        inputs = jnp.where(kept, values, 0.0) @ self.inner[layer]
        hidden = jax.nn.relu(inputs + self.context[..., layer, :])
        raw, shift = jnp.split(hidden @ self.outer[layer], 2, axis=-1)
        # Bounded, so that no row's scale runs away.
        log_scale = 2.0 * jnp.tanh(raw / 2.0)
        return jnp.where(kept, 0.0, log_scale), jnp.where(kept, 0.0, shift)

    def unpack(self, batch_shape: tuple[int, ...]) -> tuple[Parts, Callable[[Parts], Distribution]]:
        """See `distributions.unpack`: the arrays of rows; the builder keeps what rows share."""
        base, build_base = unpack(self.base, batch_shape)
        context = jnp.broadcast_to(self.context, batch_shape + self.context.shape[-2:])

        def build(parts: Parts) -> Distribution:
            return Flow(build_base(parts["base"]), parts["context"], self.inner, self.outer)

        return {"base": base, "context": context}, build


def is_reparameterized(distribution: Distribution) -> bool:
    """Whether its draws carry the whole gradient to its parameters: a mixture's do not."""
    if isinstance(distribution, Flow):
        return is_reparameterized(distribution.base)
    return not isinstance(distribution, dist.MixtureSameFamily)


def center(distribution: Distribution) -> Array:
    """A point in the middle of a posterior, `[..., D]`: its mean; of a flow, that of its base's."""
    if isinstance(distribution, Flow):
        return distribution.transform(center(distribution.base))
    mean: Array = distribution.mean
    return mean


def _check_at_least_1(argument: str, number: int) -> None:
    if number < 1:
        raise ValueError(f"{argument}={number}: expected at least 1")
