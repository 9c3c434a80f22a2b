"""What CVAE and CMMA share: a part of the modalities is always given, the others are generated.

With `x` the modalities that are generated and `w` those that are given, both model p(x | w), and
`objectives.elbo` is their bound

(1) `log p(x | w) >= E_q(z|x,w)[log p(x | z, w)] - KL(q(z | x, w) || p(z | w))`,

CVAE with p(z | w) = N(0, I), CMMA with p(x | z, w) = p(x | z). Neither has a likelihood of w.
"""

import functools
from collections.abc import Collection

import flax.linen as nn
import jax.numpy as jnp

from jmvae_jax.distributions import Distribution, gaussian
from jmvae_jax.models.base import (
    MultimodalModel,
    PosteriorEncoder,
    fill_absent,
    fresh,
    presence,
)
from jmvae_jax.models.checks import check_names, check_no_posteriors
from jmvae_jax.models.joint import SideBySide, joint_body
from jmvae_jax.types import Array, Batch, Mask


class ConditionalModel(MultimodalModel):
    """A model of some modalities given the others. Subclasses use `condition_body`.

    Args:
      latent_dim: size of z.
      modalities: name -> `Modality`, the conditions among them.
      conditions: names of those that are given; each has its `conditioner` and no decoder.
      trunk, joint_encoder: body of q(z | all modalities), as in `JMVAE`.

    z is inferred from all modalities, or from the conditions alone, which gives the prior p(z | w);
    any other part is refused by name. A row whose condition is masked has zeros in its place, and a
    row in which everything that is generated is masked has the prior.
    """

    conditions: tuple[str, ...] = ()
    trunk: nn.Module | None = None
    joint_encoder: nn.Module | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.conditions, str):
            object.__setattr__(self, "conditions", tuple(self.conditions))
        super().__post_init__()

    @property
    def generated(self) -> tuple[str, ...]:
        return tuple(name for name in self.modalities if name not in self.conditions)

    def setup(self) -> None:
        check_names("conditions", self.conditions, self.modalities)
        if not self.conditions:
            raise ValueError(
                "conditions is empty: name what is given; a model of everything is a JMVAE"
            )
        if not self.generated:
            raise ValueError(
                f"conditions={self.conditions} are all of the modalities: nothing is generated"
            )
        check_no_posteriors(self.modalities, f"a {type(self).__name__}")
        super().setup()
        body = joint_body(self.modalities, self.trunk, self.joint_encoder)
        self.joint = PosteriorEncoder(body, self.latent_dim)

    def condition_body(self) -> SideBySide:
        """A new network over the conditions: their conditioners' features side by side."""
        conditioners = {name: self.modalities[name].conditioner for name in self.conditions}
        return SideBySide({n: None if c is None else fresh(c) for n, c in conditioners.items()})

    def condition_values(self, batch: Batch | None) -> dict[str, Array]:
        """The conditions' arrays; ValueError where the batch lacks one."""
        lacking = [name for name in self.conditions if name not in (batch or {})]
        if batch is None or lacking:
            raise ValueError(f"{type(self).__name__} is given {lacking}, and the batch lacks them")
        return {name: batch[name] for name in self.conditions}

    def posterior(
        self,
        batch: Batch,
        given: Collection[str] | None = None,
        mask: Mask | None = None,
        train: bool = False,
    ) -> Distribution:
        names = self._given(given, batch)
        part = {name: batch[name] for name in names}
        if set(names) == set(self.modalities):
            return self.infer(part, mask, train)[0]
        if set(names) != set(self.conditions):
            raise ValueError(
                f"given={names}: {type(self).__name__} infers z from all of {list(self.modalities)}"
                f", or from its conditions {list(self.conditions)}"
            )
        filled = fill_absent(part, mask)
        prior = self.prior(filled, train)
        shape = (*filled[names[0]].shape[:1], self.latent_dim)
        return gaussian(
            jnp.broadcast_to(prior.mean, shape), jnp.broadcast_to(prior.variance, shape)
        )

    def infer(
        self, batch: Batch, mask: Mask | None = None, train: bool = False
    ) -> tuple[Distribution, Distribution]:
        filled = fill_absent(batch, mask)
        q, prior = self.joint(filled, train), self.prior(filled, train)
        if mask is None:
            return q, prior
        there = presence(self.generated, mask, q.batch_shape[0]).values()
        return _where(functools.reduce(jnp.logical_or, there), q, prior), prior


def _where(there: Array, inferred: Distribution, prior: Distribution) -> Distribution:
    """Diagonal Gaussians row by row: `inferred` where `there` `[B]`, else `prior`."""
    return gaussian(
        jnp.where(there[:, None], inferred.mean, prior.mean),
        jnp.where(there[:, None], inferred.variance, prior.variance),
    )
