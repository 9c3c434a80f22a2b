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
from jmvae_jax.distributions import (
    Flow,
    as_event,
    example_keys,
    gaussian,
    kl_divergence,
    sample,
    standard_normal,
)
from jmvae_jax.objectives import joint_elbo

ROWS = 4
RNG = np.random.default_rng(0)
MEAN = RNG.normal(size=(ROWS, 2)).astype(np.float32)
VARIANCE = RNG.uniform(0.2, 2.0, (ROWS, 2)).astype(np.float32)
LOC = RNG.normal(size=(ROWS, 3)).astype(np.float32)
LOGITS = RNG.normal(size=(ROWS, 5)).astype(np.float32)
BATCH = {
    "sound": RNG.normal(size=(ROWS, 3)).astype(np.float32),
    "label": np.eye(5, dtype=np.float32)[[0, 3, 1, 1]],
}
RATE = 0.5 * (MEAN**2 + VARIANCE - 1 - np.log(VARIANCE)).sum(-1)
RECONSTRUCTION = {
    "sound": scipy.stats.norm(LOC, 0.5).logpdf(BATCH["sound"]).sum(-1),
    "label": (BATCH["label"] * (LOGITS - np.log(np.exp(LOGITS).sum(-1, keepdims=True)))).sum(-1),
}


def bare_bound(**options):
    likelihoods = {
        "sound": as_event(jm.distributions.normal(jnp.asarray(LOC), 0.5), 1),
        "label": jm.distributions.categorical(jnp.asarray(LOGITS)),
    }
    posterior = gaussian(jnp.asarray(MEAN), jnp.asarray(VARIANCE))
    batch = {name: jnp.asarray(values) for name, values in BATCH.items()}
    return joint_elbo(posterior, standard_normal(2), likelihoods, batch, **options)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0, 4.0])
def test_the_bound_of_bare_distributions_is_the_one_worked_out_by_hand(beta):
    bound = bare_bound(beta=beta)
    close(bound.rate, RATE)
    assert set(bound.reconstruction) == {"sound", "label"}
    for name, expected in RECONSTRUCTION.items():
        close(bound.reconstruction[name], expected)
    total = RECONSTRUCTION["sound"] + RECONSTRUCTION["label"]
    close(bound.loss, beta * RATE - total)
    close(bound.elbo, total - RATE)
    assert bound.alignment == {}


def test_absent_rows_leave_the_bound_of_what_is_there():
    there = np.array([True, False, True, False])
    bound = bare_bound(mask={"label": jnp.asarray(there)})
    close(bound.reconstruction["label"], np.where(there, RECONSTRUCTION["label"], 0))
    close(bound.reconstruction["sound"], RECONSTRUCTION["sound"])
    close(bound.elbo, RECONSTRUCTION["sound"] + there * RECONSTRUCTION["label"] - RATE)


def test_modalities_without_a_likelihood_are_left_out():
    q, p = gaussian(jnp.asarray(MEAN), jnp.asarray(VARIANCE)), standard_normal(2)
    likelihoods = {"sound": as_event(jm.distributions.normal(jnp.asarray(LOC), 0.5), 1)}
    bound = joint_elbo(q, p, likelihoods, {**BATCH, "text": "anything"})
    close(bound.elbo, RECONSTRUCTION["sound"] - RATE)


def test_the_rate_without_closed_form_is_the_log_ratio_at_the_draw():
    q = as_event(jm.distributions.laplace(jnp.asarray(MEAN), 0.5), 1)
    z = jnp.asarray(MEAN + 1.0)
    bound = joint_elbo(q, standard_normal(2), {}, {}, beta=2.0, z=z)
    log_q = scipy.stats.laplace(MEAN, 0.5).logpdf(np.asarray(z)).sum(-1)
    close(bound.rate, log_q - scipy.stats.norm.logpdf(np.asarray(z)).sum(-1))
    close(bound.loss, 2.0 * bound.rate)
    with pytest.raises(ValueError, match="no closed form: give z"):
        joint_elbo(q, standard_normal(2), {}, {})


# x = W z + b + noise of variance NOISE. The columns of W are orthogonal, so that the true
# posterior is a diagonal Gaussian and the bound at it is tight.
W = np.array([[1.0, -0.5], [0.5, 1.0], [2.0, 0.0], [0.0, -2.0]], np.float32)
SHIFT, NOISE = np.array([0.3, -1.0, 0.0, 2.0], np.float32), 0.49
PRECISION = (1 + (W**2).sum(0) / NOISE).astype(np.float32)
X = np.random.default_rng(1).normal(size=(ROWS, 4)).astype(np.float32) * 1.5
EVIDENCE = scipy.stats.multivariate_normal(SHIFT, W @ W.T + NOISE * np.eye(4)).logpdf(X)
normal_noise = functools.partial(jm.distributions.normal, scale=NOISE**0.5)


class TruePosterior(nn.Module):
    def __call__(self, x):
        mean = (x - SHIFT) @ W / NOISE / PRECISION
        return {"mean": mean, "variance": jnp.broadcast_to(1 / PRECISION, mean.shape)}


class Linear(nn.Module):
    def __call__(self, z):
        return {"loc": z @ W.T + SHIFT}


LINEAR = jm.VAE(
    latent_dim=2,
    modalities={"x": jm.Modality((4,), normal_noise, decoder=Linear(), encoder=TruePosterior())},
)


def test_the_linear_gaussian_model_has_orthogonal_columns():
    assert W[:, 0] @ W[:, 1] == 0


def test_at_the_true_posterior_every_draw_gives_the_evidence(key):
    """log p(x|z) + log p(z) - log q(z|x) does not depend on z."""
    q = LINEAR.apply({}, {"x": X}, method="posterior")
    z = sample(q, example_keys(key, jnp.arange(ROWS)))
    # A flow that changes nothing: its divergence has no closed form.
    inner, outer = jnp.zeros((1, 2, 3)), jnp.zeros((1, 3, 4))
    unchanged = Flow(q, jnp.zeros((ROWS, 1, 3)), inner, outer)
    bound = joint_elbo(
        unchanged, standard_normal(2), LINEAR.apply({}, z, method="decode"), {"x": X}, z=z
    )
    np.testing.assert_allclose(bound.elbo, EVIDENCE, rtol=1e-4)


def test_at_the_true_posterior_the_mean_of_the_bound_is_the_evidence():
    count = 4000
    elbos = jax.jit(jax.vmap(lambda key: jm.elbo(LINEAR, {}, key, {"x": jnp.asarray(X)}).elbo))
    found = np.asarray(elbos(jax.random.split(jax.random.key(2), count)), np.float64)
    error = found.std(0) / np.sqrt(count)
    assert (error < 0.05).all()
    assert (np.abs(found.mean(0) - EVIDENCE) < 4.5 * error).all()


@pytest.mark.parametrize("name", ["vae", "jmvae_zero_2", "jmvae_kl_3"])
def test_beta_weighs_the_rate_alone(name):
    model = zoo.ZOO[name].model
    variables, batch = zoo.variables_of(model), zoo.batch_of(model)
    one = jm.elbo(model, variables, jax.random.key(1), batch)
    half = jm.elbo(model, variables, jax.random.key(1), batch, beta=0.5)
    close(one.loss, -one.elbo)
    close(half.loss, one.loss - 0.5 * one.rate)
    close(half.elbo, one.elbo)
    close(half.rate, one.rate)


def test_the_bound_of_a_model_is_that_of_its_distributions():
    model = zoo.ZOO["jmvae_kl_2"].model
    variables, batch = zoo.variables_of(model), zoo.batch_of(model)
    q = model.apply(variables, batch, method="posterior")
    z = sample(q, example_keys(jax.random.key(1), jnp.arange(zoo.ROWS)))
    likelihoods = model.apply(variables, z, method="decode")
    expected = joint_elbo(q, standard_normal(2), likelihoods, batch, beta=0.5)
    found = jm.elbo(model, variables, jax.random.key(1), batch, beta=0.5)
    jax.tree.map(close, found, expected)


def test_equal_rows_have_noise_of_their_own(key):
    batch = {"x": jnp.tile(jnp.asarray(X)[:1], (ROWS, 1))}
    bound = jm.elbo(LINEAR, {}, key, batch)
    assert len(np.unique(np.asarray(bound.reconstruction["x"]))) == ROWS


def test_the_keys_of_the_examples_may_be_chosen_by_the_caller():
    keys = example_keys(jax.random.key(5), jnp.arange(10, 10 + ROWS))
    order = np.array([2, 0, 3, 1])
    words = jax.random.key_data(keys)[order]
    straight = jm.elbo(LINEAR, {}, keys, {"x": jnp.asarray(X)})
    shuffled = jm.elbo(LINEAR, {}, jax.random.wrap_key_data(words), {"x": jnp.asarray(X)[order]})
    jax.tree.map(lambda a, b: close(a, b[order]), shuffled, straight)
    positions = jm.elbo(LINEAR, {}, jax.random.key(5), {"x": jnp.asarray(X)})
    assert (np.asarray(positions.loss) != straight.loss).all()


def test_another_key_gives_another_draw_and_the_same_key_the_same():
    losses = [
        jm.elbo(LINEAR, {}, jax.random.key(seed), {"x": jnp.asarray(X)}).loss for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(losses[0], losses[1])
    assert (np.asarray(losses[0]) != losses[2]).all()


# Importance-weighted


def test_at_the_true_posterior_the_importance_weighted_bound_is_the_evidence():
    for samples in (2, 7):
        options = {"num_samples": samples}
        found = jm.elbo(LINEAR, {}, jax.random.key(2), {"x": jnp.asarray(X)}, **options)
        np.testing.assert_allclose(-found.loss, EVIDENCE, rtol=1e-4, atol=1e-4)


def test_the_importance_weighted_bound_is_the_mean_of_weights():
    model = zoo.ZOO["jmvae_kl_2"].model
    variables, batch = zoo.variables_of(model), zoo.batch_of(model)
    q = model.apply(variables, batch, method="posterior")
    keys = example_keys(jax.random.key(1), jnp.arange(zoo.ROWS))
    fold = jax.vmap(jax.vmap(jax.random.fold_in, (0, None)), (None, 0))
    z = sample(q, fold(keys, jnp.arange(4)))
    likelihoods = model.apply(variables, z, method="decode")
    terms = {name: p.log_prob(batch[name]) for name, p in likelihoods.items()}
    weights = sum(terms.values()) - 0.5 * (q.log_prob(z) - standard_normal(2).log_prob(z))
    expected = scipy.special.logsumexp(np.asarray(weights, np.float64), axis=0) - np.log(4)
    found = jm.elbo(model, variables, jax.random.key(1), batch, beta=0.5, num_samples=4)
    close(-found.loss, expected)
    for name, term in terms.items():
        close(found.reconstruction[name], term.mean(axis=0))
    close(found.rate, kl_divergence(q, standard_normal(2)))


def test_more_samples_tighten_the_bound():
    model = zoo.ZOO["jmvae_kl_2"].model
    variables, batch = zoo.variables_of(model), zoo.batch_of(model)

    @functools.partial(jax.jit, static_argnums=1)
    def bounds(keys, samples):
        def one(key):
            return -jm.elbo(model, variables, key, batch, num_samples=samples).loss.mean()

        return jax.vmap(one)(keys)

    found = [bounds(jax.random.split(jax.random.key(1), 500), samples) for samples in (1, 4, 16)]
    means = [float(values.mean()) for values in found]
    errors = [float(values.std() / np.sqrt(500)) for values in found]
    assert means[1] - means[0] > 4 * np.hypot(*errors[:2])
    assert means[2] - means[1] > 4 * np.hypot(*errors[1:])


def test_draws_of_a_mixture_have_no_bound():
    mixture = dist.MixtureSameFamily(
        dist.Categorical(jnp.full((3, 2), 0.5)), dist.Normal(jnp.zeros((3, 2, 2)), 1.0).to_event(1)
    )
    given = mixture, standard_normal(2), {}, {}
    with pytest.raises(ValueError, match="those of a mixture have none to its weights"):
        jm.objectives.joint_elbo(*given, z=jnp.zeros((3, 2)))
    with pytest.raises(ValueError, match="those of a mixture have none to its weights"):
        jm.objectives.importance_weighted(*given, z=jnp.zeros((2, 3, 2)))


def test_an_absent_modality_has_no_weight():
    model = zoo.ZOO["jmvae_kl_2"].model
    variables, batch = zoo.variables_of(model), zoo.batch_of(model)
    mask = {"label": jnp.array([True, False, True, False, False])}
    broken = {**batch, "label": jnp.where(mask["label"][:, None], batch["label"], jnp.nan)}
    options = {"mask": mask, "num_samples": 3}
    found = jm.elbo(model, variables, jax.random.key(1), broken, **options)
    assert np.isfinite(found.loss).all()
    np.testing.assert_array_equal(np.asarray(found.reconstruction["label"]) != 0, mask["label"])


def test_no_sample_is_refused():
    model = zoo.ZOO["vae"].model
    with pytest.raises(ValueError, match="num_samples=0: expected at least 1"):
        jm.elbo(model, {}, jax.random.key(1), zoo.batch_of(model), num_samples=0)
