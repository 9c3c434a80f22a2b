import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmvae_jax import parallel


@pytest.mark.parametrize("strategy", ["jit", "pmap"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_every_strategy_sees_the_same_global_batch(strategy, count):
    devices = parallel.DataParallel(tuple(jax.devices()[:count]), strategy)
    values = jnp.arange(8.0)

    def step(total, values):
        rows = parallel.positions(8, devices.axis_name)
        part = devices.shard(values[rows])
        return total + parallel.mean(jnp.mean(part * rows), devices.axis_name)

    placed = devices.place((jnp.zeros(()), values))
    found = devices.fetch(devices.compile(step)(*placed))
    np.testing.assert_allclose(found, np.mean(np.arange(8.0) ** 2))


@pytest.mark.parametrize("strategy", ["jit", "pmap"])
def test_what_is_placed_comes_back(strategy):
    devices = parallel.DataParallel(tuple(jax.devices()), strategy)
    tree = {"a": jnp.arange(3), "b": {"c": jnp.ones(())}}
    back = devices.fetch(devices.place(tree))
    jax.tree.map(np.testing.assert_array_equal, back, tree)


def test_as_many_devices_as_divide_the_batch_are_used():
    assert len(parallel.data_parallel(8).devices) == 4
    with pytest.warns(UserWarning, match=r"3 of 4 devices: a batch of 8 or 12"):
        assert len(parallel.data_parallel(9).devices) == 3


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="strategy='magic'"):
        parallel.DataParallel(tuple(jax.devices()), "magic")
    with pytest.raises(ValueError, match="devices is empty"):
        parallel.DataParallel(())
