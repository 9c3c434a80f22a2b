"""Draws and predictions: shapes, keys, support and moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from linear_gaussian import (
    MATRIX,
    NAMES,
    OFFSET,
    SCALE,
    draw_batch,
    linear_gaussian,
    posterior_of,
)

import jmvae_jax as jm

MODEL = zoo.ZOO["jmvae_kl_2"].model
NUM_DRAWS = 4000


@pytest.fixture(scope="module")
def variables():
    return zoo.variables_of(MODEL)


@pytest.fixture(scope="module")
def batch():
    return zoo.batch_of(MODEL)


def pick(batch, *names):
    return {name: batch[name] for name in names}


def linear(keys, given, num_samples=3, draw=True):
    """Draws of y from a linear-Gaussian model, as NumPy."""
    found = jm.generate(
        linear_gaussian(), {}, keys, given, targets=("y",), num_samples=num_samples, draw=draw
    )
    return np.asarray(found["y"])


LINEAR = draw_batch(linear_gaussian(), 5)


@pytest.mark.parametrize(
    ("given", "draw"), [((), True), (("label",), False), (("label", "image"), True)]
)
def test_shapes_are_draws_then_rows_then_values(variables, batch, key, given, draw):
    targets = ("image", "label")
    found = jm.generate(
        MODEL, variables, key, pick(batch, *given), targets=targets, num_samples=3, draw=draw
    )
    rows = (zoo.ROWS,) if given else ()
    assert {name: value.shape for name, value in found.items()} == {
        "image": (3, *rows, 4, 4, 1),
        "label": (3, *rows, 3),
    }
    assert all(np.isfinite(value).all() for value in found.values())


def test_the_same_key_gives_the_same_draws_and_another_key_others():
    given = pick(LINEAR, "x")
    one, again, other = (linear(jax.random.key(seed), given) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).all()


@pytest.mark.parametrize("draw", [False, True])
def test_draws_of_one_row_differ_and_so_do_equal_rows(key, draw):
    given = {"x": np.repeat(LINEAR["x"][:1], 5, axis=0)}
    found = linear(key, given, draw=draw)
    assert len(np.unique(found.reshape(15, -1), axis=0)) == 15


def test_fewer_draws_are_the_first_of_more():
    given = pick(LINEAR, "x")
    fewer, more = (linear(jax.random.key(3), given, number) for number in (1, 3))
    np.testing.assert_allclose(fewer, more[:1], rtol=1e-5, atol=1e-6)


def test_a_row_with_its_key_draws_the_same_in_any_batch():
    def draws(rows):
        keys = jax.random.split(jax.random.key(4), 5)[rows]
        return linear(keys, {"x": LINEAR["x"][rows], "w": LINEAR["w"][rows]})

    order = np.array([3, 0, 4])
    np.testing.assert_allclose(draws(order), draws(np.arange(5))[:, order], rtol=1e-5, atol=1e-6)


def test_draws_from_the_prior_take_one_key_each():
    def keys():
        return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(5), jnp.arange(3))

    whole = linear(keys(), {})
    np.testing.assert_array_equal(whole, linear(jax.random.key(5), {}))
    np.testing.assert_allclose(linear(keys()[2:], {}, 1), whole[2:], rtol=1e-5, atol=1e-6)


def test_drawn_values_lie_in_their_support_and_have_the_mean_of_means(variables, batch):
    def generate(draw):
        return jm.generate(
            MODEL,
            variables,
            jax.random.key(6),
            {"image": batch["image"][:2]},
            targets=("image", "label"),
            num_samples=NUM_DRAWS,
            draw=draw,
        )

    means, drawn = generate(False), generate(True)
    assert set(np.unique(drawn["image"])) == {0.0, 1.0}
    assert set(np.unique(drawn["label"])) == {0.0, 1.0}
    np.testing.assert_array_equal(np.asarray(drawn["label"]).sum(-1), 1.0)
    np.testing.assert_allclose(np.asarray(means["label"]).sum(-1), 1.0, rtol=1e-5)
    for name in drawn:
        # The same z under both: what is left is the noise of p(target | z).
        p = np.asarray(means[name], np.float64)
        error = np.sqrt((p * (1 - p)).sum(0)) / NUM_DRAWS
        off = np.asarray(drawn[name], np.float64).mean(0) - p.mean(0)
        assert (np.abs(off) < 5 * error).all()
        assert error.max() < 0.01


@pytest.mark.parametrize(("given", "draw"), [((), False), (("w", "y"), False), (("w", "x"), True)])
def test_moments_of_draws_have_their_closed_form(key, given, draw):
    model = linear_gaussian()
    one = {name: LINEAR[name][:1] for name in given}
    found = linear(key, one, NUM_DRAWS, draw).astype(np.float64).reshape(NUM_DRAWS, -1)
    mean, deviation = posterior_of(model, LINEAR, given)
    covariance = MATRIX["y"] * deviation**2 @ MATRIX["y"].T
    covariance += draw * SCALE["y"] ** 2 * np.eye(len(covariance))
    variance = np.diag(covariance)
    off = found.mean(0) - (mean[0] @ MATRIX["y"].T + OFFSET["y"])
    assert (np.abs(off) < 5 * np.sqrt(variance / NUM_DRAWS)).all()
    spread = np.sqrt((np.outer(variance, variance) + covariance**2) / NUM_DRAWS)
    assert (np.abs(np.cov(found.T) - covariance) < 5 * spread).all()


@pytest.mark.parametrize("given", [("image",), ("label", "image")])
def test_a_prediction_is_decoded_from_the_posterior_mean(variables, batch, given):
    found = jm.predict(MODEL, variables, pick(batch, *given), targets=("label", "image"))
    q = MODEL.apply(variables, pick(batch, *given), given, method="posterior")
    likelihoods = MODEL.apply(variables, q.mean, method="decode")
    assert set(found) == {"label", "image"}
    for name, value in found.items():
        np.testing.assert_allclose(value, likelihoods[name].mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.asarray(found["label"]).sum(-1), 1.0, rtol=1e-5)


def test_a_prediction_of_the_linear_model_has_its_closed_form():
    model = linear_gaussian()
    batch = draw_batch(model, 4)
    found = jm.predict(model, {}, pick(batch, "x", "w"), targets=NAMES)
    mean, _ = posterior_of(model, batch, ("x", "w"))
    for name in NAMES:
        expected = mean @ MATRIX[name].T + OFFSET[name]
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-5)


ERRORS = [
    ({"targets": ("smell",)}, r"targets names \['smell'\]"),
    ({"targets": "image"}, "targets='image' is a string"),
    ({"given": {"smell": np.zeros((5, 3))}}, r"given names \['smell'\]"),
    ({"given": {"label": np.zeros((5, 3))}}, r"batch\['label'\].*one-hot"),
    ({"given": {"label": np.eye(4)}}, r"batch\['label'\] has shape"),
    ({"given": {"image": np.full((5, 4, 4, 1), np.inf)}}, r"batch\['image'\].*not finite"),
    ({"given": {"label": np.eye(3), "image": np.zeros((5, 4, 4, 1))}}, "numbers of rows"),
]


@pytest.mark.parametrize(("bad", "words"), ERRORS)
def test_a_bad_argument_is_named(variables, batch, key, bad, words):
    arguments = {"given": pick(batch, "label"), "targets": ("image",)} | bad
    given = arguments.pop("given")
    with pytest.raises(ValueError, match=words):
        jm.generate(MODEL, variables, key, given, **arguments)
    with pytest.raises(ValueError, match=words):
        jm.predict(MODEL, variables, given, **arguments)


def test_a_weighting_of_one_proposal_is_refused(variables, batch, key):
    with pytest.raises(
        ValueError, match="weighting='likelihood' and num_proposals=1: one proposal"
    ):
        jm.generate(MODEL, variables, key, batch, targets=("image",), weighting="likelihood")


def test_a_mask_of_nothing_is_refused(variables, key):
    there = {"label": np.ones(5, bool)}
    with pytest.raises(ValueError, match=r"mask names \['label'\], and nothing is given"):
        jm.generate(MODEL, variables, key, {}, targets=("image",), mask=there)


@pytest.mark.parametrize("number", [0, -1])
def test_no_draws_are_refused(variables, batch, key, number):
    with pytest.raises(ValueError, match=f"num_samples={number}"):
        jm.generate(MODEL, variables, key, batch, targets=("image",), num_samples=number)


@pytest.mark.parametrize(("given", "number"), [(("label",), 1), ((), 4)])
def test_keys_of_another_shape_are_refused(variables, batch, given, number):
    keys = jax.random.split(jax.random.key(8), 3)
    with pytest.raises(ValueError, match=r"key has shape \(3,\)"):
        jm.generate(
            MODEL, variables, keys, pick(batch, *given), targets=("image",), num_samples=number
        )


def test_a_prediction_from_nothing_is_refused(variables):
    with pytest.raises(ValueError, match="given is empty"):
        jm.predict(MODEL, variables, {}, targets=("image",))


@pytest.mark.parametrize("fill", [0.0, jnp.nan])
def test_rows_that_lack_what_is_given_infer_from_the_rest(fill):
    model = zoo.ZOO["jmvae_kl_3"].model
    variables, batch = zoo.variables_of(model), zoo.batch_of(model)
    given = {name: batch[name] for name in ("image", "label")}
    mask = {"label": jnp.array([True, False, True, True, True])}
    given["label"] = given["label"].at[1].set(fill)
    found = jm.predict(model, variables, given, targets=("sound",), mask=mask)["sound"]
    alone = jm.predict(model, variables, {"image": batch["image"]}, targets=("sound",))["sound"]
    both = jm.predict(model, variables, {**given, "label": batch["label"]}, targets=("sound",))
    np.testing.assert_allclose(found[1], alone[1], rtol=1e-5)
    np.testing.assert_allclose(found[0], both["sound"][0], rtol=1e-5)
    drawn = jm.generate(
        model, variables, jax.random.key(0), given, targets=("sound",), num_samples=3, mask=mask
    )["sound"]
    assert jnp.isfinite(drawn).all()
