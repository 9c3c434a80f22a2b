"""Small models of every kind, with a batch each: the contract tests go over all of them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import jmvae_jax as jm

ROWS = 5


class Sine(nn.Module):
    """Somebody else's network: no base class of ours, another activation."""

    size: int = 6

    @nn.compact
    def __call__(self, inputs):
        return jnp.sin(nn.Dense(self.size)(inputs.reshape(inputs.shape[0], -1)))


BODY = jm.MLP((7,))
IMAGE = jm.Modality((4, 4, 1), "bernoulli", decoder=BODY, encoder=BODY, branch=BODY)
LABEL = jm.Modality((3,), "categorical", decoder=BODY, encoder=BODY, branch=BODY)
SOUND = jm.Modality((5,), "laplace", decoder=Sine(), encoder=Sine(), branch=Sine())
MODALITIES = {"image": IMAGE, "label": LABEL, "sound": SOUND}


def some(*names: str) -> dict[str, jm.Modality]:
    return {name: MODALITIES[name] for name in names}


def jmvae(*names: str, **options: Any) -> jm.JMVAE:
    return jm.JMVAE(latent_dim=2, modalities=some(*names), trunk=BODY, **options)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A model and the objective that trains it."""

    model: jm.MultimodalModel
    objective: Any
    weights: Mapping[str, float]


ALIGNED = {"alpha": 0.1, "beta": 0.5}
ZOO = {
    "vae": Entry(jm.VAE(latent_dim=2, modalities=some("image")), jm.elbo, {"beta": 0.5}),
    "jmvae_zero_2": Entry(jmvae("image", "label", inference="zero"), jm.elbo, {"beta": 0.5}),
    "jmvae_kl_1": Entry(jmvae("image"), jm.jmvae_kl, ALIGNED),
    "jmvae_kl_2": Entry(jmvae("image", "label"), jm.jmvae_kl, ALIGNED),
    "jmvae_kl_3": Entry(jmvae("image", "label", "sound"), jm.jmvae_kl, ALIGNED),
}


def batch_of(model: jm.MultimodalModel, rows: int = ROWS, seed: int = 0) -> dict[str, jax.Array]:
    """Values that fit each likelihood."""
    keys = jax.random.split(jax.random.key(seed), 3)
    values = {
        "image": jax.random.bernoulli(keys[0], 0.4, (rows, 4, 4, 1)).astype(jnp.float32),
        "label": jax.nn.one_hot(jax.random.randint(keys[1], (rows,), 0, 3), 3),
        "sound": jax.random.normal(keys[2], (rows, 5)),
    }
    return {name: values[name] for name in model.modalities}


def variables_of(model: jm.MultimodalModel) -> Any:
    return model.init(jax.random.key(42), batch_of(model))
