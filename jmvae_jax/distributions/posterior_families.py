"""Families of posteriors q(z | x): what an encoder predicts for a row, and the distribution of it.

A family says which arrays a row has (`outputs`) and which parameters all rows share (`shared`), and
builds the distribution from them: batch shape `[B]`, event shape `[D]`, with `log_prob`, and draws
by `distributions.sample`. `Diagonal` is the paper's.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import Distribution

from jmvae_jax.distributions.flow import OFF, Flow
from jmvae_jax.distributions.low_rank import LowRankNormal
from jmvae_jax.distributions.posteriors import gaussian, mixture_of
from jmvae_jax.types import Array


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
        unit = jnp.eye(dim) + _strictly_lower(arrays["lower"], dim)
        factor = deviation[..., None] * unit
        return dist.MultivariateNormal(mean, scale_tril=factor, validate_args=False)


def _strictly_lower(values: Array, dim: int) -> Array:
    """`[..., dim, dim]` with each of `[..., dim (dim - 1) / 2]` values once, below the diagonal.

    By slices, since a scatter by indices takes three times as long on a CPU: all values but the
    first dim - 1, and then all of them backwards, are the rows of a square whose lower triangle,
    diagonal included, has each value once.
    """
    side = dim - 1
    square = jnp.concatenate([values[..., side:], values[..., ::-1]], axis=-1)
    square = jnp.tril(square.reshape(*values.shape[:-1], side, side))
    return jnp.pad(square, [(0, 0)] * (values.ndim - 1) + [(1, 0), (0, 1)])


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
        return LowRankNormal(
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

    The parameters that rows share have an entry for every dimension in every layer; a layer reads
    and learns those of half of them.
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
        context = Output((self.layers, self.hidden), rest=OFF)
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


def is_reparameterized(distribution: Distribution) -> bool:
    """Whether its draws carry the whole gradient to its parameters: a mixture's do not."""
    return mixture_of(distribution) is None


def center(distribution: Distribution) -> Array:
    """A point in the middle of a posterior, `[..., D]`: its mean; of a flow, that of its base's."""
    if isinstance(distribution, Flow):
        return distribution.transform(center(distribution.base))
    mean: Array = distribution.mean
    return mean


def _check_at_least_1(argument: str, number: int) -> None:
    if number < 1:
        raise ValueError(f"{argument}={number}: expected at least 1")
