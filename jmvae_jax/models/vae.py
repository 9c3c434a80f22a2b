"""VAE (Kingma and Welling, 2014): one modality, the baseline of the paper."""

from collections.abc import Collection

from jmvae_jax.distributions import Distribution
from jmvae_jax.models.base import MultimodalModel, PosteriorEncoder, fill_absent, fresh
from jmvae_jax.types import Batch, Mask


class VAE(MultimodalModel):
    """Variational autoencoder of one modality: q(z|x), p(x|z), p(z) = N(0, I).

    Its bound is `objectives.elbo`:
    `log p(x) >= E_q(z|x)[log p(x|z)] - KL(q(z|x) || p(z))`.

    Raises:
      ValueError: at `init`, if there is more than one modality or its encoder is missing.

    Example:
      >>> import jax, jax.numpy as jnp, jmvae_jax as jm
      >>> image = jm.Modality((28, 28, 1), "bernoulli", jm.MLP((64,)), encoder=jm.MLP((64,)))
      >>> model = jm.VAE(latent_dim=8, modalities={"image": image})
      >>> variables = model.init(jax.random.key(0), {"image": jnp.zeros((2, 28, 28, 1))})
    """

    def setup(self) -> None:
        super().setup()
        if len(self.modalities) != 1:
            raise ValueError(f"a VAE has one modality: got {list(self.modalities)}")
        (modality,) = self.modalities.values()
        if modality.encoder is None:
            raise ValueError("modalities: the VAE's modality has encoder=None: give one")
        self.encoder = PosteriorEncoder(
            fresh(modality.encoder), self.latent_dim, modality.posterior
        )

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
        there = None if mask is None else mask.get(names[0])
        return self.encoder(fill_absent(batch, mask)[names[0]], train, there)
