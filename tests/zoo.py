"""Small models of every kind, with a batch each: the contract tests go over all of them."""

import dataclasses
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import jmvae_jax as jm
from jmvae_jax.distributions import Coupling, Full, LowRank, Mixture
from jmvae_jax.networks import ConvDecoder, ConvEncoder

ROWS = 5


class Sine(nn.Module):
    """Somebody else's network: no base class of ours, another activation."""

    size: int = 6

    @nn.compact
    def __call__(self, inputs):
        return jnp.sin(nn.Dense(self.size)(inputs.reshape(inputs.shape[0], -1)))


def modality(shape: tuple[int, ...], likelihood: str, body: nn.Module) -> jm.Modality:
    return jm.Modality(shape, likelihood, body, encoder=body, branch=body, conditioner=body)


BODY = jm.MLP((7,))
MODALITIES = {
    "image": modality((4, 4, 1), "bernoulli", BODY),
    "label": modality((3,), "categorical", BODY),
    "sound": modality((5,), "laplace", Sine()),
}


def some(*names: str) -> dict[str, jm.Modality]:
    return {name: MODALITIES[name] for name in names}


def jmvae(*names: str, **options: Any) -> jm.JMVAE:
    return jm.JMVAE(latent_dim=2, modalities=some(*names), trunk=BODY, **options)


def rich_jmvae() -> jm.JMVAE:
    """Single encoders that are a flow over a full covariance, and a mixture of low rank."""
    modalities = some("image", "label")
    families = {"image": Coupling(2, 8, Full()), "label": Mixture(3, LowRank(1))}
    for name, family in families.items():
        modalities[name] = dataclasses.replace(modalities[name], posterior=family)
    return jm.JMVAE(latent_dim=2, modalities=modalities, trunk=BODY)


def conditional(kind: Any, *names: str, conditions: tuple[str, ...]) -> jm.MultimodalModel:
    modalities = {
        name: dataclasses.replace(entry, decoder=None) if name in conditions else entry
        for name, entry in some(*names).items()
    }
    return kind(latent_dim=2, modalities=modalities, conditions=conditions, trunk=BODY)


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
    "jmvae_rich_2": Entry(rich_jmvae(), jm.jmvae_kl, ALIGNED),
    "jmvae_masked_3": Entry(
        jmvae("image", "label", "sound", inference="masked"), jm.jmvae_kl, ALIGNED
    ),
    "cvae_2": Entry(
        conditional(jm.CVAE, "image", "label", conditions=("label",)), jm.elbo, {"beta": 0.5}
    ),
    "cvae_3": Entry(
        conditional(jm.CVAE, "image", "label", "sound", conditions=("label",)),
        jm.elbo,
        {"beta": 0.5},
    ),
    "cmma_3": Entry(
        conditional(jm.CMMA, "image", "label", "sound", conditions=("label", "sound")),
        jm.elbo_toward_normal,
        {"beta": 0.5},
    ),
}


def inferable(model: jm.MultimodalModel) -> list[tuple[str, ...]]:
    """Every part of the modalities that z can be inferred from."""
    names = tuple(model.modalities)
    if model.conditions:
        return [model.conditions, names]
    return [part for size in range(1, len(names) + 1) for part in combinations(names, size)]


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
    return jax.jit(model.init)(jax.random.key(42), batch_of(model))


PICTURE = (8, 8, 3)


def pictured_jmvae(axis_name: str | None = None) -> jm.JMVAE:
    """A JMVAE-kl of small images and attributes with batch norm in every network."""
    shared = {"norm": "batch", "axis_name": axis_name}
    encoder = ConvEncoder(width=0.1, hidden=20, **shared)
    words = jm.MLP((6, 6), **shared)
    return jm.JMVAE(
        latent_dim=2,
        trunk=jm.MLP((8,)),
        modalities={
            "image": jm.Modality(
                PICTURE, "normal", ConvDecoder(PICTURE, width=0.1, **shared), encoder, encoder
            ),
            "attributes": jm.Modality((4,), "normal_tanh", words, words, words),
        },
    )


def pictured_batch(rows: int = 8) -> dict[str, jax.Array]:
    """Pictures and attributes for it."""
    keys = jax.random.split(jax.random.key(0), 2)
    # Shards differ in mean and deviation: their own statistics would not do.
    level = jnp.arange(rows)[:, None, None, None] / 2.0
    return {
        "image": level + (1 + level) * jax.random.normal(keys[0], (rows, *PICTURE)),
        "attributes": jnp.where(jax.random.bernoulli(keys[1], 0.5, (rows, 4)), 1.0, -1.0),
    }
