"""Attribute measures against their definitions, sharpness and edits in closed form."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro import distributions as dist

import jmvae_jax as jm
from jmvae_jax.evaluation import (
    attribute_scores,
    average_image,
    balanced_accuracy_stderr,
    edit,
    mean_scores,
    sharpness,
)

RNG = np.random.default_rng(0)
WANTED = np.where(RNG.random((300, 3)) < [0.5, 0.1, 0.8], 1, -1)
SCORES = WANTED + RNG.normal(0, [0.5, 1.5, 3.0], (300, 3))
NAMES = ("clear", "rare", "vague")


def shares(truth, right):
    return right[truth].mean(), right[~truth].mean()


def average_precision(truth, scores):
    """The sum of precisions at each example found, over their number."""
    order = np.argsort(-scores)
    found = truth[order]
    precision = np.cumsum(found) / np.arange(1, len(found) + 1)
    return precision[found].mean()


def test_measures_are_what_their_names_say():
    found = attribute_scores(WANTED, SCORES, NAMES)
    assert list(found) == list(NAMES)
    for number, name in enumerate(NAMES):
        truth, score = WANTED[:, number] > 0, SCORES[:, number]
        right = (score > 0) == truth
        expected = {
            "accuracy": right.mean(),
            "balanced_accuracy": np.mean(shares(truth, right)),
            "average_precision": average_precision(truth, score),
        }
        assert found[name] == pytest.approx(expected)


def test_an_attribute_of_one_value_has_no_balance():
    wanted = np.array([[1, 1], [1, -1], [1, 1]])
    found = attribute_scores(wanted, wanted * 2.0, ("all", "some"))
    assert found["all"] == {
        "accuracy": 1.0,
        "balanced_accuracy": None,
        "average_precision": None,
    }
    assert mean_scores(found, ("all", "some")) == {
        "accuracy": 1.0,
        "balanced_accuracy": 1.0,
        "average_precision": 1.0,
    }
    assert mean_scores(found, ("all",))["balanced_accuracy"] is None


def test_the_standard_error_is_that_of_a_bootstrap():
    found = balanced_accuracy_stderr(WANTED, SCORES)
    rng = np.random.default_rng(1)
    means = []
    for _ in range(1000):
        rows = rng.integers(len(WANTED), size=len(WANTED))
        truth, right = WANTED[rows] > 0, (SCORES[rows] > 0) == (WANTED[rows] > 0)
        means.append(np.mean([shares(truth[:, i], right[:, i]) for i in range(3)]))
    np.testing.assert_allclose(found, np.std(means), rtol=0.1)


@pytest.mark.parametrize("share", [0.01, 0.05])
def test_the_standard_error_of_a_rare_attribute_is_not_too_small(share):
    """Against the spread over many sets of 200 examples, 8 of 10 of them right."""
    rng, found, means = np.random.default_rng(0), [], []
    for _ in range(600):
        wanted = np.where(rng.random((200, 1)) < share, 1.0, -1.0)
        scores = np.where(rng.random((200, 1)) < 0.8, wanted, -wanted)
        error = balanced_accuracy_stderr(wanted, scores)
        if error is not None:
            found.append(error)
            means.append(np.mean(shares(wanted[:, 0] > 0, wanted[:, 0] == scores[:, 0])))
    assert 0.8 < np.sqrt(np.mean(np.square(found))) / np.std(means) < 1.4
    assert min(found) > 0


def test_one_example_of_a_side_is_as_unsure_as_can_be():
    wanted = np.array([[1.0]] + [[-1.0]] * 99)
    for first in (1.0, -1.0):  # right or wrong
        scores = np.array([[first]] + [[-1.0]] * 99)
        np.testing.assert_allclose(balanced_accuracy_stderr(wanted, scores), 0.25, rtol=0.02)


@pytest.mark.parametrize(
    ("wanted", "scores", "words"),
    [
        (np.ones((2, 2)), np.ones((2, 2)), r"expected \[N, 3\]"),
        (np.ones((2, 3)), np.ones((3, 3)), r"shapes \(2, 3\) and \(3, 3\)"),
        (np.zeros((2, 3)), np.ones((2, 3)), r"expected values in \{-1, 1\}"),
        (np.ones((2, 3)), np.full((2, 3), np.nan), "scores: a value is not finite"),
        (np.ones((0, 3)), np.ones((0, 3)), "N at least 1"),
    ],
)
def test_bad_attributes_are_refused(wanted, scores, words):
    with pytest.raises(ValueError, match=words):
        attribute_scores(wanted, scores, NAMES)


def test_no_attribute_with_both_values_has_no_error():
    assert balanced_accuracy_stderr(np.ones((4, 2), int), np.ones((4, 2))) is None


def test_the_laplacian_of_waves_is_known():
    # cos(w x) has the Laplacian -2 (1 - cos w) cos(w x): its variance is that squared, halved.
    angle = 2 * np.pi / 16
    x = np.arange(66)
    wave = 0.5 + 0.4 * np.cos(angle * x)
    image = np.broadcast_to(wave[None, :, None], (66, 66, 3))
    factor = 2 * (1 - np.cos(angle))
    expected = (255 * 0.4 * factor) ** 2 / 2
    np.testing.assert_allclose(sharpness(image[None]), [expected], rtol=1e-6)
    np.testing.assert_allclose(sharpness(image[None, ..., :1]), [expected], rtol=1e-6)


def test_sharpness_is_of_values_in_the_unit_interval():
    with pytest.raises(ValueError, match=r"images are uint8: expected floats in \[0, 1\]"):
        sharpness(np.zeros((1, 4, 4, 3), np.uint8))


def test_blur_takes_sharpness_away_and_the_edge_does_not_count():
    rng = np.random.default_rng(0)
    noise = rng.random((1, 20, 20, 1))
    blurred = (noise + np.roll(noise, 1, 1) + np.roll(noise, 1, 2)) / 3
    assert sharpness(blurred)[0] < sharpness(noise)[0] / 3
    framed = np.zeros((1, 9, 9, 1))
    framed[:, :, 0] = framed[:, 0] = 0.0
    assert sharpness(framed)[0] == 0
    with pytest.raises(ValueError, match=r"expected \[N, H, W, 1 or 3\]"):
        sharpness(np.zeros((2, 2, 9, 3)))


class Mirror(jm.MultimodalModel):
    """z is the attributes; the image shows them, and they are read from it by their sign."""

    def setup(self):
        pass

    def posterior(self, batch, given=None, mask=None, train=False):
        name = "attributes" if given is None or "attributes" in given else "image"
        mean = batch[name].reshape(len(batch[name]), -1)
        return jm.distributions.gaussian(mean, jnp.ones_like(mean))

    def decode(self, z, batch=None, train=False):
        return {
            "image": dist.Normal(10 * z[..., None, None], 1.0).to_event(3),
            "attributes": jm.distributions.as_event(jm.distributions.FAMILIES["normal_tanh"](z), 1),
        }


MIRROR = Mirror(
    latent_dim=2,
    modalities={
        "image": jm.Modality((2, 1, 1), "normal"),
        "attributes": jm.Modality((2,), "normal_tanh"),
    },
)
KINDS = {"image": "image", "attributes": "attributes"}


def test_an_edit_adds_what_the_change_does_to_the_average_image():
    images = jnp.array([3.0, -0.5]).reshape(1, 2, 1, 1)
    found = edit(MIRROR, {}, images, {1: 2.0}, **KINDS)
    np.testing.assert_allclose(found.inferred, np.tanh([[3.0, -0.5]]), rtol=1e-6)
    np.testing.assert_allclose(found.before.ravel(), [10, -10])
    np.testing.assert_allclose(found.after.ravel(), [10, 20])
    np.testing.assert_allclose(found.result.ravel(), [3, -0.5 + 30])
    same = edit(MIRROR, {}, images, {0: 1.0}, **KINDS)
    np.testing.assert_allclose(same.result, images)
    np.testing.assert_allclose(average_image(MIRROR, {}, [[2, -2]], **KINDS).ravel(), [20, -20])


def test_what_cannot_be_edited_is_named():
    images = jnp.zeros((1, 2, 1, 1))
    with pytest.raises(ValueError, match=r"changes names attributes \[2\]: the model has 0 to 1"):
        edit(MIRROR, {}, images, {2: 1.0}, **KINDS)
    for number in ("Smiling", 0.0, True):
        with pytest.raises(ValueError, match=rf"changes names attributes \[{number!r}\]"):
            edit(MIRROR, {}, images, {number: 1.0}, **KINDS)
    yes_or_no = dataclasses.replace(MIRROR.modalities["attributes"], likelihood="bernoulli")
    model = MIRROR.clone(modalities={**MIRROR.modalities, "attributes": yes_or_no})
    with pytest.raises(ValueError, match="has the likelihood bernoulli, whose means are never"):
        edit(model, {}, images, {0: 1.0}, **KINDS)
    body = jm.MLP((3,))
    vae = jm.VAE(latent_dim=1, modalities={"image": jm.Modality((2, 1, 1), "normal", body, body)})
    variables = jax.jit(vae.init)(jax.random.key(0), {"image": images})
    with pytest.raises(ValueError, match=r"cannot edit: it does not generate \['attributes'\]"):
        edit(vae, variables, images, {0: 1.0}, **KINDS)
