"""JMVAE (Suzuki, Nakayama and Matsuo, 2016, arXiv:1611.01891) over any number of modalities.

Generative model (1): `p(x_1, ..., x_M, z) = p(z) prod_m p(x_m | z)`, `p(z) = N(0, I)`.

Inference from all modalities is the joint encoder q(z | x_1, ..., x_M). From a part of them:

* JMVAE-zero: the joint encoder, with zeros in the place of what is absent.
* JMVAE-kl: one further encoder q(z | x_m) for each modality, trained by
  `objectives.jmvae_kl`. Several of them, but not all, are combined by their product with the
  prior counted once.
"""

import functools
from collections.abc import Collection, Mapping

import flax.linen as nn
import jax.numpy as jnp

from jmvae_jax.distributions import Distribution, product_of_experts
from jmvae_jax.models.base import GaussianEncoder, MultimodalModel, fill_absent, fresh
from jmvae_jax.models.joint import joint_body
from jmvae_jax.types import Array, Batch, Mask


class JMVAE(MultimodalModel):
    """Joint multimodal VAE.

    Args:
      latent_dim: size of z.
      modalities: name -> `Modality`; each has its `encoder` where `inference="kl"`.
      trunk: network over the branches' features, side by side, in the joint encoder.
      joint_encoder: instead of branches and trunk, any Linen module from the dictionary of
        inputs to features (or to a dictionary of `mean` and `variance`).
      inference: "kl" (one encoder for each modality) or "zero" (the joint encoder with zeros).
      product: how several single encoders are combined, see
        `distributions.product_of_experts`: "once" or "each".

    A row in which a modality is masked goes through the joint encoder with zeros in its place,
    and has the bound of what it observes, `log p(x_O)`; a row that observes nothing has the prior.
    A model that was trained on complete rows has not seen such inputs: name what is there in
    `given`, and the single encoders serve.

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

    def setup(self) -> None:
        super().setup()
        if self.inference not in ("kl", "zero"):
            raise ValueError(f"inference={self.inference!r}: expected 'kl' or 'zero'")
        if self.product not in ("once", "each"):
            raise ValueError(f"product={self.product!r}: expected 'once' or 'each'")
        self.joint = GaussianEncoder(
            joint_body(self.modalities, self.trunk, self.joint_encoder), self.latent_dim
        )
        if self.inference == "kl":
            encoders = {name: m.encoder for name, m in self.modalities.items() if m.encoder}
            missing = sorted(set(self.modalities) - set(encoders))
            if missing:
                raise ValueError(
                    f"inference='kl' needs an encoder for each modality: {missing} have none"
                )
            self.singles = {
                name: GaussianEncoder(fresh(encoder), self.latent_dim)
                for name, encoder in encoders.items()
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
        rows = filled[names[0]].shape[:1]
        there = [
            jnp.ones(rows, bool) if mask is None else mask.get(n, jnp.ones(rows, bool))
            for n in names
        ]
        if len(names) == len(self.modalities) or self.inference == "zero":
            experts = [self.joint(self._with_zeros(filled), train)]
            there = [functools.reduce(jnp.logical_or, there)]
        else:
            experts = [self.singles[name](filled[name], train) for name in names]
        if mask is None and len(experts) == 1:
            return experts[0]
        return product_of_experts(experts, there, prior=self.product)

    def single_posteriors(
        self, batch: Batch, mask: Mask | None = None, train: bool = False
    ) -> dict[str, Distribution]:
        if self.inference == "zero":
            return {}
        filled = fill_absent(batch, mask)
        return {name: single(filled[name], train) for name, single in self.singles.items()}

    def _with_zeros(self, filled: Mapping[str, Array]) -> dict[str, Array]:
        rows = next(iter(filled.values())).shape[0]
        return {
            name: filled[name] if name in filled else jnp.zeros((rows, *modality.shape))
            for name, modality in self.modalities.items()
        }
