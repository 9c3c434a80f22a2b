"""Statistics are those of the global batch: one device and four learn the same."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import zoo

import jmvae_jax as jm
from jmvae_jax import parallel, training

ROWS = 8


def after_a_step(count, strategy):
    devices = parallel.DataParallel(tuple(jax.devices()[:count]), strategy)
    model, stored = zoo.pictured_jmvae(parallel.AXIS), zoo.pictured_batch(ROWS)
    optimizer = optax.adam(1e-3, eps=1e-4)
    state = training.create_state(jax.jit(model.init)(jax.random.key(1), stored), optimizer)
    step = training.make_train_step(
        training.plain_update(jm.make_loss_fn(model, jm.jmvae_kl), optimizer, parallel.AXIS),
        key=jax.random.key(2),
        batch_size=ROWS,
        transforms=dict.fromkeys(stored, lambda keys, values: values),
        weights={"alpha": lambda step: jnp.asarray(0.1), "beta": lambda step: jnp.asarray(1.0)},
        learning_rate=lambda step: jnp.asarray(1e-3),
        axis_name=parallel.AXIS,
    )

    def sharded(state, stored):
        rows = parallel.positions(ROWS, parallel.AXIS)
        return step(state, {name: values[rows] for name, values in stored.items()})

    return devices.fetch(devices.compile(sharded)(*devices.place((state, stored)))[0])


@pytest.fixture(scope="module")
def alone():
    return after_a_step(1, "jit")


@pytest.mark.parametrize("strategy", ["jit", pytest.param("pmap", marks=pytest.mark.slow)])
def test_a_step_on_four_devices_is_that_on_one(alone, strategy):
    together = after_a_step(4, strategy)
    for part in ("params", "model_state"):
        found, expected = (jax.tree.leaves(getattr(state, part)) for state in (together, alone))
        for a, b in zip(found, expected, strict=True):
            apart = np.linalg.norm(np.asarray(a) - np.asarray(b))
            assert apart <= 1e-4 * np.linalg.norm(np.asarray(b)) + 1e-7


def test_a_step_moves_the_statistics_and_evaluation_does_not(alone):
    model, stored = zoo.pictured_jmvae(None), zoo.pictured_batch(ROWS)
    variables = alone.variables
    assert set(variables) == {"params", "batch_stats"}
    start = jax.jit(model.init)(jax.random.key(1), stored)["batch_stats"]
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), start, variables["batch_stats"])
    assert all(jax.tree.leaves(moved))
    loss_fn = jax.jit(jm.make_loss_fn(model, jm.jmvae_kl), static_argnames="train")
    weights = {"alpha": 0.1, "beta": 1.0}
    key = jax.random.key(3)
    state = {"batch_stats": variables["batch_stats"]}
    _, (bound, kept) = loss_fn(
        variables["params"], state, key, stored, weights=weights, train=False
    )
    jax.tree.map(np.testing.assert_array_equal, kept, state)
    first = {name: values[:1] for name, values in stored.items()}
    keys = jm.distributions.example_keys(jax.random.key(3), jnp.arange(1))
    _, (one, _) = loss_fn(variables["params"], state, keys, first, weights=weights, train=False)
    np.testing.assert_allclose(one.loss, bound.loss[:1], rtol=1e-4)


def test_batch_norm_cannot_leave_rows_out(alone):
    model, stored = zoo.pictured_jmvae(None), zoo.pictured_batch(ROWS)
    statistics = {"batch_stats": alone.variables["batch_stats"]}
    with pytest.raises(ValueError, match="example_weight: batch norm counts every row"):
        jm.make_loss_fn(model, jm.jmvae_kl)(
            alone.variables["params"],
            statistics,
            jax.random.key(3),
            stored,
            weights={},
            example_weight=jnp.ones(ROWS),
        )
