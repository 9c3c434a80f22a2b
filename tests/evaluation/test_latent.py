import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo

import jmvae_jax as jm
from jmvae_jax.evaluation import interpolate, posterior_mean

MODEL = zoo.ZOO["jmvae_kl_2"].model
CVAE = zoo.ZOO["cvae_2"].model


@pytest.fixture(scope="module")
def variables():
    return zoo.variables_of(MODEL)


@pytest.mark.parametrize("given", [("image",), ("image", "label")])
def test_the_mean_is_that_of_the_posterior(variables, given):
    batch = zoo.batch_of(MODEL)
    part = {name: batch[name] for name in given}
    expected = MODEL.apply(variables, part, given=given, method="posterior").mean
    np.testing.assert_allclose(posterior_mean(MODEL, variables, part), expected, rtol=1e-5)


def test_a_line_begins_and_ends_with_the_predictions_and_is_straight_in_z(variables):
    ends = [{"image": zoo.batch_of(MODEL, seed=seed)["image"]} for seed in (0, 1)]
    line = interpolate(MODEL, variables, *ends, targets=("image", "label"), num_steps=5)
    assert line["image"].shape == (5, zoo.ROWS, 4, 4, 1)
    assert line["label"].shape == (5, zoo.ROWS, 3)
    for place, end in ((0, ends[0]), (4, ends[1])):
        predicted = jm.predict(MODEL, variables, end, targets=("image",))["image"]
        np.testing.assert_allclose(line["image"][place], predicted, rtol=1e-5)
    z = [posterior_mean(MODEL, variables, end) for end in ends]
    between = MODEL.apply(variables, 0.75 * z[0] + 0.25 * z[1], method="decode")["image"].mean
    np.testing.assert_allclose(line["image"][1], between, rtol=1e-5)


def test_the_conditions_of_a_decoder_go_the_same_way():
    variables = zoo.variables_of(CVAE)
    ends = [zoo.batch_of(CVAE, seed=seed) for seed in (0, 1)]
    line = interpolate(CVAE, variables, *ends, targets=("image",), num_steps=3)["image"]
    z = [posterior_mean(CVAE, variables, end) for end in ends]
    middle = jax.tree.map(lambda a, b: (a + b) / 2, *ends)
    expected = CVAE.apply(variables, (z[0] + z[1]) / 2, middle, method="decode")["image"].mean
    np.testing.assert_allclose(line[1], expected, rtol=1e-5)


def test_what_cannot_be_interpolated_is_refused(variables):
    batch = zoo.batch_of(MODEL)
    image, label = ({name: batch[name]} for name in ("image", "label"))
    with pytest.raises(ValueError, match=r"second has \['label'\]: expected \['image'\]"):
        interpolate(MODEL, variables, image, label, targets=("image",), num_steps=3)
    one = {"image": image["image"][:1]}
    with pytest.raises(ValueError, match="second has 1 rows: expected 5, as first"):
        interpolate(MODEL, variables, image, one, targets=("image",), num_steps=3)
    with pytest.raises(ValueError, match="num_steps=1: expected at least 2"):
        interpolate(MODEL, variables, image, image, targets=("image",), num_steps=1)
    with pytest.raises(ValueError, match="given is empty"):
        posterior_mean(MODEL, variables, {})
    with pytest.raises(ValueError, match=r"given names \['text'\]"):
        posterior_mean(MODEL, variables, {"text": jnp.zeros((2, 3))})
