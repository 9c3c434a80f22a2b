"""CVAE (Sohn, Lee and Yan, 2015), as it is compared with in arXiv:1611.01891.

`p(x | w) = integral p(z) p(x | z, w) dz` with p(z) = N(0, I) whatever w is, and the encoder
q(z | x, w). See `models.conditional` for its bound (1).
"""

from collections.abc import Mapping

import jax.numpy as jnp

from jmvae_jax.distributions import Distribution
from jmvae_jax.models.conditional import ConditionalModel
from jmvae_jax.types import Array, Batch


class CVAE(ConditionalModel):
    """Conditional VAE: every decoder reads z and features of what is given.

    Args:
      latent_dim, modalities, conditions, trunk, joint_encoder: as in `ConditionalModel`. The
        decoder of a generated modality reads `[N, latent_dim + F]`: z beside the features of the
        conditions, which each decoder takes by conditioners of its own.

    Raises:
      ValueError: at `init`, if nothing is given, nothing is generated, or a network is missing.

    Example:
      >>> import jax, jax.numpy as jnp, jmvae_jax as jm
      >>> body = jm.MLP((64,))
      >>> model = jm.CVAE(latent_dim=8, conditions=("label",), trunk=body, modalities={
      ...     "image": jm.Modality((28, 28, 1), "bernoulli", body, branch=body),
      ...     "label": jm.Modality((10,), "categorical", branch=body, conditioner=body)})
      >>> batch = {"image": jnp.zeros((2, 28, 28, 1)), "label": jnp.eye(10)[:2]}
      >>> variables = model.init(jax.random.key(0), batch)
      >>> jm.elbo(model, variables, jax.random.key(1), batch).rate.shape
      (2,)
    """

    def setup(self) -> None:
        super().setup()
        self.features = {name: self.condition_body() for name in self.generated}

    def decoder_parameters(self, name: str) -> tuple[str, ...]:
        return (*super().decoder_parameters(name), f"features_{name}")

    def decode(
        self, z: Array, batch: Batch | None = None, train: bool = False
    ) -> dict[str, Distribution]:
        values = self.condition_values(batch)
        return {
            name: decoder(self._beside_features(z, name, values, train), train)
            for name, decoder in self.decoders.items()
        }

    def _beside_features(
        self, z: Array, name: str, values: Mapping[str, Array], train: bool
    ) -> Array:
        """z `[..., *b, D]` and features of conditions `[*b, *shape]`: `[..., *b, D + F]`.

        The features are taken once a row, however many draws of z it has.
        """
        shapes = {condition: self.modalities[condition].shape for condition in values}
        first, shape = next(iter(values.values())), next(iter(shapes.values()))
        leading = first.shape[: first.ndim - len(shape)]
        flat = {condition: v.reshape(-1, *shapes[condition]) for condition, v in values.items()}
        features = self.features[name](flat, train).reshape(*leading, -1)
        return jnp.concatenate(
            [z, jnp.broadcast_to(features, (*z.shape[:-1], features.shape[-1]))], axis=-1
        )
