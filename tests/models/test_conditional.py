"""CVAE and CMMA: what is conditioned on what, their bounds, and their own likelihoods."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from linear_gaussian import LinearGaussian, draw_batch, linear_gaussian, truth
from scipy.special import logsumexp

import jmvae_jax as jm
from jmvae_jax.distributions import kl_divergence
from jmvae_jax.evaluation import Query, estimate, standard_queries

CVAE, CVAE_3, CMMA_3 = (zoo.ZOO[name].model for name in ("cvae_2", "cvae_3", "cmma_3"))
CMMA = zoo.conditional(jm.CMMA, "image", "label", conditions=("label",))
BOTH = pytest.mark.parametrize("model", [CVAE, CMMA], ids=["cvae", "cmma"])
variables_of = functools.cache(zoo.variables_of)


def sizes(model, batch):
    params = jax.eval_shape(model.init, jax.random.key(0), batch)["params"]
    return {name: sum(leaf.size for leaf in jax.tree.leaves(part)) for name, part in params.items()}


def papers(kind, conditioner):
    body, wide = jm.MLP((512,)), jm.MLP((512, 512))
    return kind(
        latent_dim=64,
        conditions=("label",),
        trunk=body,
        modalities={
            "image": jm.Modality((28, 28, 1), "bernoulli", decoder=wide, branch=body),
            "label": jm.Modality((10,), "categorical", branch=body, conditioner=conditioner),
        },
    )


def test_the_parameters_are_as_many_as_the_papers():
    batch = {"image": jnp.zeros((1, 28, 28, 1)), "label": jnp.eye(10)[:1]}
    label, image = 10 * 512 + 512, (64 + 512) * 512 + 512 + 512 * 512 + 512 + 512 * 784 + 784
    found = sizes(papers(jm.CVAE, jm.MLP((512,))), batch)
    assert found == {"joint": 998_016, "features_image": label, "decoders_image": image}
    found = sizes(papers(jm.CMMA, jm.MLP((512, 512))), batch)
    assert found == {"joint": 998_016, "conditional_prior": 333_952, "decoders_image": 698_128}


def gradient(model, change):
    """Gradient of a function of the model's distributions with respect to the label's values."""
    batch = zoo.batch_of(model)

    def number(label):
        return jnp.sum(change(model, variables_of(model), {**batch, "label": label}))

    return np.asarray(jax.grad(number)(batch["label"]))


def decoded(model, variables, batch):
    z = jnp.ones((zoo.ROWS, model.latent_dim))
    return model.apply(variables, z, batch, method="decode")["image"].mean


def prior_mean(model, variables, batch):
    return model.apply(variables, batch, method="prior").mean


def test_the_decoder_of_a_cvae_reads_the_condition_and_its_prior_does_not():
    assert gradient(CVAE, decoded).any()
    assert not gradient(CVAE, prior_mean).any()


def test_the_prior_of_a_cmma_reads_the_condition_and_its_decoder_does_not():
    assert gradient(CMMA, prior_mean).any()
    assert not gradient(CMMA, decoded).any()


def test_each_decoder_has_conditioners_of_its_own():
    params = variables_of(CVAE_3)["params"]
    first, second = (params[f"features_{name}"] for name in ("image", "sound"))
    assert jax.tree.structure(first) == jax.tree.structure(second)
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    assert any((np.asarray(a) != b).any() for a, b in pairs)


@pytest.mark.parametrize("beta", [0.0, 0.3])
@BOTH
def test_the_bound_is_reconstruction_minus_divergence_to_the_models_prior(model, beta, key):
    variables, batch = variables_of(model), zoo.batch_of(model)
    bound = jm.elbo(model, variables, key, batch, beta=beta)
    q = model.apply(variables, batch, method="posterior")
    rate = kl_divergence(q, model.apply(variables, batch, method="prior"))
    assert set(bound.reconstruction) == {"image"}
    np.testing.assert_allclose(bound.rate, rate, rtol=1e-6)
    np.testing.assert_allclose(bound.loss, beta * rate - bound.reconstruction["image"], rtol=1e-6)


def test_toward_normal_adds_the_weighted_divergence_to_the_standard_normal():
    variables, batch = variables_of(CMMA), zoo.batch_of(CMMA)
    plain = jm.elbo(CMMA, variables, jax.random.key(0), batch)
    q = CMMA.apply(variables, batch, method="posterior")
    extra = kl_divergence(q, jm.distributions.standard_normal(2))
    for beta in (0.0, 0.7):
        found = jm.elbo_toward_normal(CMMA, variables, jax.random.key(0), batch, beta=beta)
        np.testing.assert_allclose(found.loss, plain.loss + beta * extra, rtol=1e-6)
        np.testing.assert_allclose(found.elbo, plain.elbo, rtol=1e-6)


def test_toward_normal_of_a_cvae_counts_its_prior_twice(key):
    # Its prior is N(0, I) already: the two divergences are one.
    variables, batch = variables_of(CVAE), zoo.batch_of(CVAE)
    found = jm.elbo_toward_normal(CVAE, variables, key, batch, beta=0.5)
    plain = jm.elbo(CVAE, variables, jax.random.key(0), batch, beta=1.5)
    np.testing.assert_allclose(found.loss, plain.loss, rtol=1e-5)


@BOTH
def test_a_row_without_what_is_generated_has_the_prior_and_no_loss(model, key):
    variables, batch = variables_of(model), zoo.batch_of(model)
    there = jnp.array([True, False, True, True, False])
    bound = jm.elbo(model, variables, key, batch, mask={"image": there})
    np.testing.assert_allclose(np.asarray(bound.loss)[[1, 4]], 0.0, atol=1e-6)
    assert (np.abs(np.asarray(bound.loss)[[0, 2, 3]]) > 0.1).all()


# Likelihoods


def grid():
    line = np.linspace(-8, 8, 161)
    z = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    return jnp.asarray(z, jnp.float32), 2 * np.log(line[1] - line[0])


@pytest.mark.parametrize("model", [CVAE, CVAE_3, CMMA_3], ids=["cvae_2", "cvae_3", "cmma_3"])
def test_the_likelihoods_agree_with_quadrature(model):
    batch, variables = zoo.batch_of(model), variables_of(model)
    z, volume = grid()
    by_row = {name: value[None] for name, value in batch.items()}
    wide = jnp.broadcast_to(z[:, None], (len(z), zoo.ROWS, 2))
    likelihoods = model.apply(variables, wide, batch, method="decode")
    prior = model.apply(variables, batch, method="prior")
    log_prior = np.asarray(prior.log_prob(wide))
    terms = {name: np.asarray(q.log_prob(by_row[name])) for name, q in likelihoods.items()}

    def integral(*names):
        return volume + logsumexp(log_prior + sum(terms[name] for name in names), axis=0)

    expected = {Query(model.generated, model.conditions): integral(*model.generated)}
    if len(model.generated) > 1:
        first, second = model.generated
        everything = tuple(model.modalities)
        expected[Query((first,), model.conditions, everything)] = integral(first)
        ratio = Query((first,), (*model.conditions, second))
        expected[ratio] = integral(first, second) - integral(second)
        assert ratio.estimator(model) == "ratio"
    queries = list(expected)
    found = estimate(model, variables, jax.random.key(1), batch, queries, 2000)
    for query, one in zip(queries, found, strict=True):
        error = np.sqrt(np.asarray(one.mc_variance))
        assert error.max() < 0.1
        assert (np.abs(one.value - expected[query]) < 5 * error + 1e-4).all(), query


class Conditioned(LinearGaussian):
    """p(x, y | w) of the linear-Gaussian model, with p(z | w) as the prior: a perfect CMMA."""

    @property
    def generated(self):
        return ("x", "y")

    def prior(self, batch=None, train=False):
        return self.posterior(batch, ("w",))


def test_a_conditional_evidence_is_exact_under_the_true_posterior():
    plain = linear_gaussian()
    model = Conditioned(latent_dim=2, modalities=plain.modalities)
    batch = draw_batch(plain, 4)
    queries = standard_queries(model)
    assert queries[0] == Query(("x", "y"), ("w",), ("x", "w", "y"))
    assert [query.target for query in queries] == [("x", "y"), ("x",), ("y",)]
    assert {query.estimator(model) for query in queries} == {"importance"}
    (whole,) = estimate(model, {}, jax.random.key(0), batch, queries[:1], 3)
    np.testing.assert_allclose(whole.value, truth(plain, batch, queries[0]), atol=1e-4)
    alone = Query(("x",), ("y", "w"))
    (found,) = estimate(model, {}, jax.random.key(1), batch, [alone], 4000)
    off = np.abs(found.value - truth(plain, batch, alone))
    assert (off < 5 * np.sqrt(np.asarray(found.mc_variance)) + 1e-4).all()


def test_the_result_does_not_depend_on_the_chunks():
    batch, queries = zoo.batch_of(CMMA), standard_queries(CMMA)
    keys = jm.distributions.example_keys(jax.random.key(3), jnp.arange(zoo.ROWS))
    found = [
        estimate(CMMA, variables_of(CMMA), keys, batch, queries, 30, chunk_rows=rows)[0].value
        for rows in (1, 7, 1000)
    ]
    np.testing.assert_allclose(found[0], found[2], rtol=1e-5)
    np.testing.assert_allclose(found[1], found[2], rtol=1e-5)


# Generation and refusals


@BOTH
def test_generation_given_the_condition_draws_from_the_models_prior(model, key):
    variables = variables_of(model)
    label = jnp.eye(3)
    found = jm.generate(
        model, variables, key, {"label": label}, targets=("image",), num_samples=4000
    )["image"]
    assert found.shape == (4000, 3, 4, 4, 1)
    prior = model.apply(variables, {"label": label}, method="prior")
    z = np.random.default_rng(0).normal(size=(4000, 3, 2))
    z = jnp.asarray(np.asarray(prior.mean) + np.sqrt(np.asarray(prior.variance)) * z, jnp.float32)
    expected = model.apply(variables, z, {"label": label}, method="decode")["image"].mean
    error = np.asarray(expected).std(axis=0) / np.sqrt(4000)
    assert (np.abs(found.mean(0) - expected.mean(0)) < 6 * np.sqrt(2) * error + 1e-5).all()


@BOTH
def test_what_cannot_be_inferred_generated_or_estimated_is_refused_by_name(model, key):
    variables, batch = variables_of(model), zoo.batch_of(model)
    only_image = {"image": batch["image"]}
    name = type(model).__name__
    with pytest.raises(ValueError, match=rf"given=\('image',\): {name} infers z from all"):
        model.apply(variables, only_image, given=("image",), method="posterior")
    with pytest.raises(ValueError, match=rf"given=\(\): {name} infers z"):
        jm.generate(model, variables, key, {}, targets=("image",))
    with pytest.raises(ValueError, match=rf"targets names \['label'\], which a {name} is given"):
        jm.predict(model, variables, batch, targets=("label",))
    with pytest.raises(ValueError, match=r"target names \['label'\]"):
        jm.log_likelihood(model, variables, key, batch, target=("label",), given=("image",))
    with pytest.raises(ValueError, match=r"given=\(\) lacks \['label'\]"):
        jm.log_likelihood(model, variables, key, batch, target=("image",))
    wrong = {"target": ("image",), "given": ("label",), "proposal": ("image",)}
    with pytest.raises(ValueError, match=rf"proposal=\('image',\): a {name} draws from all of"):
        jm.log_likelihood(model, variables, key, batch, **wrong)
    with pytest.raises(ValueError, match="jmvae_kl aligns encoders of a part"):
        jm.jmvae_kl(model, variables, key, batch)


def test_a_condition_that_is_not_there_is_named():
    z = jnp.zeros((2, 2))
    with pytest.raises(ValueError, match=r"CVAE is given \['label'\], and the batch lacks them"):
        CVAE.apply(variables_of(CVAE), z, method="decode")
    with pytest.raises(ValueError, match=r"CMMA is given \['label'\]"):
        CMMA.apply(variables_of(CMMA), method="prior")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conditions": ()}, "conditions is empty"),
        ({"conditions": ("image", "label")}, "nothing is generated"),
        ({"conditions": ("text",)}, r"conditions names \['text'\]"),
        ({"conditions": "label"}, "conditions='label' is a string"),
        ({"conditions": ("image",)}, r"modalities\['label'\] has decoder=None"),
        ({"trunk": None}, "trunk and joint_encoder: give one"),
        ({"modalities": zoo.rich_jmvae().modalities}, r"'image'\].posterior=Coupling.* a C"),
    ],
)
@BOTH
def test_a_model_that_cannot_be_is_refused(model, change, message, key):
    with pytest.raises(ValueError, match=message):
        model.clone(**change).init(key, zoo.batch_of(model))


def test_a_decoder_of_ones_own_reads_z_beside_the_features(key):
    class Shape(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            assert inputs.shape[-1] == 2 + 3  # latent_dim, and the label as it is
            return nn.Dense(4)(inputs)

    modalities = {
        "image": jm.Modality((4, 4, 1), "bernoulli", Shape()),
        "label": jm.Modality((3,), "categorical"),
    }
    model = jm.CVAE(latent_dim=2, modalities=modalities, conditions=["label"], trunk=jm.MLP((4,)))
    assert model.conditions == ("label",)
    model.init(key, zoo.batch_of(CVAE))
