import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jmvae_jax as jm
from jmvae_jax.networks import Heads


def test_all_axes_but_the_first_are_flattened(key):
    values = jax.random.normal(jax.random.key(1), (5, 4, 3, 2))
    features, variables = jm.MLP((8, 6)).init_with_output(key, values)
    assert features.shape == (5, 6)
    flat = jm.MLP((8, 6)).apply(variables, values.reshape(5, 24))
    np.testing.assert_array_equal(features, flat)


def test_an_mlp_is_affine_maps_with_the_activation_after_each(key):
    values = jax.random.normal(jax.random.key(1), (5, 4))
    body = jm.MLP((8, 6), activation=jnp.tanh)
    variables = body.init(key, values)
    shifted = jax.tree.map(lambda array: array + 0.1, variables["params"])
    expected = np.asarray(values, np.float64)
    for name in ("Dense_0", "Dense_1"):
        expected = np.tanh(expected @ np.asarray(shifted[name]["kernel"]) + shifted[name]["bias"])
    np.testing.assert_allclose(body.apply({"params": shifted}, values), expected, rtol=1e-4)


@pytest.mark.parametrize("module", [jm.MLP((60,)), Heads({"loc": (10, 6)})], ids=["MLP", "Heads"])
def test_biases_start_at_zero_and_kernels_glorot_uniform(module, key):
    (layer,) = module.init(key, jnp.zeros((1, 40)))["params"].values()
    kernel, bound = np.asarray(layer["kernel"]), np.sqrt(6 / (40 + 60))
    np.testing.assert_array_equal(layer["bias"], np.zeros(60))
    assert 0.97 * bound < np.abs(kernel).max() <= bound
    np.testing.assert_allclose(kernel.std(), bound / np.sqrt(3), rtol=0.05)


def test_the_default_activation_is_relu(key):
    features, _ = jm.MLP((50,)).init_with_output(key, jnp.ones((2, 3)))
    assert float(features.min()) == 0.0
    assert float(features.max()) > 0.0


def test_an_mlp_given_a_list_is_hashable_and_equals_the_one_given_a_tuple():
    assert hash(jm.MLP([8, 6])) == hash(jm.MLP((8, 6)))
    assert jm.MLP([8, 6]) == jm.MLP((8, 6))


def test_a_model_can_be_a_static_argument(key):
    modality = jm.Modality([4], "normal", decoder=jm.MLP([3]), encoder=jm.MLP([3]))
    model = jm.VAE(latent_dim=2, modalities={"x": modality})
    variables = model.init(key, {"x": jnp.ones((2, 4))})

    def mean(model, variables):
        return model.apply(variables, {"x": jnp.ones((2, 4))}, method="posterior").mean

    assert jax.jit(mean, static_argnums=0)(model, variables).shape == (2, 2)


def test_heads_are_one_linear_map_for_each_name(key):
    features = jax.random.normal(jax.random.key(1), (5, 2, 3))
    outputs, variables = Heads({"loc": (4, 2), "raw_scale": (1,)}).init_with_output(key, features)
    assert {name: array.shape for name, array in outputs.items()} == {
        "loc": (5, 4, 2),
        "raw_scale": (5, 1),
    }
    kernel = variables["params"]["loc"]["kernel"]
    np.testing.assert_allclose(
        outputs["loc"].reshape(5, 8), features.reshape(5, 6) @ kernel, rtol=1e-4, atol=1e-5
    )


def test_a_head_may_have_nothing_to_say(key):
    """The part below the diagonal of a matrix of one row."""
    outputs = Heads({"lower": (0,)}).init_with_output(key, jnp.ones((5, 3)))[0]
    assert outputs["lower"].shape == (5, 0)


class Both(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        return Heads({"loc": (2,), "raw_scale": (2,)})(inputs)


def test_a_dictionary_passes_through_the_heads_without_parameters(key):
    given = {"loc": jnp.ones((5, 2)), "raw_scale": jnp.zeros((5, 2))}
    outputs, variables = Both().init_with_output(key, given)
    assert not variables
    assert set(outputs) == set(given)
    for name, array in given.items():
        np.testing.assert_array_equal(outputs[name], array)


@pytest.mark.parametrize(
    "given",
    [
        {"loc": jnp.ones((5, 2))},
        {"loc": jnp.ones((5, 2)), "raw_scale": jnp.ones((5, 3))},
        {"loc": jnp.ones((5, 2)), "scale": jnp.ones((5, 2))},
    ],
    ids=["one too few", "wrong shape", "wrong name"],
)
def test_a_dictionary_of_other_names_or_shapes_is_refused(given, key):
    with pytest.raises(ValueError, match=r"the network gives .*'raw_scale': \(2,\)"):
        Both().init(key, given)
