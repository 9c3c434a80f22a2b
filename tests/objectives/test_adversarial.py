"""The losses of generator and discriminator, and who belongs to which group of parameters."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from numpyro import distributions as dist
from scipy.special import log_expit

import jmvae_jax as jm
from jmvae_jax.distributions import example_keys
from jmvae_jax.objectives import Adversary, discriminator_loss, generator_loss
from jmvae_jax.objectives.adversarial import inferred, split_parameters

LOGITS = np.array([-40.0, -1.5, 0.0, 2.5, 40.0])


class Eye(nn.Module):
    """A discriminator of pixels, and of what it is shown beside them."""

    dtype: Any = None

    @nn.compact
    def __call__(self, images, beside=None):
        flat = images.reshape(images.shape[0], -1)
        if beside is not None:
            flat = jnp.concatenate([flat, beside], axis=-1)
        return nn.Dense(1, dtype=self.dtype)(flat)[:, 0]


def adversary(**options):
    return Adversary(Eye(), "image", **options)


def test_losses_are_minus_the_logarithms_of_probabilities():
    # log D = log sigmoid(l), log(1 - D) = log sigmoid(-l): SciPy's, which do not overflow.
    other = LOGITS[::-1] / 3
    np.testing.assert_allclose(
        generator_loss(jnp.asarray(LOGITS), jnp.asarray(other)),
        -log_expit(LOGITS) - log_expit(other),
        rtol=1e-5,
        atol=1e-7,
    )
    np.testing.assert_allclose(
        discriminator_loss(jnp.asarray(LOGITS), jnp.asarray(other), jnp.asarray(LOGITS)),
        -log_expit(LOGITS) - log_expit(-other) - log_expit(-LOGITS),
        rtol=1e-5,
        atol=1e-7,
    )


@pytest.mark.parametrize("name", ["vae", "jmvae_zero_2", "jmvae_kl_3", "cvae_3", "cmma_3"])
def test_the_generator_is_what_the_image_depends_on_given_z(name):
    model = zoo.ZOO[name].model
    batch, params = zoo.batch_of(model), zoo.variables_of(model)["params"]
    rest, own = split_parameters(model, "image", params)
    assert rest.keys() | own.keys() == params.keys()
    assert not rest.keys() & own.keys()
    z = jax.random.normal(jax.random.key(0), (zoo.ROWS, 2))

    def image(params):
        found = model.apply({"params": params}, z, batch, method="decode")["image"]
        return jnp.sum(found.mean**2)

    grads = jax.grad(image)(params)
    for group, reached in ((rest, False), (own, True)):
        for part in group:
            assert any(bool(jnp.any(g != 0)) for g in jax.tree.leaves(grads[part])) is reached


def images_of(model, seen, **options):
    variables, batch = zoo.variables_of(model), zoo.batch_of(model)
    keys = example_keys(jax.random.key(3), jnp.arange(zoo.ROWS))
    q, prior = inferred(model, variables, batch)
    return seen.images(model, variables, keys, batch, q, prior), batch


def test_images_are_the_models_own():
    model = zoo.ZOO["jmvae_kl_2"].model
    found, batch = images_of(model, adversary())
    shape = batch["image"].shape
    assert found.reconstruction.shape == found.draw.shape == shape
    # The density belongs to the reconstruction: that of its own mean, for a Bernoulli.
    own = dist.Bernoulli(probs=found.reconstruction).to_event(3).log_prob(batch["image"])
    np.testing.assert_allclose(found.log_prob, own, rtol=1e-4)
    assert not np.allclose(found.reconstruction, found.draw)


class Glass(jm.MultimodalModel):
    """Its image is z, and its prior is far away: where z_u comes from can be seen."""

    def setup(self):
        pass

    def posterior(self, batch, given=None, mask=None, train=False):
        return jm.distributions.gaussian(batch["image"], jnp.full_like(batch["image"], 1e-6))

    def prior(self, batch=None, train=False):
        mean = jnp.full((2,), 50.0) if batch is None else batch["image"] + 100.0
        return jm.distributions.gaussian(mean, jnp.ones_like(mean))

    def decode(self, z, batch=None, train=False):
        return {"image": dist.Normal(z, 1.0, validate_args=False).to_event(1)}


@pytest.mark.parametrize("latent", ["prior", "uniform"])
def test_draws_come_from_the_models_own_prior_or_the_uniform_one(latent):
    model = Glass(latent_dim=2, modalities={"image": jm.Modality((2,), "normal")})
    batch = {"image": jnp.zeros((400, 2))}
    keys = example_keys(jax.random.key(0), jnp.arange(400))
    q, prior = inferred(model, {"params": {}}, batch)
    found = adversary(latent=latent).images(model, {"params": {}}, keys, batch, q, prior)
    np.testing.assert_allclose(found.reconstruction, 0.0, atol=0.01)
    if latent == "prior":  # p(z | w), as CMMA has it
        np.testing.assert_allclose(found.draw.mean(), 100.0, atol=0.2)
        np.testing.assert_allclose(found.draw.std(), 1.0, atol=0.1)
    else:
        assert -1 <= found.draw.min() < -0.98 < 0.98 < found.draw.max() <= 1


def test_a_conditional_discriminator_sees_its_conditions():
    model = zoo.ZOO["cvae_2"].model
    batch = zoo.batch_of(model)
    for conditions, inputs in (((), 16), (("label",), 19)):
        seen = adversary(conditions=conditions)
        params = seen.init(jax.random.key(0), batch)
        assert params["Dense_0"]["kernel"].shape == (inputs, 1)
        one, other = seen.logits(params, batch, batch["image"], 1 - batch["image"])
        alone = seen.logits(params, batch, 1 - batch["image"])[0]
        np.testing.assert_allclose(other, alone, rtol=1e-6)
        assert one.shape == (zoo.ROWS,)


def test_logits_of_a_discriminator_in_bfloat16_reach_the_losses_in_float32():
    model = zoo.ZOO["vae"].model
    batch = zoo.batch_of(model)
    exact, half = adversary(), Adversary(Eye(jnp.bfloat16), "image")
    params = exact.init(jax.random.key(0), batch)
    assert half.discriminator.apply({"params": params}, batch["image"]).dtype == jnp.bfloat16
    fakes = batch["image"] / 3

    def losses(seen):
        real, fake = seen.logits(params, batch, batch["image"], fakes)
        return real, fake, discriminator_loss(real, fake), generator_loss(fake)

    for found, expected in zip(losses(half), losses(exact), strict=True):
        assert found.dtype == jnp.float32
        assert not np.array_equal(found, expected)
        np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"latent": "normal"}, "latent='normal': expected one of"),
        ({"reconstruction_weight": -1.0}, "reconstruction_weight=-1.0: expected at least 0"),
        ({"reconstruction_weight": float("nan")}, "reconstruction_weight=nan"),
    ],
)
def test_bad_options_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        adversary(**options)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("jmvae_kl_2", {"conditions": ("sound",)}, r"conditions names \['sound'\].* it has"),
        ("vae", {"conditions": ("label",)}, r"conditions names \['label'\]"),
        ("jmvae_kl_2", {"conditions": "label"}, r"conditions='label' is a string"),
    ],
)
def test_an_adversary_that_does_not_fit_is_refused(name, options, words):
    with pytest.raises(ValueError, match=words):
        adversary(**options).check(zoo.ZOO[name].model)
    with pytest.raises(ValueError, match=r"image='label': the model generates \['image'\]"):
        Adversary(Eye(), "label").check(zoo.ZOO["cvae_2"].model)
