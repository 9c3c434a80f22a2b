import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo

import jmvae_jax as jm
from jmvae_jax.distributions import example_keys

NAME = "jmvae_kl_2"
ENTRY = zoo.ZOO[NAME]
BATCH = zoo.batch_of(ENTRY.model)
LOSS_FN = jm.make_loss_fn(ENTRY.model, ENTRY.objective)
GRADIENT = jax.jit(jax.value_and_grad(LOSS_FN, has_aux=True))


@pytest.fixture(scope="module")
def params():
    return zoo.variables_of(ENTRY.model)["params"]


def row_keys(rows=zoo.ROWS):
    return example_keys(jax.random.key(3), jnp.arange(rows))


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["vae", "jmvae_kl_3"])
def test_the_scalar_is_the_mean_of_the_objectives_loss(name):
    entry = zoo.ZOO[name]
    variables, batch = zoo.variables_of(entry.model), zoo.batch_of(entry.model)
    mask = {"image": jnp.array([True, False, True, True, False])}
    loss_fn = jm.make_loss_fn(entry.model, entry.objective)
    loss, (bound, state) = loss_fn(
        variables["params"], {}, jax.random.key(3), batch, weights=entry.weights, mask=mask
    )
    expected = entry.objective(
        entry.model, variables, jax.random.key(3), batch, mask=mask, **entry.weights
    )
    assert loss.shape == ()
    assert state == {}
    close(loss, np.mean(expected.loss))
    jax.tree.map(close, bound, expected)


def test_weights_may_be_traced_and_reach_the_objective(params):
    def loss(weights):
        return LOSS_FN(params, {}, jax.random.key(3), BATCH, weights=weights)[0]

    slopes = jax.jit(jax.grad(loss))({"alpha": 0.1, "beta": 0.5})
    _, (bound, _) = LOSS_FN(params, {}, jax.random.key(3), BATCH, weights=ENTRY.weights)
    close(slopes["beta"], np.mean(bound.rate))
    close(slopes["alpha"], np.mean(sum(map(np.asarray, bound.alignment.values()))))


def test_a_weight_that_the_objective_lacks_is_refused(params, key):
    with pytest.raises(TypeError, match="alhpa"):
        LOSS_FN(params, {}, key, BATCH, weights={"alhpa": 3.0})


def test_compiled_loss_and_gradient_are_the_uncompiled_ones(params):
    arguments = (params, {}), {"weights": ENTRY.weights}
    (found, _), gradients = GRADIENT(*arguments[0], row_keys(), BATCH, **arguments[1])
    uncompiled = jax.value_and_grad(LOSS_FN, has_aux=True)
    (loss, _), expected = uncompiled(*arguments[0], row_keys(), BATCH, **arguments[1])
    close(found, loss)
    jax.tree.map(close, gradients, expected)


def test_the_loss_maps_over_keys(params):
    keys = jax.random.split(jax.random.key(4), 3)
    words = jax.random.key_data(keys)

    def loss(key):
        return LOSS_FN(params, {}, key, BATCH, weights=ENTRY.weights)[0]

    losses = jax.vmap(loss)(keys)
    assert losses.shape == (3,)
    close(losses[1], loss(jax.random.wrap_key_data(words[1])))
    assert len(np.unique(losses)) == 3


def test_the_gradient_is_the_slope_of_the_scalar(params):
    (_, _), gradients = GRADIENT(params, {}, row_keys(), BATCH, weights=ENTRY.weights)
    norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(gradients)))
    step = 1e-2 / norm

    def moved(sign):
        there = jax.tree.map(lambda p, g: p + sign * step * g, params, gradients)
        return GRADIENT(there, {}, row_keys(), BATCH, weights=ENTRY.weights)[0][0]

    slope = (moved(1.0) - moved(-1.0)) / (2 * step)
    np.testing.assert_allclose(slope, norm**2, rtol=0.02)


def padded(batch, fill, rows=2):
    def pad(values):
        return jnp.concatenate([values, jnp.full((rows, *values.shape[1:]), fill)])

    return {name: pad(values) for name, values in batch.items()}


PADDING = jnp.array([1.0] * zoo.ROWS + [0.0] * 2)


@pytest.mark.parametrize(
    "fill",
    [
        0.0,
        pytest.param(1e6, id="large"),
        jnp.nan,
    ],
)
def test_rows_of_weight_zero_count_neither_in_the_loss_nor_in_the_gradient(fill, params):
    (loss, _), expected = GRADIENT(params, {}, row_keys(), BATCH, weights=ENTRY.weights)
    keys = row_keys(zoo.ROWS + 2)
    (found, _), gradients = GRADIENT(
        params, {}, keys, padded(BATCH, fill), weights=ENTRY.weights, example_weight=PADDING
    )
    close(found, loss)
    jax.tree.map(close, gradients, expected)


def test_rows_of_weight_zero_that_hold_nan_leave_the_loss_as_it_is(params):
    (loss, _), _ = GRADIENT(params, {}, row_keys(), BATCH, weights=ENTRY.weights)
    (found, _), _ = GRADIENT(
        params,
        {},
        row_keys(zoo.ROWS + 2),
        padded(BATCH, jnp.nan),
        weights=ENTRY.weights,
        example_weight=PADDING,
    )
    close(found, loss)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_mask_of_an_unknown_modality_is_refused(params, key, weighted):
    weight = jnp.ones(zoo.ROWS) if weighted else None
    mask = {"smell": jnp.ones(zoo.ROWS, bool)}
    with pytest.raises(ValueError, match=r"mask names \['smell'\]"):
        LOSS_FN(params, {}, key, BATCH, weights=ENTRY.weights, mask=mask, example_weight=weight)


def test_a_batch_without_a_row_that_counts_is_refused(params, key):
    weight = jnp.zeros(zoo.ROWS)
    with pytest.raises(ValueError, match="example_weight: no row has a weight above 0"):
        LOSS_FN(params, {}, key, BATCH, weights=ENTRY.weights, example_weight=weight)


def test_a_weight_counts_its_row_that_often(params, key):
    weight = jnp.array([2.0, 1.0, 0.0, 0.5, 3.0])
    loss, (bound, _) = LOSS_FN(params, {}, key, BATCH, weights=ENTRY.weights, example_weight=weight)
    close(loss, np.average(bound.loss, weights=weight))
