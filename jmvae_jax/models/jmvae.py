"""JMVAE (Suzuki, Nakayama and Matsuo, 2016, arXiv:1611.01891) over any number of modalities.

Generative model (1): `p(x_1, ..., x_M, z) = p(z) prod_m p(x_m | z)`, `p(z) = N(0, I)`.

Inference from all modalities is the joint encoder q(z | x_1, ..., x_M). From a part of them:

* JMVAE-zero: the joint encoder, with zeros in the place of what is absent.
* JMVAE-kl: one further encoder q(z | x_m) for each modality, trained by
  `objectives.jmvae_kl`. Several of them, but not all, are combined by their product with the
  prior counted once.
* mask-conditioned (past the paper): one network q(z | x_S, S) for every part S, which reads the
  bits of S beside the values; trained by `objectives.jmvae_kl` too, also on rows that lack some.
"""

import functools
from collections.abc import Collection, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from jmvae_jax.distributions import (
    DIAGONAL,
    Distribution,
    PosteriorFamily,
    name_number,
    product_of_experts,
)
from jmvae_jax.models.base import (
    MultimodalModel,
    PosteriorEncoder,
    fill_absent,
    fresh,
    presence,
)
from jmvae_jax.models.checks import check_no_posteriors
from jmvae_jax.models.joint import joint_body
from jmvae_jax.types import Array, Batch, Key, Mask

INFERENCES = ("kl", "zero", "masked")

WORD = 30
"""Modalities whose parts one random integer tells apart."""

PART = "part"
"""Name of the divergence to q(z | a random part), among a bound's."""


class JMVAE(MultimodalModel):
    """Joint multimodal VAE.

    Args:
      latent_dim: size of z.
      modalities: name -> `Modality`; each has its `encoder` where `inference="kl"`.
      trunk: network over the branches' features, side by side, in the joint encoder.
      joint_encoder: instead of branches and trunk, any Linen module from the dictionary of
        inputs to features (or to a dictionary of the `outputs` of `joint_posterior`).
      inference: "kl" (one encoder for each modality), "zero" (the joint encoder with zeros) or
        "masked" (the joint encoder is conditioned on which modalities are there).
      product: how several single encoders are combined, see
        `distributions.product_of_experts`: "once" or "each".
      joint_posterior: family of the joint encoder's posterior, see
        `distributions.posterior_families`, no mixture and no flow over one, which bounds refuse;
        those of the single encoders stand in their modalities.

    Raises:
      ValueError: in `init` or `apply`: an unknown `inference` or `product`, a modality without
        an encoder where `inference="kl"`, or with a `posterior` of its own where it is not "kl".

    A row in which a modality is masked goes through the joint encoder with zeros in its place,
    and has the bound of what it observes, `log p(x_O)`; a row that observes nothing has the prior.
    Unless it is mask-conditioned, a model that was trained on complete rows has not seen such
    inputs: name what is there in `given`, and the single encoders serve.

    Example:
      >>> import jax, jax.numpy as jnp, jmvae_jax as jm
      >>> body = jm.MLP((64,))
      >>> model = jm.JMVAE(latent_dim=8, trunk=body, modalities={
      ...     "image": jm.Modality((28, 28, 1), "bernoulli", body, encoder=body, branch=body),
      ...     "label": jm.Modality((10,), "categorical", body, encoder=body, branch=body)})
      >>> batch = {"image": jnp.zeros((2, 28, 28, 1)), "label": jnp.eye(10)[:2]}
      >>> variables = model.init(jax.random.key(0), batch)
      >>> model.apply(variables, batch, given=("label",), method="posterior").mean.shape
      (2, 8)
    """

    trunk: nn.Module | None = None
    joint_encoder: nn.Module | None = None
    inference: str = "kl"
    product: str = "once"
    joint_posterior: PosteriorFamily = DIAGONAL

    def setup(self) -> None:
        super().setup()
        if self.inference not in INFERENCES:
            raise ValueError(f"inference={self.inference!r}: expected one of {list(INFERENCES)}")
        if self.product not in ("once", "each"):
            raise ValueError(f"product={self.product!r}: expected 'once' or 'each'")
        masked = self.inference == "masked"
        body = joint_body(self.modalities, self.trunk, self.joint_encoder, masked)
        self.joint = PosteriorEncoder(body, self.latent_dim, self.joint_posterior)
        if self.inference != "kl":
            check_no_posteriors(self.modalities, f"inference={self.inference!r}")
        else:
            missing = sorted(name for name, m in self.modalities.items() if m.encoder is None)
            if missing:
                raise ValueError(
                    f"inference='kl' needs an encoder for each modality: {missing} have none"
                )
            self.singles = {
                name: PosteriorEncoder(fresh(m.encoder), self.latent_dim, m.posterior)
                for name, m in self.modalities.items()
                if m.encoder is not None
            }

    def posterior(
        self,
        batch: Batch,
        given: Collection[str] | None = None,
        mask: Mask | None = None,
        train: bool = False,
    ) -> Distribution:
        names = self._given(given, batch)
        if not names:
            return self.prior()
        filled = fill_absent({name: batch[name] for name in names}, mask)
        there = presence(names, mask, filled[names[0]].shape[0])
        some = None if mask is None else functools.reduce(jnp.logical_or, there.values())
        if self.inference == "masked":
            return self.joint((self._with_zeros(filled), self._bits(there)), train, some)
        if len(names) == len(self.modalities) or self.inference == "zero":
            return self.joint(self._with_zeros(filled), train, some)
        if len(names) == 1:
            return self.singles[names[0]](filled[names[0]], train, some)
        if not self.infers(names):
            families = ", ".join(f"{name} {self.modalities[name].posterior}" for name in names)
            raise ValueError(
                f"given={list(names)}: single encoders are combined as diagonal Gaussians, and the "
                f"posteriors are {families}; give one modality or all, or take inference='masked'"
            )
        experts = [self.singles[name](filled[name], train) for name in names]
        return product_of_experts(experts, list(there.values()), prior=self.product)

    def infers(self, given: Collection[str]) -> bool:
        product = self.inference == "kl" and 1 < len(given) < len(self.modalities)
        return not product or all(self.modalities[name].posterior == DIAGONAL for name in given)

    def single_posteriors(
        self, batch: Batch, mask: Mask | None = None, train: bool = False
    ) -> dict[str, Distribution]:
        if self.inference == "zero":
            return {}
        if self.inference == "masked":
            return {name: self.posterior(batch, (name,), mask, train) for name in self.modalities}
        filled = fill_absent(batch, mask)
        return {name: single(filled[name], train) for name, single in self.singles.items()}

    def partial_posteriors(
        self, batch: Batch, keys: Key, mask: Mask | None = None, train: bool = False
    ) -> tuple[dict[str, Distribution], Mask | None]:
        if self.inference != "masked":
            return super().partial_posteriors(batch, keys, mask, train)
        there = presence(tuple(self.modalities), mask, len(keys))
        part, several = random_part(keys, there)
        return {PART: self.posterior(batch, mask=part, train=train)}, {PART: several}

    @property
    def single_parameters(self) -> tuple[str, ...]:
        return tuple(f"singles_{name}" for name in self.modalities if self.inference == "kl")

    def _with_zeros(self, filled: Mapping[str, Array]) -> dict[str, Array]:
        rows = next(iter(filled.values())).shape[0]
        return {
            name: filled[name] if name in filled else jnp.zeros((rows, *modality.shape))
            for name, modality in self.modalities.items()
        }

    def _bits(self, there: Mapping[str, Array]) -> dict[str, Array]:
        nobody = jnp.zeros_like(next(iter(there.values())))
        return {name: there.get(name, nobody) for name in self.modalities}


def random_part(keys: Key, there: Mask) -> tuple[dict[str, Array], Array]:
    """A part of the modalities that each row has: neither none nor all, each as likely.

    Args:
      keys: `[B]`.
      there: every modality -> `bool[B]`, what a row has.

    Returns:
      modality -> `bool[B]`, the part; and `bool[B]`, false where a row has fewer than two, so
      that there is no such part.
    """
    present = jnp.stack(list(there.values()))
    count = jnp.sum(present, axis=0)
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys, name_number(PART))
    # The numbers between 0 and 2^n - 1, both left out, are the parts: a bit for each modality.
    n = jnp.minimum(count, WORD)
    number = jax.vmap(lambda key, n: jax.random.randint(key, (), 1, 2**n - 1))(keys, n)
    place = jnp.cumsum(present, axis=0) - 1
    chosen = (number >> jnp.minimum(place, WORD)) & 1 == 1
    if len(there) > WORD:
        # Further ones have a fair bit each; parts in which the first ones are alike, 2^-29 of all,
        # never come.
        fair = jax.vmap(lambda key: jax.random.bernoulli(key, shape=(len(there),)))
        chosen = jnp.where(place < WORD, chosen, fair(jax.vmap(jax.random.fold_in)(keys, n)).T)
    return dict(zip(there, present & chosen, strict=True)), count > 1
