"""The estimators of a model with a label against integrals over a grid of z."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from scipy.special import logsumexp

import jmvae_jax as jm
from jmvae_jax.evaluation import Query, estimate

PRIOR_DRAWS = 5000  # N of (2) in the likelihood module, written down apart from it
SIGMAS = 5.0
ROUNDING = 1e-4


# A discrete modality: quadrature over z


@pytest.fixture(scope="module")
def discrete():
    """A model of image and label, with its densities integrated over a grid of z."""
    model = zoo.ZOO["jmvae_kl_2"].model
    batch = zoo.batch_of(model, rows=6)
    variables = zoo.variables_of(model)
    # Likelihoods that depend on z; the encoders stay broad.
    params = {
        name: jax.tree.map(lambda x, name=name: x * (2.5 if "decoders" in name else 1.0), value)
        for name, value in variables["params"].items()
    }
    variables = {"params": params}
    line = np.linspace(-7, 7, 141)
    z = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    log_prior = -0.5 * np.square(z).sum(-1) - np.log(2 * np.pi) + 2 * np.log(line[1] - line[0])
    likelihoods = model.apply(variables, jnp.asarray(z, jnp.float32), method="decode")
    log_class = np.stack(
        [np.asarray(likelihoods["label"].log_prob(row), np.float64) for row in jnp.eye(3)], axis=1
    )
    log_image = np.stack(
        [np.asarray(likelihoods["image"].log_prob(row), np.float64) for row in batch["image"]],
        axis=1,
    )
    log_label = log_class[:, np.asarray(batch["label"]).argmax(-1)]

    def integral(log_density):
        return logsumexp(log_prior[:, None] + log_density, axis=0)

    np.testing.assert_allclose(integral(np.zeros((len(z), 1))), 0.0, atol=1e-6)
    return types.SimpleNamespace(
        model=model,
        variables=variables,
        batch=batch,
        log_p_class=integral(log_class),
        class_moments=np.exp(log_prior[:, None] + log_class).T @ np.exp(log_class),
        truth={
            Query(("image", "label")): integral(log_image + log_label),
            Query(("label",)): integral(log_label),
            Query(("image",), ("label",)): integral(log_image + log_label) - integral(log_label),
            Query(("label",), ("image",)): integral(log_image + log_label) - integral(log_image),
            Query(("image",), ("label",), ("image",)): integral(log_image + log_label)
            - integral(log_label),
            Query(("image",)): integral(log_image),
        },
    )


COPIES = 200


@pytest.fixture(scope="module")
def discrete_found(discrete):
    """Estimates of each query for six rows, and for many copies of the first."""
    rows = np.concatenate([np.arange(6), np.zeros(COPIES, int)])
    batch = {name: value[rows] for name, value in discrete.batch.items()}
    args = (discrete.model, discrete.variables, jax.random.key(9), batch)
    queries = list(discrete.truth)
    found = estimate(*args, queries, 1000, chunk_rows=20_000)
    return dict(zip(queries, found, strict=True))


def whole_variance(found):
    """Monte-Carlo variance of each row, the shared part included."""
    variance = np.asarray(found.mc_variance, np.float64)
    if found.given_covariance is None:
        return variance
    rows, shared = np.asarray(found.given_rows), np.asarray(found.given_covariance)
    return variance + np.einsum("bi,ij,bj->b", rows, shared, rows)


def test_the_three_estimators_agree_with_quadrature(discrete, discrete_found):
    names = [query.estimator(discrete.model) for query in discrete.truth]
    assert names == ["importance", "importance", "prior", "ratio", "prior", "importance"]
    for query, found in discrete_found.items():
        found = found.rows(6)
        variance = whole_variance(found)
        assert variance.max() < 0.3**2, query
        off = np.asarray(found.value, np.float64) - discrete.truth[query]
        assert (np.abs(off) < SIGMAS * np.sqrt(variance) + ROUNDING).all(), (query, off)


def test_variance_is_that_of_repeats_for_each_estimator(discrete_found):
    for query, found in discrete_found.items():
        # The table of the prior estimator is the same for all: no part of this spread.
        empirical = np.asarray(found.value, np.float64)[6:].var(ddof=1)
        assert 0.5 < np.asarray(found.mc_variance)[6:].mean() / empirical < 2.0, query


def test_log_p_of_each_class_and_its_covariance_agree_with_quadrature(discrete, discrete_found):
    joint = discrete_found[Query(("image", "label"))].rows(6)
    conditional = discrete_found[Query(("image",), ("label",))].rows(6)
    # One proposal and its draws: all that differs is the table of classes.
    table = np.asarray(joint.value - conditional.value, np.float64)
    classes = np.asarray(discrete.batch["label"]).argmax(-1)
    assert set(classes) == {0, 1, 2}
    p = np.exp(discrete.log_p_class)
    covariance = (discrete.class_moments / np.outer(p, p) - 1.0) / PRIOR_DRAWS
    error = np.sqrt(np.diag(covariance))[classes]
    assert error.min() > 1e-3
    assert error.max() < 0.05
    off = np.abs(table - discrete.log_p_class[classes])
    assert (off < SIGMAS * error + ROUNDING).all()
    largest = np.abs(covariance).max()
    np.testing.assert_allclose(
        conditional.given_covariance, covariance, rtol=0.15, atol=0.05 * largest
    )
    np.testing.assert_array_equal(conditional.given_rows, discrete.batch["label"])
    assert joint.given_rows is None
    assert joint.given_covariance is None


def test_joint_is_label_plus_image_given_label_between_our_estimators(discrete_found):
    label = discrete_found[Query(("label",))]
    image = discrete_found[Query(("image",), ("label",))]
    joint = discrete_found[Query(("image", "label"))]
    # The draws of joint and conditional are the same: what is left is the error of log p(w).
    variance = label.mc_variance + whole_variance(image) - image.mc_variance
    off = np.asarray(label.value + image.value - joint.value)
    assert (np.abs(off) < SIGMAS * np.sqrt(variance) + ROUNDING).all()


def test_a_mask_leaves_the_given_label_out_of_the_prior_estimator(discrete, discrete_found):
    conditional = Query(("image",), ("label",), ("image",))
    both = discrete_found[conditional].rows(6)
    alone = discrete_found[Query(("image",))].rows(6)
    there = np.array([True, False, True, False, True, False])
    label = jnp.where(there[:, None], discrete.batch["label"], jnp.nan)
    (masked,) = estimate(
        discrete.model,
        discrete.variables,
        jax.random.key(9),
        discrete.batch | {"label": label},
        [conditional],
        1000,
        {"label": there},
    )
    assert (np.abs(np.asarray(both.value - alone.value)) > 10 * ROUNDING).all()
    expected = np.where(there, both.value, alone.value)
    np.testing.assert_allclose(masked.value, expected, atol=ROUNDING)
    rows = np.where(there[:, None], discrete.batch["label"], 0.0)
    np.testing.assert_array_equal(masked.given_rows, rows)


def test_a_label_given_an_image_has_probabilities_that_sum_to_one(discrete):
    total = 0.0
    for number in range(3):
        batch = discrete.batch | {"label": jnp.eye(3)[jnp.full(6, number)]}
        found = jm.log_likelihood(
            discrete.model,
            discrete.variables,
            jax.random.key(10),
            batch,
            target=("label",),
            given=("image",),
            proposal=("image",),
            num_samples=20,
        )
        assert (np.asarray(found) <= 1e-6).all()
        total = total + np.exp(np.asarray(found, np.float64))
    np.testing.assert_allclose(total, 1.0, atol=1e-5)
