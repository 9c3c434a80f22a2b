"""Convolutions in two implementations, norms, and the paper's networks by their sizes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jmvae_jax as jm
from jmvae_jax.networks import ConvDecoder, ConvDiscriminator, ConvEncoder, Norm
from jmvae_jax.networks.conv import stage_channels
from jmvae_jax.networks.strided import DoublingConv, HalvingConv

CONVS = pytest.mark.parametrize("conv", [HalvingConv, DoublingConv])
SHAPES = pytest.mark.parametrize("shape", [(6, 8, 3), (2, 2, 1), (4, 4, 5)])


def count(variables):
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@SHAPES
@CONVS
def test_both_implementations_are_equal_with_their_gradients(conv, shape, key):
    images = jax.random.normal(key, (2, *shape))
    native, product = (conv(7, implementation=name) for name in ("native", "matmul"))
    variables = jax.jit(product.init)(jax.random.key(1), images)
    shapes = jax.eval_shape(native.init, jax.random.key(1), images)
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, variables)
    bias = jax.tree.map(lambda x: x + 0.1, variables)

    def loss(module, variables, images):
        return jnp.sum(jnp.sin(module.apply(variables, images)))

    outputs = [jax.jit(module.apply)(bias, images) for module in (native, product)]
    np.testing.assert_allclose(*outputs, rtol=1e-4, atol=1e-5)
    grads = [
        jax.jit(jax.grad(functools.partial(loss, module), (0, 1)))(bias, images)
        for module in (native, product)
    ]
    for a, b in zip(*map(jax.tree.leaves, grads), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@SHAPES
def test_halving_is_the_convolution_of_four_with_stride_two(shape, key):
    images = jax.random.normal(key, (2, *shape))
    found, variables = HalvingConv(5).init_with_output(jax.random.key(1), images)
    height, width, channels = shape
    # Rows of the matrix: which square, which pixel of it, which channel.
    kernel = np.asarray(variables["params"]["Dense_0"]["kernel"]).reshape(2, 2, 2, 2, channels, 5)
    padded = np.pad(np.asarray(images), ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.zeros((2, height // 2, width // 2, 5))
    for row in range(4):
        for column in range(4):
            weight = kernel[row // 2, column // 2, row % 2, column % 2]
            rows, columns = slice(row, row + height, 2), slice(column, column + width, 2)
            expected += padded[:, rows, columns][:, : height // 2, : width // 2] @ weight
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@SHAPES
def test_doubling_is_the_transpose_of_halving(shape, key):
    height, width, features = shape
    big = jax.random.normal(key, (2, height, width, features))
    small = jax.random.normal(jax.random.key(1), (2, height // 2, width // 2, 4))
    doubling = DoublingConv(features, use_bias=False)
    up, variables = doubling.init_with_output(jax.random.key(2), small)
    halving = HalvingConv(4, use_bias=False)
    down = halving.apply({"params": {"Dense_0": variables["params"]}}, big)
    assert up.shape == big.shape
    np.testing.assert_allclose(jnp.vdot(down, small), jnp.vdot(big, up), rtol=1e-4)


@CONVS
def test_outputs_have_the_size_of_the_inputs_at_the_start(conv):
    images = jax.random.normal(jax.random.key(0), (4, 16, 16, 64))
    outputs, _ = conv(64).init_with_output(jax.random.key(1), images)
    assert 0.8 < float(outputs.std()) < 1.2


def test_the_networks_of_the_paper_have_its_parameters():
    words = jm.MLP((512, 512), norm="batch")
    model = jm.JMVAE(
        latent_dim=128,
        trunk=jm.MLP((1024,)),
        modalities={
            "image": jm.Modality(
                (64, 64, 3),
                "normal",
                decoder=ConvDecoder((64, 64, 3)),
                encoder=ConvEncoder(),
                branch=ConvEncoder(hidden=None),
            ),
            "attributes": jm.Modality(
                (40,),
                "normal_tanh",
                decoder=jm.MLP((4096, 512), norm="batch"),
                encoder=words,
                branch=words,
            ),
        },
    )
    batch = {"image": jnp.zeros((1, 64, 64, 3)), "attributes": jnp.ones((1, 40))}
    variables = jax.eval_shape(model.init, jax.random.key(0), batch)
    found = {name: count({"params": part}) for name, part in variables["params"].items()}
    assert found == {
        "joint": 6_974_528,
        "singles_image": 6_166_080,
        "singles_attributes": 415_488,
        "decoders_image": 2_236_291,
        "decoders_attributes": 2_647_080,
    }
    assert set(variables) == {"params", "batch_stats"}


def test_the_discriminator_of_the_paper_has_its_parameters():
    images = jnp.zeros((1, 64, 64, 3))
    variables = jax.eval_shape(ConvDiscriminator().init, jax.random.key(0), images)
    assert count(variables) == 5_904_065
    assert set(variables) == {"params"}


@pytest.mark.parametrize(
    ("size", "width", "channels"),
    [
        (64, 1.0, [64, 128, 256, 256]),
        (32, 1.0, [64, 128, 256]),
        (128, 0.25, [16, 32, 64, 64, 64]),
        (8, 0.5, [32]),
    ],
)
def test_stages_halve_to_a_map_of_four(size, width, channels):
    assert stage_channels(size, width) == channels


@pytest.mark.parametrize("size", [8, pytest.param(32, marks=pytest.mark.slow)])
def test_networks_fit_every_size(size, key):
    images = jax.random.uniform(key, (2, size, size, 3))
    encoder = ConvEncoder(width=0.1, hidden=20)
    features, _ = encoder.init_with_output(jax.random.key(1), images)
    assert features.shape == (2, 2)
    decoder = ConvDecoder((size, size, 3), ("loc", "raw_scale"), width=0.1)
    drawn, _ = decoder.init_with_output(jax.random.key(1), jnp.ones((2, 4)))
    assert {name: value.shape for name, value in drawn.items()} == {
        "loc": (2, size, size, 3),
        "raw_scale": (2, size, size, 3),
    }
    discriminator = ConvDiscriminator(width=0.1)
    logits, variables = discriminator.init_with_output(jax.random.key(1), images)
    assert logits.shape == (2,)
    seeing, _ = discriminator.init_with_output(jax.random.key(1), images, jnp.ones((2, 5)))
    assert seeing.shape == (2,)
    assert not np.allclose(discriminator.apply(variables, images[::-1]), logits)


def test_a_decoder_of_convolutions_gives_a_likelihood(key):
    body = ConvEncoder(width=0.1, norm="group")
    image = jm.Modality(
        (8, 8, 3), "normal", ConvDecoder((8, 8, 3), width=0.1, norm="group"), encoder=body
    )
    model = jm.VAE(latent_dim=3, modalities={"image": image})
    batch = {"image": jax.random.uniform(key, (4, 8, 8, 3))}
    variables = jax.jit(model.init)(jax.random.key(1), batch)
    assert set(variables) == {"params"}
    bound = jax.eval_shape(functools.partial(jm.elbo, model), variables, jax.random.key(2), batch)
    assert bound.loss.shape == (4,)


def test_statistics_of_batch_norm_move_in_training_and_serve_afterwards(key):
    inputs = 3.0 + 2.0 * jax.random.normal(key, (64, 5))
    norm = Norm("batch")
    variables = norm.init(jax.random.key(1), inputs, True)
    outputs, updated = norm.apply(variables, inputs, True, mutable=["batch_stats"])
    np.testing.assert_allclose(outputs.mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(outputs.std(0), 1.0, rtol=1e-3)
    (stats,) = updated["batch_stats"].values()
    np.testing.assert_allclose(stats["mean"], 0.1 * inputs.mean(0), rtol=1e-4)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * inputs.var(0), rtol=1e-4)
    state = {**variables, **updated}
    one = norm.apply(state, inputs[:1], False)
    np.testing.assert_allclose(one, norm.apply(state, inputs, False)[:1], rtol=1e-5)


def test_group_norm_and_no_norm_have_no_statistics(key):
    inputs = jax.random.normal(key, (3, 4, 4, 6))
    outputs, variables = Norm("group").init_with_output(jax.random.key(1), inputs, True)
    assert set(variables) == {"params"}
    alone = Norm("group").apply(variables, inputs[:1], True)
    np.testing.assert_allclose(alone, outputs[:1], rtol=1e-5, atol=1e-6)
    nothing, variables = Norm(None).init_with_output(jax.random.key(1), inputs, True)
    np.testing.assert_array_equal(nothing, inputs)
    assert variables == {}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda x: HalvingConv(2, implementation="fft").init(jax.random.key(0), x), "'fft'"),
        (lambda x: Norm("layer").init(jax.random.key(0), x, True), "norm='layer'"),
        (lambda x: ConvEncoder().init(jax.random.key(0), x[:, :24, :24]), "images of size 24"),
        (lambda x: ConvEncoder().init(jax.random.key(0), x[:, :4, :4]), "images of size 4"),
        (lambda x: ConvEncoder().init(jax.random.key(0), x[:, :16]), r"expected \[N, S, S"),
        (lambda x: ConvEncoder(width=0.001).init(jax.random.key(0), x), "width=0.001"),
        (
            lambda x: ConvDecoder((8, 16, 3)).init(jax.random.key(0), x[:, 0, 0]),
            r"shape=\(8, 16, 3\): expected a square",
        ),
    ],
)
def test_what_cannot_be_built_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make(jnp.zeros((1, 32, 32, 3)))
