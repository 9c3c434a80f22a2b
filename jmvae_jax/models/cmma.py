"""CMMA (Pandey and Dukkipati, 2017), as it is compared with in arXiv:1611.01891.

`p(x | w) = integral p(z | w) p(x | z) dz` with a learned prior p(z | w), and the encoder
q(z | x, w). Its published bound is (1) of `models.conditional`, `objectives.elbo`; the JMVAE
authors' code minimises another one, `objectives.elbo_toward_normal`.
"""

from jmvae_jax.distributions import Distribution
from jmvae_jax.models.base import PosteriorEncoder
from jmvae_jax.models.conditional import ConditionalModel
from jmvae_jax.types import Batch


class CMMA(ConditionalModel):
    """Conditional multimodal autoencoder: the prior p(z | w) is learned, decoders read z alone.

    Args:
      latent_dim, modalities, conditions, trunk, joint_encoder: as in `ConditionalModel`. The prior
        is a Gaussian on the conditioners' features, side by side.

    Raises:
      ValueError: at `init`, if nothing is given, nothing is generated, or a network is missing.

    Example:
      >>> import jax, jax.numpy as jnp, jmvae_jax as jm
      >>> body = jm.MLP((64,))
      >>> model = jm.CMMA(latent_dim=8, conditions=("label",), trunk=body, modalities={
      ...     "image": jm.Modality((28, 28, 1), "bernoulli", body, branch=body),
      ...     "label": jm.Modality((10,), "categorical", branch=body, conditioner=body)})
      >>> batch = {"image": jnp.zeros((2, 28, 28, 1)), "label": jnp.eye(10)[:2]}
      >>> variables = model.init(jax.random.key(0), batch)
      >>> model.apply(variables, batch, method="prior").mean.shape
      (2, 8)
    """

    def setup(self) -> None:
        super().setup()
        self.conditional_prior = PosteriorEncoder(self.condition_body(), self.latent_dim)

    def prior(self, batch: Batch | None = None, train: bool = False) -> Distribution:
        """p(z | w): batch shape `[B]`; `batch` needs the conditions."""
        return self.conditional_prior(self.condition_values(batch), train)
