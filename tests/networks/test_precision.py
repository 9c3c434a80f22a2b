"""bfloat16: what is computed is rounded; parameters, statistics and gradients are float32."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jmvae_jax as jm
from jmvae_jax.networks import ConvDecoder, ConvDiscriminator, ConvEncoder, Heads, Norm
from jmvae_jax.networks.strided import DoublingConv, HalvingConv

HALF = jnp.bfloat16
LAYERS = (nn.Dense, HalvingConv, DoublingConv, Norm)
VALUES = jax.random.normal(jax.random.key(10), (4, 5))
IMAGES = jax.random.normal(jax.random.key(11), (4, 16, 16, 3))
BODIES = {
    "mlp": (jm.MLP((8, 6), norm="batch"), (VALUES, True)),
    "encoder": (ConvEncoder(width=0.1, hidden=60, implementation="native"), (IMAGES, True)),
    "decoder": (
        ConvDecoder((16, 16, 3), width=0.1, norm="group", implementation="matmul"),
        (VALUES, True),
    ),
    "discriminator": (
        ConvDiscriminator(width=0.1, hidden=60, implementation="matmul"),
        (IMAGES, VALUES),
    ),
}


def dtypes(tree):
    return {leaf.dtype.name for leaf in jax.tree.leaves(tree)}


def rounded(array):
    return np.asarray(jnp.asarray(array).astype(HALF).astype(jnp.float32))


def assert_near(found, expected, within):
    """Different, by a small part of what was expected."""
    found, expected = (
        np.concatenate([np.ravel(leaf).astype(np.float32) for leaf in jax.tree.leaves(tree)])
        for tree in (found, expected)
    )
    assert 0 < np.linalg.norm(found - expected) < within * np.linalg.norm(expected)


def gradient(body, inputs):
    """The compiled gradient of a loss by the variables, with outputs and new statistics."""

    def loss(variables):
        found = body.apply(variables, *inputs, mutable=["batch_stats"])
        outputs = jax.tree.leaves(found[0])
        return sum(jnp.sum(jnp.sin(part.astype(jnp.float32))) for part in outputs), found

    return jax.jit(jax.grad(loss, has_aux=True))


def shapes(body, inputs):
    return jax.eval_shape(lambda: body.init(jax.random.key(0), *inputs))


@pytest.mark.parametrize("name", BODIES)
def test_a_body_computes_in_bfloat16_and_keeps_float32(name, filled):
    body, inputs = BODIES[name]
    half = body.clone(dtype=HALF)
    assert shapes(half, inputs) == shapes(body, inputs)
    variables = filled(body, inputs)

    grads, (outputs, statistics) = gradient(half, inputs)(variables)
    assert dtypes((shapes(half, inputs), grads, statistics)) == {"float32"}
    assert dtypes(outputs) == {"float32" if name == "discriminator" else "bfloat16"}

    exact_grads, (exact, exact_statistics) = gradient(body, inputs)(variables)
    assert dtypes(exact) == {"float32"}
    assert_near(outputs, exact, 0.05)
    assert_near(grads, exact_grads, 0.1)
    if statistics:
        assert_near(statistics, exact_statistics, 0.02)


@pytest.mark.parametrize("name", BODIES)
def test_every_layer_of_a_body_gives_bfloat16(name):
    body, inputs = BODIES[name]

    def hidden():
        return body.clone(dtype=HALF).init_with_output(
            jax.random.key(0),
            *inputs,
            capture_intermediates=lambda module, _: isinstance(module, LAYERS),
            mutable=True,
        )[1]["intermediates"]

    found = jax.eval_shape(hidden)
    if name == "discriminator":  # the logit
        assert dtypes(found.pop("Dense_1")) == {"float32"}
    assert len(jax.tree.leaves(found)) >= 3
    assert dtypes(found) == {"bfloat16"}


@pytest.mark.parametrize("name", BODIES)
def test_float32_is_the_program_of_no_dtype(name):
    body, inputs = BODIES[name]
    none, full, half = (
        gradient(body.clone(dtype=dtype), inputs).lower(shapes(body, inputs)).as_text()
        for dtype in (None, jnp.float32, HALF)
    )
    assert none == full != half
    assert "bf16" not in none


@pytest.mark.parametrize("conv", [HalvingConv, DoublingConv])
def test_both_implementations_of_a_convolution_are_near_in_bfloat16(conv, filled):
    images = IMAGES[:2, :6, :8]
    variables = filled(conv(7), (images,))
    found = {}
    for implementation in ("native", "matmul"):
        module = conv(7, implementation=implementation, dtype=HALF)

        def loss(variables, images, module=module):
            outputs = module.apply(variables, images)
            return jnp.sum(jnp.sin(outputs.astype(jnp.float32))), outputs

        step = jax.jit(jax.grad(loss, (0, 1), has_aux=True))
        found[implementation] = grads, outputs = step(variables, images)
        assert dtypes(outputs) == {"bfloat16"}
        assert dtypes(grads) == {"float32"}
        exact = conv(7, implementation=implementation).apply(variables, images)
        assert_near(outputs, exact, 0.01)
    for one, other in zip(*map(jax.tree.leaves, found.values()), strict=True):
        one, other = (np.asarray(array, np.float32) for array in (one, other))
        assert np.linalg.norm(one - other) < 0.02 * np.linalg.norm(other)
    # Its kernel's gradient is a sum of products, which is not rounded.
    kernel = jax.tree.leaves(found["matmul"][0][0])[1]
    assert np.mean(kernel != rounded(kernel)) > 0.9


def test_products_and_sums_of_bfloat16_are_float32():
    # Adding ones in bfloat16 ends at 256.
    layer = nn.Dense(1, dtype=HALF, kernel_init=nn.initializers.ones)
    wide, _ = layer.init_with_output(jax.random.key(0), jnp.ones((1, 4096), HALF))
    assert float(wide[0, 0]) == 4096
    many = jnp.ones((4096, 1), HALF)

    def total(variables):
        return jnp.sum(layer.apply(variables, many).astype(jnp.float32))

    for array in jax.tree.leaves(jax.grad(total)(layer.init(jax.random.key(0), many))):
        np.testing.assert_array_equal(array, np.full(array.shape, 4096.0))


def test_heads_multiply_in_bfloat16_and_give_float32_unrounded(filled):
    heads = Heads({"loc": (4, 2), "raw_scale": (1,)})
    features = IMAGES[:, :2, :3, 0].astype(HALF)
    variables = filled(heads, (features,))
    found = heads.apply(variables, features)
    flat = np.asarray(features, np.float32).reshape(4, 6)
    for name, outputs in found.items():
        kernel, bias = (variables["params"][name][part] for part in ("kernel", "bias"))
        expected = (flat @ rounded(kernel) + bias).reshape(outputs.shape)
        assert outputs.dtype == jnp.float32
        np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
        assert not np.allclose(outputs, (flat @ kernel + bias).reshape(outputs.shape), rtol=1e-5)
        assert np.all(outputs != rounded(outputs))


def test_gradients_of_heads_are_products_of_bfloat16_both_ways(filled):
    heads = Heads({"loc": (3,)})
    features = VALUES.astype(HALF)
    variables = filled(heads, (features,))

    def loss(variables, features):
        return jnp.sum(jnp.sin(heads.apply(variables, features)["loc"]))

    grads = jax.grad(loss, (0, 1))(variables, features)
    assert dtypes(grads[0]) == {"float32"}
    assert dtypes(grads[1]) == {"bfloat16"}
    assert_near(grads, jax.grad(loss, (0, 1))(variables, VALUES), 0.02)
    program = jax.jit(jax.grad(loss, (0, 1))).lower(variables, features).as_text()
    products = [line for line in program.splitlines() if "dot_general" in line]
    assert len(products) == 3
    assert all("f32" not in line.split("->")[0].split(":")[-1] for line in products), products
    # Forward mode agrees.
    along = jax.tree.map(jnp.ones_like, (variables, features))
    _, slope = jax.jvp(loss, (variables, features), along)
    total = sum(float(jnp.sum(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(grads))
    np.testing.assert_allclose(slope, total, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("features", [VALUES, jnp.arange(8).reshape(4, 2)], ids=["float", "int"])
def test_heads_of_other_features_are_plain_dense_layers(features):
    found, variables = Heads({"loc": (3,)}).init_with_output(jax.random.key(0), features)
    plain = nn.Dense(3).apply({"params": variables["params"]["loc"]}, features)
    assert plain.dtype == jnp.float32
    np.testing.assert_array_equal(found["loc"], plain)


@pytest.mark.parametrize("name", BODIES)
def test_a_dtype_that_is_not_floating_is_refused(name):
    body, inputs = BODIES[name]
    with pytest.raises(ValueError, match="inexact"):
        body.clone(dtype=jnp.int32).init(jax.random.key(0), *inputs)
