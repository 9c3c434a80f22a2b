import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmvae_jax.networks import Classifier
from jmvae_jax.networks.classifier import HalvingConv


@pytest.mark.parametrize("shape", [(6, 8, 3), (2, 2, 1)])
def test_the_matrix_product_is_the_convolution_of_four_with_stride_two(shape, key):
    images = jax.random.normal(key, (2, *shape))
    module = HalvingConv(5)
    found, variables = module.init_with_output(jax.random.key(1), images)
    dense = variables["params"]["Dense_0"]
    height, width, channels = shape
    # Rows of the kernel: which square, which pixel of it, which channel.
    kernel = dense["kernel"].reshape(2, 2, 2, 2, channels, 5).transpose(0, 2, 1, 3, 4, 5)
    expected = jax.lax.conv_general_dilated(
        images,
        kernel.reshape(4, 4, channels, 5),
        window_strides=(2, 2),
        padding=((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    assert found.shape == (2, height // 2, width // 2, 5)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_logits_are_linear_in_the_rectified_features(key):
    images = jax.random.uniform(key, (3, 8, 8, 1))
    network = Classifier(num_classes=4, channels=(3,), hidden=6)
    (logits, features), variables = network.init_with_output(jax.random.key(1), images)
    assert (logits.shape, features.shape) == ((3, 4), (3, 6))
    assert (np.asarray(features) < 0).any()
    last = variables["params"]["Dense_1"]
    expected = np.maximum(features, 0.0) @ last["kernel"] + last["bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 28, 28), (2, 30, 28, 1), (2, 28, 30, 1)])
def test_images_that_cannot_be_halved_are_refused(shape, key):
    with pytest.raises(ValueError, match=r"images have shape .* multiples of 4"):
        Classifier(num_classes=2).init(key, jnp.zeros(shape))
