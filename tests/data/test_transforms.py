"""From stored bytes to floats: frequencies, supports, and whose key draws what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmvae_jax.data import apply_transforms, evaluation_batch
from jmvae_jax.data.transforms import (
    as_floats,
    binarize,
    one_hot,
    standardize,
    streams,
    unit_interval,
    unstandardize,
)

DRAWS = 200_000


def example_keys(seed, rows):
    return jax.random.split(jax.random.key(seed), rows)


@pytest.mark.parametrize(
    ("pixel", "columns"), [(128, 250), *((pixel, 251) for pixel in (0, 1, 127, 128, 254, 255))]
)
def test_a_pixel_is_one_as_often_as_its_value(pixel, columns):
    rows = DRAWS // columns
    pixels = jnp.full((rows, columns, 1), pixel, jnp.uint8)
    drawn = np.asarray(binarize(example_keys(pixel, rows), pixels))
    assert drawn.shape == pixels.shape
    assert drawn.dtype == np.float32
    assert set(np.unique(drawn)) <= {0.0, 1.0}
    p = pixel / 255
    # Exact at 0 and 255, where the deviation is 0; elsewhere p is rounded to 1 / 65536.
    rounding = 0.0 if pixel in (0, 255) else 1 / 65536
    error = np.sqrt(p * (1 - p) / drawn.size)
    assert abs(drawn.mean(dtype=np.float64) - p) <= 5 * error + rounding
    # Every place draws, those of both halves of a word.
    if 0 < pixel < 255:
        places = drawn.mean(axis=(0, 2), dtype=np.float64)
        assert (np.abs(places - p) <= 6 * np.sqrt(p * (1 - p) / rows) + rounding).all()


def test_values_in_one_picture_keep_their_places():
    pixels = jnp.asarray([[0, 255, 0], [255, 0, 255], [0, 0, 255]], jnp.uint8)
    drawn = binarize(example_keys(0, 2), jnp.stack([pixels, 255 - pixels]))
    np.testing.assert_array_equal(drawn[0], pixels / 255)
    np.testing.assert_array_equal(drawn[1], 1 - pixels / 255)


def test_pixels_of_one_picture_are_independent():
    rows, size = 20_000, 9
    drawn = np.asarray(binarize(example_keys(1, rows), jnp.full((rows, size), 128, jnp.uint8)))
    correlation = np.corrcoef(drawn.T)[~np.eye(size, dtype=bool)]
    assert np.abs(correlation).max() < 5 / np.sqrt(rows)


def test_a_picture_draws_from_its_own_key():
    pixels = jnp.full((3, 64), 128, jnp.uint8)

    def drawn(order, seed=2):
        return np.asarray(binarize(example_keys(seed, 3)[jnp.asarray(order)], pixels))

    whole = drawn([0, 1, 2])
    assert len(np.unique(whole, axis=0)) == 3
    np.testing.assert_array_equal(drawn([2, 0, 1]), whole[[2, 0, 1]])
    assert (drawn([0, 1, 2], seed=3) != whole).any(axis=1).all()


def test_unit_interval_is_a_division_by_255():
    pixels = jnp.arange(256, dtype=jnp.uint8).reshape(2, 8, 16)
    found = unit_interval(example_keys(0, 2), pixels)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, np.arange(256).reshape(2, 8, 16) / 255, rtol=1e-6)
    assert (found.min(), found.max()) == (0.0, 1.0)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_one_hot_marks_the_class(dtype):
    labels = np.array([2, 0, 4], dtype)
    found = one_hot(5)(example_keys(0, 3), labels)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, np.eye(5)[labels])


STORED = {
    "image": np.full((4, 8, 8, 1), 128, np.uint8),
    "mirror": np.full((4, 8, 8, 1), 128, np.uint8),
    "label": np.array([3, 1, 0, 2]),
    "name": np.array([b"a", b"b", b"c", b"d"]),
}
TRANSFORMS = {"image": binarize, "mirror": binarize, "label": one_hot(4)}


def test_modalities_of_an_example_draw_from_different_streams():
    found = apply_transforms(TRANSFORMS, example_keys(4, 4), STORED)
    assert (np.asarray(found["image"]) != np.asarray(found["mirror"])).any(axis=(1, 2, 3)).all()
    agreement = (np.asarray(found["image"]) == np.asarray(found["mirror"])).mean()
    assert abs(agreement - 0.5) < 5 * 0.5 / np.sqrt(256)


def test_only_the_transformed_modalities_are_kept():
    found = apply_transforms({"label": one_hot(4)}, example_keys(5, 4), STORED)
    assert set(found) == {"label"}
    np.testing.assert_array_equal(found["label"], np.eye(4)[[3, 1, 0, 2]])


def test_the_order_of_the_transforms_does_not_matter():
    turned = dict(reversed(TRANSFORMS.items()))
    assert list(turned) != list(TRANSFORMS)
    one = apply_transforms(TRANSFORMS, example_keys(6, 4), STORED)
    other = apply_transforms(turned, example_keys(6, 4), STORED)
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_streams_are_two_different_keys_for_each_example():
    noise, draws = streams(example_keys(7, 3))
    words = np.concatenate([jax.random.key_data(noise), jax.random.key_data(draws)])
    assert len(np.unique(words, axis=0)) == 6


def evaluation_part(rows, transforms=TRANSFORMS):
    stored = {name: value[rows] for name, value in STORED.items()}
    stored["attributes"] = np.zeros(len(rows))
    return evaluation_batch(transforms, stored | {"index": np.asarray(rows, np.int32) + 100})


@pytest.mark.parametrize("rows", [[3, 0], [1, 1, 2, 3, 0]])
def test_an_evaluated_example_is_the_same_in_any_batch(rows):
    whole, whole_noise = evaluation_part([0, 1, 2, 3])
    part, noise = evaluation_part(rows)
    assert set(part) == set(TRANSFORMS)
    for name in part:
        np.testing.assert_array_equal(part[name], whole[name][np.asarray(rows)])
    words = jax.random.key_data(whole_noise)[np.asarray(rows)]
    np.testing.assert_array_equal(jax.random.key_data(noise), words)


def test_evaluated_examples_differ_from_one_another():
    batch, noise = evaluation_part([0, 1, 2, 3])
    assert len(np.unique(np.asarray(batch["image"]).reshape(4, -1), axis=0)) == 4
    assert len(np.unique(jax.random.key_data(noise), axis=0)) == 4


def test_an_evaluated_picture_is_the_same_beside_any_other_modality():
    alone, _ = evaluation_part([0, 1], {"image": binarize})
    beside, _ = evaluation_part([0, 1], {"image": binarize, "attributes": lambda keys, _: keys})
    np.testing.assert_array_equal(alone["image"], beside["image"])


def test_standardised_pixels_have_mean_0_and_deviation_1_and_come_back():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (50, 4, 4, 3), dtype=np.uint8)
    mean, deviation = (pixels / 255).mean(axis=0), (pixels / 255).std(axis=0)
    keys = jax.random.split(jax.random.key(0), len(pixels))
    values = standardize(mean, deviation)(keys, jnp.asarray(pixels))
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(values.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(values.std(axis=0), 1.0, rtol=1e-5)
    back = unstandardize(mean, deviation)
    np.testing.assert_allclose(back(values), pixels / 255, atol=1e-6)
    far = back(jnp.full((2, 4, 4, 3), 1e3))
    np.testing.assert_array_equal(far, np.ones_like(far))


def test_attributes_are_the_stored_numbers():
    keys = jax.random.split(jax.random.key(0), 2)
    found = as_floats(keys, jnp.array([[-1, 1], [1, 1]], jnp.int8))
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, [[-1, 1], [1, 1]])


@pytest.mark.parametrize("transform", [binarize, unit_interval, standardize(0.0, 1.0)])
def test_pixels_that_are_not_as_they_are_stored_are_refused(transform):
    keys = jax.random.split(jax.random.key(0), 2)
    with pytest.raises(ValueError, match="pixels are float32: expected uint8"):
        transform(keys, jnp.full((2, 4, 4, 1), 0.5))


def test_a_deviation_of_zero_is_refused():
    with pytest.raises(ValueError, match="deviation: expected values above 0, the least is 0"):
        standardize(np.zeros(3), np.array([1.0, 0.0, 1.0]))
