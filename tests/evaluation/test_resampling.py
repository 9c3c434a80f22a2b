"""Resampled draws: the exact posterior from a poor proposal, exact weights, one key each."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from linear_gaussian import MATRIX, OFFSET, draw_batch, evidence, linear_gaussian, posterior_of
from numpyro import distributions as dist

import jmvae_jax as jm
from jmvae_jax import parallel
from jmvae_jax.evaluation import judge_from_labels, resampling
from jmvae_jax.models.base import fill_absent

POOR = linear_gaussian(widen=2.0, shift=0.5)
BATCH = draw_batch(POOR, 5)
NUM_DRAWS = 4000


def pick(batch, *names):
    return {name: batch[name] for name in names}


def linear(keys, given, num_samples=3, num_proposals=4, model=POOR, **options):
    """Means of y from a linear-Gaussian model with a poor posterior, as NumPy."""
    found = jm.generate(
        model,
        {},
        keys,
        given,
        targets=("y",),
        num_samples=num_samples,
        num_proposals=num_proposals,
        **options,
    )
    return np.asarray(found["y"])


# The posterior


def weights_of(model, variables, z, posterior, filled, mask=None):
    """`log_weights`, compiled anew at each call."""
    function = functools.partial(resampling.log_weights, model)
    return jax.jit(function)(variables, z, posterior, filled, mask)


def off(num_proposals):
    """How far means and covariances of draws are from p(y | x, w), in standard errors."""
    given = {name: BATCH[name][:1] for name in ("x", "w")}
    found = linear(jax.random.key(1), given, NUM_DRAWS, num_proposals)
    found = found.astype(np.float64).reshape(NUM_DRAWS, -1)
    mean, deviation = posterior_of(linear_gaussian(), BATCH, ("x", "w"))
    covariance = MATRIX["y"] * deviation**2 @ MATRIX["y"].T
    variance = np.diag(covariance)
    apart = found.mean(0) - (mean[0] @ MATRIX["y"].T + OFFSET["y"])
    spread = np.sqrt((np.outer(variance, variance) + covariance**2) / NUM_DRAWS)
    return (
        np.abs(apart / np.sqrt(variance / NUM_DRAWS)).max(),
        np.abs((np.cov(found.T) - covariance) / spread).max(),
    )


def test_a_poor_proposal_gives_the_exact_posterior():
    assert max(off(num_proposals=200)) < 4.5
    assert min(off(num_proposals=1)) > 20


@pytest.mark.parametrize("names", [("x",), ("w", "y"), ("x", "w", "y")])
def test_at_the_true_posterior_every_weight_is_the_evidence(names):
    model = linear_gaussian()
    given = pick(BATCH, *names)
    posterior = model.apply({}, given, names, method="posterior")
    z = 2 * jax.random.normal(jax.random.key(0), (7, 5, 2))
    found = weights_of(model, {}, z, posterior, given)
    expected = np.broadcast_to(evidence(model, BATCH, names), (7, 5))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_what_a_row_lacks_has_no_part_in_its_weights():
    model, names = linear_gaussian(), ("x", "w")
    there = np.array([True, False, True, False, True])
    mask = {"w": jnp.asarray(there)}
    filled = fill_absent(pick(BATCH, *names), mask)
    posterior = model.apply({}, filled, names, mask, method="posterior")
    z = jax.random.normal(jax.random.key(0), (7, 5, 2))
    found = weights_of(model, {}, z, posterior, filled, mask)
    both, alone = (evidence(model, BATCH, part) for part in (names, ("x",)))
    expected = np.broadcast_to(np.where(there, both, alone), (7, 5))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 15, 1000])
def test_weights_do_not_depend_on_how_many_are_decoded_at_once(monkeypatch, rows):
    given = pick(BATCH, "x")
    posterior = POOR.apply({}, given, ("x",), method="posterior")
    z = jax.random.normal(jax.random.key(0), (7, 5, 2))
    whole = weights_of(POOR, {}, z, posterior, given)
    monkeypatch.setattr(resampling, "default_chunk_rows", lambda model: rows)
    np.testing.assert_allclose(weights_of(POOR, {}, z, posterior, given), whole, rtol=1e-5)


def test_by_likelihood_draws_come_from_the_product_of_q_and_the_likelihood():
    names = ("x", "w")
    given = {name: BATCH[name][:1] for name in names}
    found = linear(jax.random.key(1), given, NUM_DRAWS, 200, weighting="likelihood")
    found = found.astype(np.float64).reshape(NUM_DRAWS, -1)
    # Precisions of Gaussians add: of q, and of the exact posterior without its prior's 1.
    mean, deviation = posterior_of(POOR, BATCH, names)
    exact_mean, exact_deviation = posterior_of(linear_gaussian(), BATCH, names)
    q, exact = deviation**-2, exact_deviation**-2
    variance = 1 / (q + exact - 1)
    center = variance * (q * mean[0] + exact * exact_mean[0])
    covariance = MATRIX["y"] * variance @ MATRIX["y"].T
    errors = np.sqrt(np.diag(covariance) / NUM_DRAWS)
    apart = found.mean(0) - (center @ MATRIX["y"].T + OFFSET["y"])
    assert np.abs(apart / errors).max() < 4.5
    np.testing.assert_allclose(np.cov(found.T), covariance, atol=0.1 * np.diag(covariance).max())


def test_the_likelihood_alone_is_the_weight_without_prior_and_proposal():
    given = pick(BATCH, "x")
    posterior = POOR.apply({}, given, ("x",), method="posterior")
    z = jax.random.normal(jax.random.key(0), (7, 5, 2))
    alone = jax.jit(functools.partial(resampling.log_weights, POOR, weighting="likelihood"))
    whole = weights_of(POOR, {}, z, posterior, given)
    prior = POOR.apply({}, given, method="prior")
    expected = whole - prior.log_prob(z) + posterior.log_prob(z)
    found = alone({}, z, posterior, given, None)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["cvae_3", "cmma_3"])
def test_weights_of_a_conditional_model_are_those_given_its_conditions(name):
    model = zoo.ZOO[name].model
    variables, batch = zoo.variables_of(model), zoo.batch_of(model)
    z = jax.random.normal(jax.random.key(0), (4, zoo.ROWS, 2))

    @jax.jit
    def expected(variables, batch, z):
        posterior = model.apply(variables, batch, method="posterior")
        prior = model.apply(variables, batch, method="prior")
        likelihoods = model.apply(variables, z, batch, method="decode")
        assert set(likelihoods) == set(model.generated) < set(batch)
        explained = sum(q.log_prob(batch[n]) for n, q in likelihoods.items())
        weights = explained + prior.log_prob(z) - posterior.log_prob(z)
        return weights, resampling.log_weights(model, variables, z, posterior, batch, None)

    np.testing.assert_allclose(*expected(variables, batch, z), rtol=1e-4, atol=1e-4)
    drawn = jm.generate(
        model, variables, jax.random.key(1), batch, targets=("image",), num_proposals=3
    )
    assert np.isfinite(drawn["image"]).all()


# Keys


def test_one_proposal_is_the_plain_draw_to_the_last_bit():
    given = pick(BATCH, "x")
    plain = jm.generate(POOR, {}, jax.random.key(2), given, targets=("y",), num_samples=3)["y"]
    np.testing.assert_array_equal(linear(jax.random.key(2), given, num_proposals=1), plain)


def test_resampled_draws_are_some_of_their_own_candidates(key):
    given = pick(BATCH, "x")
    found = linear(key, given, num_samples=2, num_proposals=3)
    keys = jax.vmap(jm.distributions.example_keys, (0, None))(
        jm.distributions.example_keys(jax.random.key(0), jnp.arange(5)), jnp.arange(2)
    ).T
    fold = jax.vmap(jax.vmap(jax.random.fold_in, (0, None)), (0, None))
    posterior = POOR.apply({}, given, ("x",), method="posterior")
    candidates = np.stack(
        [
            jm.distributions.sample(posterior, fold(fold(fold(keys, 0), number), 0))
            for number in range(3)
        ]
    )
    near = np.abs(candidates @ MATRIX["y"].T + OFFSET["y"] - found).max(axis=-1) < 1e-5
    assert (near.sum(axis=0) == 1).all()


def test_draws_of_one_row_differ_and_so_do_equal_rows(key):
    given = {"x": np.repeat(BATCH["x"][:1], 5, axis=0)}
    assert len(np.unique(linear(key, given).reshape(15, -1), axis=0)) == 15


def test_fewer_draws_are_the_first_of_more():
    fewer, more = (linear(jax.random.key(3), pick(BATCH, "x"), count) for count in (1, 3))
    np.testing.assert_allclose(fewer, more[:1], rtol=1e-5, atol=1e-6)


def test_a_row_with_its_key_draws_the_same_in_any_batch():
    def draws(rows):
        keys = jax.random.split(jax.random.key(4), 5)[rows]
        return linear(keys, {"x": BATCH["x"][rows], "w": BATCH["w"][rows]})

    order = np.array([3, 0, 4])
    np.testing.assert_allclose(draws(order), draws(np.arange(5))[:, order], rtol=1e-5, atol=1e-6)


def test_several_devices_draw_what_one_does():
    model = zoo.ZOO["jmvae_kl_3"].model
    variables, batch = zoo.variables_of(model), zoo.batch_of(model)
    mask = {"label": jnp.array([True, False, True, True, False])}

    def draws(variables):
        given = pick(batch, "image", "label")
        return jm.generate(
            model,
            variables,
            jax.random.key(5),
            given,
            targets=("sound",),
            num_samples=2,
            num_proposals=6,
            mask=mask,
        )["sound"]

    np.testing.assert_allclose(
        draws(parallel.replicate(variables)), draws(variables), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("fill", [0.0, np.nan])
def test_a_masked_row_is_resampled_by_what_it_has(fill):
    mask = {"w": jnp.array([True, False, True, True, True])}
    values = np.array(BATCH["w"])
    values[1] = fill
    found = linear(jax.random.key(6), {"x": BATCH["x"], "w": values}, mask=mask)
    alone = linear(jax.random.key(6), pick(BATCH, "x"))
    both = linear(jax.random.key(6), pick(BATCH, "x", "w"))
    np.testing.assert_allclose(found[:, 1], alone[:, 1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[:, [0, 2, 3, 4]], both[:, [0, 2, 3, 4]], rtol=1e-5, atol=1e-6)


# What is refused


def test_proposals_that_have_equal_weights_are_refused(key):
    with pytest.raises(ValueError, match=r"num_proposals=4 and given=\[\]: nothing that is given"):
        linear(key, {})
    model = zoo.ZOO["cvae_2"].model
    with pytest.raises(ValueError, match=r"num_proposals=2 and given=\['label'\]"):
        jm.generate(
            model,
            zoo.variables_of(model),
            key,
            pick(zoo.batch_of(model), "label"),
            targets=("image",),
            num_proposals=2,
        )


@pytest.mark.parametrize("number", [0, -1])
def test_no_proposals_are_refused(key, number):
    with pytest.raises(ValueError, match=f"num_proposals={number}: expected at least 1"):
        linear(key, pick(BATCH, "x"), num_proposals=number)


def test_an_unknown_weighting_is_refused(key):
    with pytest.raises(ValueError, match="weighting='evidence': expected one of"):
        linear(key, pick(BATCH, "x"), weighting="evidence")


# Judged images


class Painter(jm.MultimodalModel):
    """The image is z and the label its largest dimension; q(z | label) often misses it."""

    def setup(self):
        pass

    def posterior(self, batch, given=None, mask=None, train=False):
        return jm.distributions.gaussian(batch["label"], jnp.full_like(batch["label"], 1.0))

    def decode(self, z, batch=None, train=False):
        image = z.reshape(*z.shape[:-1], 1, 3, 1)
        return {
            "image": dist.Normal(image, 1.0, validate_args=False).to_event(3),
            "label": jm.distributions.categorical(50 * z),
        }


PAINTER = Painter(
    latent_dim=3,
    modalities={
        "image": jm.Modality((1, 3, 1), "normal"),
        "label": jm.Modality((3,), "categorical"),
    },
)


def reads_largest(images):
    return (images.reshape(images.shape[0], -1),) * 2


def test_resampled_images_show_their_label():
    wanted = np.tile(np.arange(3), 160)

    def share(num_proposals, **options):
        found = judge_from_labels(
            PAINTER,
            {},
            jax.random.key(7),
            reads_largest,
            wanted,
            label="label",
            image="image",
            num_proposals=num_proposals,
            **options,
        )
        return (found.classes == wanted).mean()

    assert share(1) < 0.7
    assert share(20) > 0.98
    assert share(20, weighting="likelihood") > 0.98


def test_a_mean_has_no_proposals(key):
    with pytest.raises(ValueError, match="num_proposals=2 and at_mean=True"):
        judge_from_labels(
            PAINTER,
            {},
            key,
            reads_largest,
            [0],
            label="label",
            image="image",
            at_mean=True,
            num_proposals=2,
        )
