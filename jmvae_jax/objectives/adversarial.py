"""A discriminator beside a bound: JMVAE-GAN, VAE-GAN, CVAE-GAN, CMMA-GAN.

Section 4.2 of arXiv:1611.01891, in the manner of Larsen et al. (2016). The networks of
p(image | z) leave the bound for (3), the discriminator D has (4), all others keep the bound:

(3) `-gamma log p(x | z) - log D(G(z_u)) - log D(x_rec)`
(4) `-log D(x) - log(1 - D(G(z_u))) - log(1 - D(x_rec))`

`G(z)` is the mean of p(x | z), `x_rec` is G at z ~ q(z | everything), and `z_u` is a draw from the
prior, or from Uniform(-1, 1) as in the authors' code. D ends in a logit l: `-log D = softplus(-l)`
and `-log(1 - D) = softplus(l)`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from flax import struct

from jmvae_jax import distributions
from jmvae_jax.distributions import Distribution
from jmvae_jax.models.base import MultimodalModel, call_method
from jmvae_jax.models.checks import check_names
from jmvae_jax.types import Array, Batch, Key, Variables

LATENTS = ("prior", "uniform")


def generator_loss(*fakes: Array) -> Array:
    """`-sum log D` of images that the discriminator should take for real.

    Args:
      fakes: logits `[B]` of each kind.

    Returns:
      `[B]`, in nats.

    Example:
      >>> import jax.numpy as jnp, jmvae_jax as jm
      >>> print(jm.objectives.generator_loss(jnp.zeros(2), jnp.zeros(2)))
      [1.3862944 1.3862944]
    """
    return sum((jax.nn.softplus(-logits) for logits in fakes), jnp.zeros(()))


def discriminator_loss(real: Array, *fakes: Array) -> Array:
    """`-log D(real) - sum log(1 - D(fake))`: arguments and result as in `generator_loss`.

    Example:
      >>> import jax.numpy as jnp, jmvae_jax as jm
      >>> print(jm.objectives.discriminator_loss(jnp.zeros(1), jnp.zeros(1)))
      [1.3862944]
    """
    return jax.nn.softplus(-real) + sum(jax.nn.softplus(logits) for logits in fakes)


class Images(struct.PyTreeNode):
    """What the generator makes of a batch.

    Attributes:
      log_prob: `log p(x | z)` at z ~ q(z | everything), `[B]`.
      reconstruction: the mean of p(x | z) there, `[B, *shape]`.
      draw: the mean of p(x | z_u), `[B, *shape]`.
    """

    log_prob: Array
    reconstruction: Array
    draw: Array


@dataclasses.dataclass(frozen=True)
class Adversary:
    """A discriminator, and what it is shown.

    Args:
      discriminator: any Linen module without state or randomness, from images `[N, *shape]` to
        logits `[N]`; with `conditions`, from images and a second argument `[N, F]`.
      image: name of the modality that it judges.
      latent: where z_u comes from: "prior" (the model's own, p(z | w) of CMMA) or "uniform".
      reconstruction_weight: gamma in (3).
      conditions: modalities that it sees beside the image, flat and side by side.

    Raises:
      ValueError: an unknown `latent`, or a negative weight.
    """

    discriminator: Any
    image: str
    latent: str = "prior"
    reconstruction_weight: float = 1.0
    conditions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.latent not in LATENTS:
            raise ValueError(f"latent={self.latent!r}: expected one of {LATENTS}")
        if not self.reconstruction_weight >= 0:
            raise ValueError(
                f"reconstruction_weight={self.reconstruction_weight}: expected at least 0"
            )

    def check(self, model: MultimodalModel) -> None:
        """Raises ValueError if the model does not generate the image, or lacks a condition."""
        if self.image not in model.generated:
            raise ValueError(f"image={self.image!r}: the model generates {list(model.generated)}")
        check_names("conditions", self.conditions, model.modalities)

    def _beside(self, batch: Batch) -> tuple[Array, ...]:
        """The conditions as the discriminator's further arguments: one, or none."""
        seen = [batch[name].reshape(len(batch[name]), -1) for name in self.conditions]
        return (jnp.concatenate(seen, axis=-1),) if seen else ()

    def init(self, key: Key, batch: Batch) -> Any:
        """The discriminator's first parameters.

        Raises:
          ValueError: it keeps something else as well, statistics say.
        """
        found = self.discriminator.init(key, batch[self.image], *self._beside(batch))
        if set(found) != {"params"}:
            raise ValueError(
                f"discriminator keeps {sorted(set(found) - {'params'})}: expected a network of "
                "parameters alone, since it sees real images and fakes in one batch"
            )
        return found["params"]

    def logits(self, params: Any, batch: Batch, *images: Array) -> list[Array]:
        """Logits `[B]` of each of `images` `[B, *shape]`, in one pass; in float32."""
        beside = [jnp.concatenate([part] * len(images)) for part in self._beside(batch)]
        together = self.discriminator.apply({"params": params}, jnp.concatenate(images), *beside)
        return jnp.split(together.astype(jnp.float32), len(images))

    def images(
        self,
        model: MultimodalModel,
        variables: Variables,
        keys: Key,
        batch: Batch,
        posterior: Distribution,
        prior: Distribution,
    ) -> Images:
        """Reconstructions and draws as training sees them: statistics are each batch's own.

        Args:
          model: a model and `variables`, its parameters and state, which is left as it is.
          keys: `[B]`, one an example.
          batch: modality -> `[B, *shape]`, everything.
          posterior: q(z | everything), batch shape `[B]`.
          prior: of z_u, batch shape `[]` or `[B]`.
        """
        fold = jax.vmap(jax.random.fold_in, (0, None))
        if self.latent == "uniform":
            ones = jnp.ones(model.latent_dim)
            prior = dist.Uniform(-ones, ones, validate_args=False).to_event(1)
        z = distributions.sample(posterior, fold(keys, 0))
        z_u = distributions.sample(prior, fold(keys, 1))

        def decoded(latent: Array) -> Distribution:
            # One call a batch, so that each is normalised by its own statistics.
            state = [name for name in variables if name != "params"]
            found, _ = model.apply(variables, latent, batch, True, method="decode", mutable=state)
            likelihood: Distribution = found[self.image]
            return likelihood

        reconstruction = decoded(z)
        return Images(
            log_prob=reconstruction.log_prob(batch[self.image]),
            reconstruction=reconstruction.mean,
            draw=decoded(z_u).mean,
        )


def inferred(
    model: MultimodalModel, variables: Variables, batch: Batch
) -> tuple[Distribution, Distribution]:
    """q(z | everything) and the prior as training sees them; statistics are left as they are."""
    state = [name for name in variables if name != "params"]
    found, _ = call_method(model, variables, "infer", batch, None, True, mutable=state)
    q, prior = found
    return q, prior


def split_parameters(
    model: MultimodalModel, image: str, params: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters of everything but p(image | z), and those of p(image | z)."""
    own = model.decoder_parameters(image)
    rest = {name: value for name, value in params.items() if name not in own}
    return rest, {name: params[name] for name in own}
