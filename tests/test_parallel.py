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
        rows = parallel.positions(8, parallel.AXIS)
        part = values[rows]
        return total + parallel.mean(jnp.mean(part * rows), parallel.AXIS)

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
    assert len(parallel.data_parallel(8).devices) == 8
    with pytest.warns(UserWarning, match=r"5 of 8 devices: a batch of 8 or 16"):
        assert len(parallel.data_parallel(10).devices) == 5


def test_a_number_of_devices_that_was_asked_for_has_to_divide_the_batch():
    assert len(parallel.data_parallel(8, num_devices=2).devices) == 2
    with pytest.raises(ValueError, match=r"batch_size=100 .* 8 devices: expected 96 or 104"):
        parallel.data_parallel(100, num_devices=8)
    with pytest.raises(ValueError, match="num_devices=9: expected between 1 and the 8 there are"):
        parallel.data_parallel(9, num_devices=9)


def test_parts_of_a_batch_are_shared_as_well():
    assert len(parallel.data_parallel(16, parts=2).devices) == 8
    with pytest.warns(UserWarning, match=r"4 of 8 devices, 2 parts each: a batch of 16 would"):
        assert len(parallel.data_parallel(8, parts=2).devices) == 4
    with pytest.raises(ValueError, match="batch_size=9 is not shared evenly by 8 devices, 2 parts"):
        parallel.data_parallel(9, parts=2)


def doubled(variables, rows, *, plus):
    return {"found": rows["x"] * variables + plus}


@pytest.mark.parametrize("count", [1, 8, 11])
def test_rows_follow_their_variables_to_many_devices(count):
    compiled = parallel.by_rows(doubled)
    rows = {"x": np.arange(3.0 * count).reshape(count, 3)}
    here = compiled(jnp.asarray(2.0), rows, plus=1)["found"]
    there = compiled(parallel.replicate(jnp.asarray(2.0)), rows, plus=1)["found"]
    np.testing.assert_array_equal(here, 2 * rows["x"] + 1)
    np.testing.assert_array_equal(here, there)
    assert len(there.devices()) == 1


def test_a_function_by_rows_can_be_part_of_a_larger_program():
    compiled = jax.jit(lambda v, x: parallel.by_rows(doubled)(v, {"x": x}, plus=0))
    assert compiled(jnp.asarray(3.0), jnp.ones(5))["found"].shape == (5,)


def test_rows_are_multiplied_in_full_float32():
    """An accelerator's default rounds the operands, and each kind of accelerator otherwise."""
    traced = []

    @parallel.by_rows
    def product(variables, rows):
        traced.append(str(jax.make_jaxpr(jnp.dot)(rows, variables)))
        return rows @ variables

    product(jnp.ones((3, 2)), jnp.ones((4, 3)))
    assert "HIGHEST" in traced[0]
    assert "HIGHEST" not in str(jax.make_jaxpr(jnp.dot)(jnp.ones((4, 3)), jnp.ones((3, 2))))


def test_alone_a_process_agrees_with_itself():
    vote = parallel.Vote()
    assert [vote(number) for number in (0, 15, 0)] == [0, 15, 0]
    assert parallel.is_first()
    assert parallel.tell(7) == 7
    parallel.meet("here")


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="strategy='magic'"):
        parallel.DataParallel(tuple(jax.devices()), "magic")
    with pytest.raises(ValueError, match="devices is empty"):
        parallel.DataParallel(())
