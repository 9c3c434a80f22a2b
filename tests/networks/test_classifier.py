import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmvae_jax.networks import Classifier


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
