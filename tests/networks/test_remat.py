"""Stages computed anew in the backward pass: the same numbers from less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmvae_jax.networks import ConvDecoder, ConvDiscriminator, ConvEncoder

IMAGES = jax.random.normal(jax.random.key(10), (8, 32, 32, 3))
MANY = jax.random.normal(jax.random.key(11), (32, 16, 16, 3))
VALUES = jax.random.normal(jax.random.key(12), (32, 5))
NETWORKS = {
    "encoder": (ConvEncoder(width=0.25, hidden=None, implementation="native"), (IMAGES, True)),
    "decoder": (
        ConvDecoder((32, 32, 3), width=0.25, implementation="matmul"),
        (VALUES[:8], True),
    ),
    "discriminator": (
        ConvDiscriminator(width=0.25, hidden=8, implementation="native"),
        (MANY, VALUES),
    ),
}


def loss_of(network, variables, inputs):
    """A loss of the parameters, with outputs and new statistics."""
    state = {name: part for name, part in variables.items() if name != "params"}

    def loss(params):
        found = network.apply({**state, "params": params}, *inputs, mutable=["batch_stats"])
        return sum(jnp.sum(jnp.sin(part)) for part in jax.tree.leaves(found[0])), found

    return loss


@pytest.mark.parametrize("name", NETWORKS)
def test_numbers_are_the_same_and_take_less_memory(name, filled):
    network, inputs = NETWORKS[name]
    variables = filled(network, inputs)
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
    assert memory[1] < 0.9 * memory[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_and_statistics_have_the_same_names_and_shapes(name):
    network, inputs = NETWORKS[name]

    def shapes(remat):
        return jax.eval_shape(lambda: network.clone(remat=remat).init(jax.random.key(0), *inputs))

    assert shapes(True) == shapes(False)


def test_parameters_start_from_the_same_values():
    network, inputs = ConvEncoder(width=0.1, hidden=None), (MANY[:1, :8, :8],)
    kept, anew = (
        network.clone(remat=remat).init(jax.random.key(0), *inputs) for remat in (False, True)
    )
    jax.tree.map(np.testing.assert_array_equal, kept, anew)


@pytest.mark.parametrize("implementation", ["native", "matmul"])
@pytest.mark.parametrize(
    ("name", "part"), [("encoder", 0.6), ("decoder", 0.6), ("discriminator", 0.95)]
)
def test_less_is_kept_for_the_backward_pass(name, part, implementation):
    network, inputs = NETWORKS[name]
    network = network.clone(implementation=implementation)
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), *inputs))

    def kept(remat):
        def backward(variables):
            loss = loss_of(network.clone(remat=remat), variables, inputs)
            return jax.vjp(loss, variables["params"], has_aux=True)[1]

        arrays = jax.tree.leaves(jax.eval_shape(backward, variables))
        return sum(array.size * array.dtype.itemsize for array in arrays)

    assert kept(True) < part * kept(False)


def test_statistics_of_shards_are_those_of_the_batch_and_move_once(filled):
    network, images = ConvEncoder(width=0.1, hidden=None), MANY[:8]
    variables = filled(network, (images, True))

    def step(images, **options):
        loss = loss_of(network.clone(**options), variables, (images, True))
        return jax.grad(loss, has_aux=True)(variables["params"])

    def over_shards(images):
        shards = images.reshape(2, 4, 16, 16, 3)
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
