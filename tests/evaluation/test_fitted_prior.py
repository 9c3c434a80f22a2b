"""A prior fitted to draws: known mixtures, one Gaussian in closed form, and draws from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from linear_gaussian import MATRIX, OFFSET, draw_batch, linear_gaussian, posterior_of
from scipy.stats import multivariate_normal

import jmvae_jax as jm
from jmvae_jax import parallel
from jmvae_jax.evaluation import (
    aggregate_posterior,
    fit_prior,
    judge_from_prior,
    mixture_arrays,
    mixture_prior,
)

WEIGHTS = np.array([0.3, 0.7])
MEANS = np.array([[2.0, -1.0], [-1.5, 0.5]])
COVARIANCES = np.array([[[0.5, 0.3], [0.3, 0.4]], [[0.2, -0.1], [-0.1, 0.6]]])
MODEL = linear_gaussian()
BATCH = draw_batch(MODEL, 4000)


def draws_of_mixture(count, seed):
    rng = np.random.default_rng(seed)
    number = rng.choice(2, size=count, p=WEIGHTS)
    noise = rng.normal(size=(count, 2))
    factors = np.linalg.cholesky(COVARIANCES)
    return MEANS[number] + np.einsum("nij,nj->ni", factors[number], noise)


def density_of_mixture(z):
    """Of the known mixture, in nats, by SciPy."""
    parts = [multivariate_normal(m, c).logpdf(z) for m, c in zip(MEANS, COVARIANCES, strict=True)]
    return np.logaddexp(*(np.log(w) + part for w, part in zip(WEIGHTS, parts, strict=True)))


# The fit


def test_a_known_mixture_is_found():
    prior = fit_prior(draws_of_mixture(20_000, 0), 2)
    held_out = draws_of_mixture(2000, 1)
    expected = density_of_mixture(held_out)
    found = np.asarray(prior.log_prob(held_out.astype(np.float32)))
    assert np.abs(found - expected).mean() < 0.03
    assert abs(found.mean() - expected.mean()) < 0.003
    order = np.argsort(np.asarray(prior.mixing_distribution.probs))
    arrays = mixture_arrays(prior)
    np.testing.assert_allclose(arrays["weights"][order], WEIGHTS, atol=0.02)
    np.testing.assert_allclose(arrays["means"][order], MEANS, atol=0.05)
    np.testing.assert_allclose(arrays["covariances"][order], COVARIANCES, atol=0.05)


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_one_component_has_the_moments_of_the_draws(covariance):
    z = draws_of_mixture(500, 0)
    prior = fit_prior(z, 1, covariance=covariance)
    moments = np.cov(z.T, bias=True)
    if covariance == "diag":
        moments = np.diag(np.diag(moments))
    np.testing.assert_allclose(prior.mean, z.mean(0), rtol=1e-5)
    arrays = mixture_arrays(prior)
    np.testing.assert_allclose(arrays["covariances"][0], moments + 1e-6 * np.eye(2), rtol=1e-5)
    expected = multivariate_normal(z.mean(0), moments).logpdf(z)
    np.testing.assert_allclose(prior.log_prob(z.astype(np.float32)), expected, atol=1e-3)


def test_a_fit_is_repeated_by_its_seed():
    z = draws_of_mixture(500, 0)
    one, again, other = (mixture_arrays(fit_prior(z, 5, seed=seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one["means"], again["means"])
    assert not np.allclose(one["means"], other["means"])


@pytest.mark.parametrize(
    ("z", "options", "words"),
    [
        (np.zeros(5), {"num_components": 1}, r"z has shape \(5,\): expected finite draws \[N, D\]"),
        (np.full((5, 2), np.nan), {"num_components": 1}, "expected finite draws"),
        (np.zeros((1, 2)), {"num_components": 1}, r"shape \(1, 2\): expected .* two at least"),
        (np.zeros((5, 0)), {"num_components": 1}, r"shape \(5, 0\): expected finite draws"),
        (np.zeros((5, 2)), {"num_components": 0}, "num_components=0: expected between 1 and the 5"),
        (np.zeros((5, 2)), {"num_components": 6}, "num_components=6: expected between 1 and the 5"),
        (np.zeros((5, 2)), {"num_components": 1, "covariance": "tied"}, "covariance='tied'"),
    ],
)
def test_what_cannot_be_fitted_is_refused(z, options, words):
    with pytest.raises(ValueError, match=words):
        fit_prior(z, **options)


# The mixture


def test_a_mixture_is_its_density_and_is_built_again_from_its_arrays():
    prior = mixture_prior(10 * WEIGHTS, MEANS, COVARIANCES)
    z = draws_of_mixture(100, 2)
    expected = density_of_mixture(z)
    np.testing.assert_allclose(prior.log_prob(z.astype(np.float32)), expected, rtol=1e-4, atol=1e-5)
    again = mixture_prior(**mixture_arrays(prior))
    for one, other in zip(jax.tree.leaves(prior), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


def test_a_narrow_covariance_survives_its_arrays():
    narrow = np.array([[[1.0, 1.0 - 1e-7], [1.0 - 1e-7, 1.0]]])
    prior = mixture_prior(np.ones(1), np.zeros((1, 2)), narrow)
    again = mixture_prior(**mixture_arrays(prior))
    np.testing.assert_array_equal(
        again.component_distribution.scale_tril, prior.component_distribution.scale_tril
    )


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ((WEIGHTS[:1], MEANS, COVARIANCES), r"shapes \(1,\), \(2, 2\) and \(2, 2, 2\)"),
        ((WEIGHTS, MEANS, COVARIANCES[0]), "expected .K., .K, D. and .K, D, D."),
        ((np.array([0.0, 1.0]), MEANS, COVARIANCES), "weights: expected positive"),
        ((WEIGHTS, MEANS, -COVARIANCES), "covariances: expected positive definite"),
        ((WEIGHTS, MEANS, np.triu(COVARIANCES + 0.1)), "covariances: expected symmetric"),
        ((WEIGHTS, MEANS, np.nan * COVARIANCES), "covariances: expected finite values, nan came"),
        ((WEIGHTS, np.inf * MEANS, COVARIANCES), "means: expected finite values"),
        ((np.array([np.inf, 1.0]), MEANS, COVARIANCES), "weights: expected finite values, inf"),
    ],
)
def test_arrays_that_are_no_mixture_are_refused(arrays, words):
    with pytest.raises(ValueError, match=words):
        mixture_prior(*arrays)


# Draws of q(z)


def test_the_aggregate_posterior_of_the_true_model_is_its_prior(key):
    z = np.asarray(aggregate_posterior(MODEL, {}, key, BATCH), np.float64)
    error = np.sqrt(1 / len(z))
    assert (np.abs(z.mean(0)) < 5 * error).all()
    assert (np.abs(np.cov(z.T) - np.eye(2)) < 5 * np.sqrt(2) * error).all()
    prior = fit_prior(z, 1)
    held_out = np.random.default_rng(0).normal(size=(1000, 2))
    expected = multivariate_normal(np.zeros(2)).logpdf(held_out)
    assert abs(np.mean(prior.log_prob(held_out.astype(np.float32))) - expected.mean()) < 0.01


def test_a_row_has_a_draw_of_its_own_posterior():
    rows = {"x": np.repeat(BATCH["x"][:1], 2000, axis=0)}
    z = np.asarray(aggregate_posterior(MODEL, {}, jax.random.key(1), rows), np.float64)
    mean, deviation = posterior_of(MODEL, rows, ("x",))
    assert (np.abs(z.mean(0) - mean[0]) < 5 * deviation / np.sqrt(2000)).all()
    np.testing.assert_allclose(z.std(0), deviation, rtol=0.08)


def test_draws_of_rows_do_not_depend_on_batch_or_devices():
    model = zoo.ZOO["jmvae_kl_3"].model
    variables, batch = zoo.variables_of(model), zoo.batch_of(model)
    mask = {"label": jnp.array([True, False, True, True, False])}

    def keys():
        return jax.random.split(jax.random.key(2), zoo.ROWS)

    whole = aggregate_posterior(model, variables, keys(), batch, mask)
    assert whole.shape == (zoo.ROWS, 2)
    spread = aggregate_posterior(model, parallel.replicate(variables), keys(), batch, mask)
    np.testing.assert_allclose(spread, whole, rtol=1e-5, atol=1e-6)
    part = aggregate_posterior(
        model,
        variables,
        keys()[3:],
        {name: values[3:] for name, values in batch.items()},
        {name: values[3:] for name, values in mask.items()},
    )
    np.testing.assert_allclose(part, whole[3:], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="given is empty"):
        aggregate_posterior(model, variables, keys(), {})


# Draws from the fitted prior


PRIOR = mixture_prior(WEIGHTS, MEANS, COVARIANCES)


def test_draws_have_the_moments_of_the_mixture(key):
    found = jm.generate(MODEL, {}, key, {}, targets=("y",), num_samples=4000, prior=PRIOR)["y"]
    assert found.shape == (4000, 4)
    # y is linear in z: the moments of z by least squares.
    z = (np.asarray(found, np.float64) - OFFSET["y"]) @ np.linalg.pinv(MATRIX["y"]).T
    mean = WEIGHTS @ MEANS
    apart = MEANS - mean
    covariance = np.einsum("k,kij->ij", WEIGHTS, COVARIANCES + apart[:, :, None] * apart[:, None])
    assert (np.abs(z.mean(0) - mean) < 5 * np.sqrt(np.diag(covariance) / 4000)).all()
    np.testing.assert_allclose(np.cov(z.T), covariance, atol=0.2)
    # Its likelihood as well as its moments: a Gaussian with these moments is less likely.
    gauss = multivariate_normal(z.mean(0), np.cov(z.T)).logpdf(z).mean()
    assert density_of_mixture(z).mean() > gauss + 0.3


def test_draws_from_a_fitted_prior_take_one_key_each_and_no_device():
    model = zoo.ZOO["jmvae_kl_2"].model
    variables = zoo.variables_of(model)

    def draws(keys, count, variables=variables, draw=True):
        return jm.generate(
            model,
            variables,
            keys,
            {},
            targets=("image", "label"),
            num_samples=count,
            prior=PRIOR,
            draw=draw,
        )

    def keys():
        return jm.distributions.example_keys(jax.random.key(5), jnp.arange(5))

    whole = draws(jax.random.key(5), 5)
    assert {name: x.shape for name, x in whole.items()} == {"image": (5, 4, 4, 1), "label": (5, 3)}
    for other in (draws(keys(), 5), draws(keys(), 5, parallel.replicate(variables))):
        for name, values in whole.items():
            np.testing.assert_array_equal(other[name], values)
    last = draws(keys()[2:], 3, draw=False)
    for name, values in draws(keys(), 5, draw=False).items():
        np.testing.assert_allclose(last[name], values[2:], rtol=1e-5, atol=1e-6)


def test_the_standard_normal_as_a_prior_draws_from_it():
    normal = jm.distributions.standard_normal(2)
    one, other = (
        jm.generate(MODEL, {}, jax.random.key(6), {}, targets=("x",), num_samples=3, prior=prior)[
            "x"
        ]
        for prior in (None, normal)
    )
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


CVAE = zoo.ZOO["cvae_2"].model


@pytest.mark.parametrize(
    ("model", "given", "prior", "words"),
    [
        (MODEL, {"x": BATCH["x"][:2]}, PRIOR, r"prior and given=\['x'\]"),
        (CVAE, {}, PRIOR, r"prior: a CVAE has its own given \['label'\]"),
        (MODEL, {}, jm.distributions.standard_normal(3), r"event shape \(3,\): expected \(\)"),
        (
            MODEL,
            {},
            jm.distributions.gaussian(jnp.zeros((2, 2)), jnp.ones((2, 2))),
            r"prior has batch shape \(2,\)",
        ),
    ],
)
def test_a_prior_that_does_not_fit_is_refused(key, model, given, prior, words):
    target = model.generated[0]
    with pytest.raises(ValueError, match=words):
        jm.generate(model, {}, key, given, targets=(target,), prior=prior)


def test_images_of_a_fitted_prior_are_judged(key):
    model = zoo.ZOO["jmvae_kl_2"].model
    variables = zoo.variables_of(model)

    def reads(images):
        return (images.reshape(images.shape[0], -1),) * 2

    options = {"image": "image", "label": "label"}
    seen, drawn = judge_from_prior(model, variables, key, reads, 200, prior=PRIOR, **options)
    assert drawn.shape == (200,)
    keys = jm.distributions.example_keys(jax.random.key(0), jnp.arange(200))[:4]
    expected = jm.generate(
        model, variables, keys, {}, targets=("image",), num_samples=4, prior=PRIOR
    )["image"]
    np.testing.assert_allclose(seen.features[:4], expected.reshape(4, -1), rtol=1e-5, atol=1e-6)
    plain, _ = judge_from_prior(model, variables, jax.random.key(0), reads, 200, **options)
    assert not np.allclose(plain.features, seen.features)
