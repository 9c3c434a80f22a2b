import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats
import zoo

import jmvae_jax as jm
from jmvae_jax.distributions import positive

VAE = zoo.ZOO["vae"].model
variables_of = functools.cache(zoo.variables_of)


def vae_of(decoder=zoo.BODY, encoder=zoo.BODY, likelihood="normal", shape=(3,)):
    modality = jm.Modality(shape, likelihood, decoder=decoder, encoder=encoder)
    return jm.VAE(latent_dim=2, modalities={"x": modality})


def test_the_parameters_are_as_many_as_the_papers(key):
    body = jm.MLP((512, 512))
    image = jm.Modality((28, 28, 1), "bernoulli", decoder=body, encoder=body)
    model = jm.VAE(latent_dim=64, modalities={"image": image})
    params = jax.eval_shape(model.init, key, {"image": jnp.zeros((1, 28, 28, 1))})["params"]
    sizes = {
        name: sum(leaf.size for leaf in jax.tree.leaves(part)) for name, part in params.items()
    }
    assert sizes == {"encoder": 730_240, "decoders_image": 698_128}


def test_the_encoder_is_its_body_and_two_linear_heads():
    variables, batch = variables_of(VAE), zoo.batch_of(VAE)
    q = VAE.apply(variables, batch, method="posterior")
    params = jax.tree.map(np.asarray, variables["params"]["encoder"])
    body, heads = params["body"]["Dense_0"], params["heads"]
    hidden = np.maximum(np.asarray(batch["image"]).reshape(5, 16) @ body["kernel"], 0.0)
    np.testing.assert_allclose(q.mean, hidden @ heads["mean"]["kernel"], rtol=1e-4, atol=1e-6)
    raw = hidden @ heads["variance"]["kernel"]
    np.testing.assert_allclose(q.variance, positive(raw), rtol=1e-4)


def test_an_absent_row_has_the_prior_and_the_others_keep_their_posterior():
    variables, batch = variables_of(VAE), zoo.batch_of(VAE)
    there = np.array([True, False, True, True, False])
    q = VAE.apply(variables, batch, mask={"image": jnp.asarray(there)}, method="posterior")
    whole = VAE.apply(variables, batch, method="posterior")
    np.testing.assert_allclose(q.mean[there], whole.mean[there], rtol=1e-5)
    np.testing.assert_allclose(q.variance[there], whole.variance[there], rtol=1e-5)
    np.testing.assert_array_equal(q.mean[~there], 0.0)
    np.testing.assert_array_equal(q.variance[~there], 1.0)


def test_a_vae_has_no_single_encoders():
    singles = VAE.apply(variables_of(VAE), zoo.batch_of(VAE), method="single_posteriors")
    assert singles == {}


def test_a_vae_has_one_modality(key):
    model = jm.VAE(latent_dim=2, modalities=zoo.some("image", "label"))
    with pytest.raises(ValueError, match=r"a VAE has one modality: got \['image', 'label'\]"):
        model.init(key, zoo.batch_of(model))


def test_a_vae_needs_an_encoder(key):
    with pytest.raises(ValueError, match="encoder=None: give one"):
        vae_of(encoder=None).init(key, {"x": jnp.ones((2, 3))})


class LocFirst(nn.Module):
    def __call__(self, z):
        loc = jnp.repeat(z[:, :1], 3, axis=-1)
        return {"loc": loc, "raw_scale": jnp.zeros_like(loc)}


class ScaleFirst(nn.Module):
    def __call__(self, z):
        loc = jnp.repeat(z[:, :1], 3, axis=-1)
        return {"raw_scale": jnp.zeros_like(loc), "loc": loc}


@pytest.mark.parametrize(
    "decoder",
    [
        LocFirst(),
        ScaleFirst(),
    ],
    ids=["loc first", "scale first"],
)
def test_a_decoder_may_give_the_parameters_by_name(decoder, key):
    model = vae_of(decoder=decoder, likelihood="normal_learned")
    variables = jax.jit(model.init)(key, {"x": jnp.ones((2, 3))})
    z = jnp.array([[[1.0, 0.0], [2.0, 0.0]]])
    x = np.array([[0.5, 1.0, 3.0]])
    likelihood = model.apply(variables, z, method="decode")["x"]
    assert likelihood.batch_shape == (1, 2)
    oracle = scipy.stats.norm(np.array([[[1.0], [2.0]]]), np.log(2)).logpdf(x).sum(-1)
    np.testing.assert_allclose(likelihood.log_prob(x), oracle, rtol=1e-5)


def student_t(loc, raw_scale, df=4.0):
    return dist.StudentT(df, loc, jax.nn.softplus(raw_scale), validate_args=False)


@pytest.mark.parametrize("df", [4.0, 1.5])
def test_a_users_likelihood_is_scored_as_scipy_does(df, key):
    model = vae_of(likelihood=functools.partial(student_t, df=df))
    batch = {"x": jax.random.normal(jax.random.key(1), (5, 3))}
    variables = jax.jit(model.init)(key, batch)
    z = jnp.ones((5, 2))
    arrays = model.apply(variables, z, method="decode")["x"].base_dist
    found = model.apply(variables, z, method="decode")["x"].log_prob(batch["x"])
    oracle = scipy.stats.t(df, np.asarray(arrays.loc), np.asarray(arrays.scale))
    np.testing.assert_allclose(found, oracle.logpdf(batch["x"]).sum(-1), rtol=1e-4)
    assert set(variables["params"]["decoders_x"]["heads"]) == {"loc", "raw_scale"}


class Normed(nn.Module):
    @nn.compact
    def __call__(self, inputs, train=False):
        return nn.BatchNorm(use_running_average=not train, momentum=0.9)(inputs)


def test_running_statistics_move_to_those_of_the_training_batch(key):
    model = vae_of(encoder=Normed())
    batch = {"x": 3.0 + jax.random.normal(jax.random.key(1), (8, 3))}
    variables = jax.jit(model.init)(key, batch)
    state = {"batch_stats": variables["batch_stats"]}
    loss_fn = jm.make_loss_fn(model, jm.elbo)
    arguments = (variables["params"], state)

    _, (_, kept) = loss_fn(*arguments, jax.random.key(2), batch, weights={}, train=False)
    jax.tree.map(np.testing.assert_array_equal, kept, state)

    _, (_, updated) = loss_fn(*arguments, jax.random.key(2), batch, weights={})
    found = updated["batch_stats"]["encoder"]["body"]["BatchNorm_0"]
    x = np.asarray(batch["x"])
    np.testing.assert_allclose(found["mean"], 0.1 * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found["var"], 0.9 + 0.1 * x.var(0), rtol=1e-4)
