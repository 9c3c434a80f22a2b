"""Stages computed anew in the backward pass: the same numbers from less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmvae_jax.networks import ConvDecoder, ConvDiscriminator, ConvEncoder

SIZE = 16
IMAGES = jax.random.normal(jax.random.key(10), (32, SIZE, SIZE, 3))
VALUES = jax.random.normal(jax.random.key(11), (32, 5))
NETWORKS = {
    "encoder": (ConvEncoder(width=0.25, hidden=None, implementation="matmul"), (IMAGES, True)),
    "decoder": (ConvDecoder((SIZE, SIZE, 3), width=0.25, implementation="native"), (VALUES, True)),
    "discriminator": (
        ConvDiscriminator(width=0.25, hidden=8, implementation="native"),
        (IMAGES, VALUES),
    ),
}


def initial(network, inputs):
    return jax.jit(lambda: network.init(jax.random.key(0), *inputs))()


def loss_of(network, variables, inputs):
    """A loss of the parameters, with outputs and new statistics."""
    state = {name: part for name, part in variables.items() if name != "params"}

    def loss(params):
        found = network.apply({**state, "params": params}, *inputs, mutable=["batch_stats"])
        return sum(jnp.sum(jnp.sin(part)) for part in jax.tree.leaves(found[0])), found

    return loss


@pytest.mark.parametrize("name", NETWORKS)
def test_numbers_are_the_same_and_take_less_memory(name):
    network, inputs = NETWORKS[name]
    variables = initial(network, inputs)
    found, memory = [], []
    for remat in (False, True):
        loss = loss_of(network.clone(remat=remat), variables, inputs)
        step = jax.jit(jax.grad(loss, has_aux=True)).lower(variables["params"])
        # On a CPU, XLA drops the barriers early and then merges what is computed twice.
        compiled = step.compile(compiler_options={"xla_disable_hlo_passes": "cse_barrier_expander"})
        found.append(compiled(variables["params"]))
        memory.append(compiled.memory_analysis().temp_size_in_bytes)
    for kept, anew in zip(*map(jax.tree.leaves, found), strict=True):
        scale = float(jnp.abs(kept).max())
        np.testing.assert_allclose(anew, kept, rtol=1e-6, atol=1e-6 * scale)
    assert memory[1] < 0.9 * memory[0], memory


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_and_statistics_are_the_same(name):
    network, inputs = NETWORKS[name]
    variables, others = (initial(network.clone(remat=remat), inputs) for remat in (False, True))
    assert jax.tree.structure(variables) == jax.tree.structure(others)
    jax.tree.map(np.testing.assert_array_equal, variables, others)


@pytest.mark.parametrize("implementation", ["native", "matmul"])
@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_less_is_kept_for_the_backward_pass(name, implementation):
    network, inputs = NETWORKS[name]
    network = network.clone(implementation=implementation)
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), *inputs))

    def kept(remat):
        def backward(variables):
            loss = loss_of(network.clone(remat=remat), variables, inputs)
            return jax.vjp(loss, variables["params"], has_aux=True)[1]

        return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(backward, variables)))

    assert kept(True) < 0.55 * kept(False)


def test_statistics_of_shards_are_those_of_the_batch_and_move_once():
    network, images = ConvEncoder(width=0.1, hidden=None), IMAGES[:8]
    variables = initial(network, (images, True))

    def step(images, **options):
        loss = loss_of(network.clone(**options), variables, (images, True))
        return jax.grad(loss, has_aux=True)(variables["params"])

    def over_shards(images):
        shards = images.reshape(2, 4, SIZE, SIZE, 3)
        own = jax.vmap(lambda part: step(part, axis_name="shards", remat=True), axis_name="shards")
        grads, (outputs, updated) = own(shards)
        return jax.tree.map(lambda both: both.sum(0), grads), outputs.reshape(8, -1), updated

    grads, outputs, updated = jax.jit(over_shards)(images)
    expected_grads, (expected, moved) = jax.jit(step)(images)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    for both, one in zip(*map(jax.tree.leaves, (updated, moved)), strict=True):
        np.testing.assert_allclose(both, np.stack([one, one]), rtol=1e-4, atol=1e-6)
    for found, one in zip(*map(jax.tree.leaves, (grads, expected_grads)), strict=True):
        np.testing.assert_allclose(found, one, rtol=1e-3, atol=1e-3)
