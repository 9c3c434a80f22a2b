"""Bodies in bfloat16: what a model says of z and of the modalities is float32."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import zoo

import jmvae_jax as jm
from jmvae_jax.distributions import positive

HALF = jnp.bfloat16


def in_bfloat16(model):
    """The model with every body in bfloat16."""
    modalities = {
        name: dataclasses.replace(
            modality,
            **{
                part: getattr(modality, part).clone(dtype=HALF)
                for part in ("decoder", "encoder", "branch")
            },
        )
        for name, modality in model.modalities.items()
    }
    return model.clone(modalities=modalities, trunk=model.trunk.clone(dtype=HALF))


def dtypes(tree):
    return {leaf.dtype.name for leaf in jax.tree.leaves(tree)}


def is_rounded(array):
    return bool(jnp.all(array == array.astype(HALF)))


def described(model, variables, batch):
    """q(z | batch), and the likelihood of the batch at z = 1."""
    q = model.apply(variables, batch, method="posterior")
    likelihoods = model.apply(variables, jnp.ones((len(q.mean), 2)), method="decode")
    means = [likelihood.mean for likelihood in likelihoods.values()]
    log_probs = [likelihoods[name].log_prob(values) for name, values in batch.items()]
    return [q.mean, q.variance, *log_probs, *means]


def test_a_model_of_bfloat16_bodies_keeps_float32():
    exact, batch = zoo.pictured_jmvae(), zoo.pictured_batch(4)
    half = in_bfloat16(exact)
    variables = jax.eval_shape(exact.init, jax.random.key(0), batch)

    def bound(params, state):
        options = {"alpha": 0.1, "train": True, "mutable": ["batch_stats"]}
        variables = {**state, "params": params}
        found = jm.jmvae_kl(half, variables, jax.random.key(1), batch, **options)
        return found[0].loss.mean(), found

    assert jax.eval_shape(half.init, jax.random.key(0), batch) == variables
    params = variables["params"]
    trained = jax.eval_shape(jax.grad(bound, has_aux=True), params, variables)
    assert dtypes((variables, trained)) == {"float32"}
    assert trained[0] == params
    shown = jax.eval_shape(lambda variables: described(half, variables, batch), variables)
    assert dtypes(shown) == {"float32"}


def test_heads_of_bfloat16_bodies_are_not_rounded():
    exact = zoo.ZOO["jmvae_kl_1"].model
    batch, variables = zoo.batch_of(exact), zoo.variables_of(exact)
    show = jax.jit(described, static_argnums=0)
    found, expected = (show(model, variables, batch) for model in (in_bfloat16(exact), exact))
    for one, other in zip(found, expected, strict=True):
        assert not is_rounded(one)
        assert 0 < np.linalg.norm(one - other) < 0.02 * np.linalg.norm(other)


class Rounded(nn.Module):
    """A body that predicts its parameters itself, in bfloat16."""

    names: tuple[str, ...]
    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, inputs):
        flat = inputs.reshape(inputs.shape[0], -1)
        values = {name: nn.Dense(3, dtype=HALF)(flat) for name in self.names}
        return {name: nn.softplus(value) for name, value in values.items()}


def test_parameters_predicted_in_bfloat16_are_cast_before_the_distribution():
    encoder = Rounded(("mean", "variance"), (3,))
    decoder = Rounded(("loc", "raw_scale"), (3,))
    model = jm.VAE(
        latent_dim=3, modalities={"x": jm.Modality((3,), "normal_learned", decoder, encoder)}
    )
    batch = {"x": jax.random.normal(jax.random.key(0), (4, 3))}
    variables = jax.jit(model.init)(jax.random.key(1), batch)
    q = model.apply(variables, batch, method="posterior")
    assert dtypes((q.mean, q.variance)) == {"float32"}
    assert is_rounded(q.mean)
    z = jax.random.normal(jax.random.key(2), (4, 3))
    likelihood = model.apply(variables, z, method="decode")["x"]
    assert dtypes((likelihood.mean, likelihood.variance)) == {"float32"}
    predicted = decoder.apply({"params": variables["params"]["decoders_x"]["body"]}, z)
    assert dtypes(predicted) == {"bfloat16"}
    scale = positive(predicted["raw_scale"].astype(jnp.float32))
    np.testing.assert_allclose(jnp.sqrt(likelihood.variance), scale, rtol=1e-6)
    assert not is_rounded(scale)
