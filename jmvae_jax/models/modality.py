"""What a model is made over: modalities by name, each with its likelihood and its networks."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
from flax.core import FrozenDict

from jmvae_jax import distributions
from jmvae_jax.distributions import Family, PosteriorFamily


@dataclasses.dataclass(frozen=True)
class Modality:
    """One modality: the shape of its values, its likelihood and its networks.

    Networks are any Linen modules `[N, ...] -> features`; they are templates, and every use of
    one has parameters of its own. A network whose `__call__` has a `train` argument is told
    whether it trains.

    Args:
      shape: of one value, `(28, 28, 1)` say.
      likelihood: a name in `distributions.FAMILIES`, or any callable from arrays `[N, *shape]`
        to a distribution over them (see `distributions.likelihood_family`).
      decoder: `[N, latent_dim] -> features`, which linear heads turn into the likelihood's
        parameters; or those parameters themselves as a dictionary by name. None where a model is
        given the modality and does not generate it: the likelihood then says what values it has.
      encoder: `[N, *shape] -> features` of the single encoder q(z | this modality), or a
        dictionary of all `outputs` of its family: `mean` and `variance` of the paper's.
      posterior: family of q(z | this modality), see `distributions.posterior_families`; the paper's
        by default, and the only one where a model has no encoder of this modality alone.
      branch: `[N, *shape] -> features` that enter the joint encoder's trunk; None: the values.
      conditioner: `[N, *shape] -> features` that condition a decoder (CVAE) or the prior (CMMA);
        None: the values.
    """

    shape: tuple[int, ...]
    likelihood: str | Family
    decoder: nn.Module | None = None
    encoder: nn.Module | None = None
    branch: nn.Module | None = None
    conditioner: nn.Module | None = None
    posterior: PosteriorFamily = distributions.DIAGONAL

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        distributions.likelihood_family(self.likelihood)

    @property
    def is_label(self) -> bool:
        """Whether it is one categorical variable."""
        family = distributions.likelihood_family(self.likelihood)
        return family is distributions.categorical and len(self.shape) == 1


class Modalities(FrozenDict):
    """Hashable, so that a model can be a static argument of a compiled function.

    The order counts, since features stand side by side in it: models that differ in it alone would
    otherwise be served each other's programs.
    """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Modalities) and tuple(self.items()) == tuple(other.items())

    def __hash__(self) -> int:
        return hash(tuple(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return Modalities, (dict(self.items()),)


jax.tree_util.register_pytree_node(
    Modalities,
    lambda modalities: (tuple(modalities.values()), tuple(modalities)),
    lambda names, values: Modalities(zip(names, values, strict=True)),
)
