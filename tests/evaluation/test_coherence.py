"""Coherence by judges whose verdict is known, and the Frechet distance in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import zoo
from numpyro import distributions as dist

import jmvae_jax as jm
from jmvae_jax.evaluation import (
    agreement,
    frechet_distance,
    frechet_stderr,
    judge_from_labels,
    judge_from_prior,
    judge_images,
)

CLASSES = 3


class Painter(jm.MultimodalModel):
    """Its images say what z is, and z says what the label was: z = label + noise.

    p(z) = N(0, I) over three dimensions, q(z | label) = N(4 label, spread^2), the image is z itself
    and the label its largest dimension.
    """

    spread: float = 0.1

    def setup(self):
        pass

    def posterior(self, batch, given=None, mask=None, train=False):
        if given is not None and not given:
            return self.prior()
        label = batch["label"]
        return jm.distributions.gaussian(4 * label, jnp.full_like(label, self.spread**2))

    def decode(self, z, batch=None, train=False):
        image = z.reshape(*z.shape[:-1], 1, CLASSES, 1)
        return {
            "image": dist.Normal(image, 1.0, validate_args=False).to_event(3),
            "label": jm.distributions.categorical(50 * z),
        }


MODALITIES = {
    "image": jm.Modality((1, CLASSES, 1), "normal"),
    "label": jm.Modality((CLASSES,), "categorical"),
}
SURE = Painter(latent_dim=CLASSES, modalities=MODALITIES)
VAGUE = Painter(latent_dim=CLASSES, modalities=MODALITIES, spread=3.0)
NAMES = {"label": "label", "image": "image"}


def reads_largest(images):
    """A judge without fault: the class is the largest pixel."""
    flat = images.reshape(images.shape[0], -1)
    return flat, flat


def reads_next(images):
    """A judge that is always wrong."""
    return jnp.roll(images.reshape(images.shape[0], -1), 1, axis=-1), images[:, 0, :, 0]


WANTED = np.tile(np.arange(CLASSES), 700)  # more than a block, and no whole number of them


def test_a_coherent_model_is_read_by_a_good_judge_and_misread_by_a_bad_one(key):
    for judge, shift in ((reads_largest, 0), (reads_next, 1)):
        found = judge_from_labels(SURE, {}, key, judge, WANTED, **NAMES)
        np.testing.assert_array_equal(found.classes, (WANTED + shift) % CLASSES)
        key = jax.random.key(1)


def test_features_are_those_of_the_images_in_their_order(key):
    found = judge_from_labels(SURE, {}, key, reads_largest, WANTED, **NAMES)
    assert found.features.shape == (len(WANTED), CLASSES)
    np.testing.assert_allclose(found.features, 4 * np.eye(CLASSES)[WANTED], atol=0.6)


def test_z_is_drawn_from_the_posterior_and_not_its_mean(key):
    drawn = judge_from_labels(VAGUE, {}, key, reads_largest, WANTED, **NAMES)
    off = drawn.features - 4 * np.eye(CLASSES)[WANTED]
    np.testing.assert_allclose(off.std(), 3.0, rtol=0.1)
    share = (drawn.classes == WANTED).mean()
    # P(N(4, 9) is the largest of three), by quadrature.
    line = np.linspace(-20, 25, 4001)
    normal = dist.Normal(0.0, 3.0)
    below = np.asarray(normal.cdf(line)) ** 2
    expected = np.trapezoid(np.exp(np.asarray(dist.Normal(4.0, 3.0).log_prob(line))) * below, line)
    assert abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / len(WANTED))


def test_at_the_mean_there_is_no_noise(key):
    found = judge_from_labels(VAGUE, {}, key, reads_largest, WANTED, at_mean=True, **NAMES)
    np.testing.assert_array_equal(found.features, 4 * np.eye(CLASSES)[WANTED])


def test_an_image_depends_on_its_key_and_not_on_its_block(key):
    whole = judge_from_labels(VAGUE, {}, key, reads_largest, WANTED, **NAMES)
    keys = jm.distributions.example_keys(jax.random.key(0), jnp.arange(600, 610))
    part = judge_from_labels(VAGUE, {}, keys, reads_largest, WANTED[600:610], **NAMES)
    np.testing.assert_allclose(part.features, whole.features[600:610], rtol=1e-6)


def test_a_label_drawn_from_the_prior_belongs_to_the_z_of_its_image(key):
    seen, drawn = judge_from_prior(SURE, {}, key, reads_largest, 1100, **NAMES)
    # The label is the largest dimension of z but for near ties; another z would agree by a third.
    assert (seen.classes == drawn).mean() > 0.95
    np.testing.assert_allclose(seen.features.mean(), 0.0, atol=0.1)
    np.testing.assert_allclose(seen.features.std(), 1.0, rtol=0.1)
    alone, nothing = judge_from_prior(
        SURE, {}, jax.random.key(0), reads_largest, 1100, image="image"
    )
    assert nothing is None
    np.testing.assert_array_equal(alone.features, seen.features)


def test_a_judge_sees_every_image_once():
    images = np.random.default_rng(0).normal(size=(1203, 1, CLASSES, 1)).astype(np.float32)
    found = judge_images(reads_largest, images)
    np.testing.assert_array_equal(found.features, images[:, 0, :, 0])
    np.testing.assert_array_equal(found.classes, images[:, 0, :, 0].argmax(-1))


@pytest.mark.parametrize("name", ["image", "text"])
def test_only_a_label_can_be_wanted(name, key):
    with pytest.raises(ValueError, match=f"label='{name}': expected a categorical modality"):
        judge_from_labels(SURE, {}, key, reads_largest, WANTED, label=name, image="image")


def test_only_a_label_is_drawn_with_an_image(key):
    with pytest.raises(ValueError, match="label='image': expected a categorical modality"):
        judge_from_prior(SURE, {}, key, reads_largest, 10, label="image", image="image")


def test_a_conditional_model_is_judged_with_its_prior(key):
    model = zoo.ZOO["cvae_2"].model
    found = judge_from_labels(
        model,
        zoo.variables_of(model),
        key,
        lambda images: (images.reshape(len(images), -1),) * 2,
        np.arange(CLASSES),
        **NAMES,
    )
    assert found.features.shape == (CLASSES, 16)


def test_nothing_cannot_be_judged(key):
    with pytest.raises(ValueError, match="images: 0 of them, expected at least 1"):
        judge_images(reads_largest, np.zeros((0, 1, CLASSES, 1)))
    with pytest.raises(ValueError, match="classes: 0 of them"):
        judge_from_labels(SURE, {}, key, reads_largest, [], **NAMES)
    for classes in ([0, CLASSES], [-1, 0]):
        with pytest.raises(ValueError, match=f"classes: expected numbers from 0 to {CLASSES - 1}"):
            judge_from_labels(SURE, {}, jax.random.key(1), reads_largest, classes, **NAMES)
    with pytest.raises(ValueError, match="judge: logits of 1 of 2 images are not finite"):
        judge_images(reads_largest, np.full((2, 1, CLASSES, 1), [[[[np.nan]]], [[[1.0]]]]))
    with pytest.raises(ValueError, match="num_samples: 0 of them"):
        judge_from_prior(SURE, {}, key, reads_largest, 0, **NAMES)
    with pytest.raises(ValueError, match="resamples: 1 of them, expected at least 2"):
        frechet_stderr(np.zeros((3, 2)), np.zeros((3, 2)), resamples=1)


# Shares


def test_shares_and_their_errors_are_binomial():
    wanted = np.array([0, 0, 0, 0, 1, 1, 3])
    found = agreement(wanted, np.array([0, 0, 0, 2, 1, 1, 0]), 4)
    assert (found.share, found.count) == (5 / 7, 7)
    np.testing.assert_allclose(found.stderr, np.sqrt(5 / 7 * 2 / 7 / 7))
    assert found.per_class[0] == {"share": 0.75, "stderr": np.sqrt(0.75 / 16), "count": 4}
    assert found.per_class[1] == {"share": 1.0, "stderr": 0.0, "count": 2}
    assert found.per_class[2] == {"share": None, "stderr": None, "count": 0}
    assert found.per_class[3] == {"share": 0.0, "stderr": 0.0, "count": 1}


@pytest.mark.parametrize(
    ("wanted", "found", "words"),
    [
        ([0, 1], [0], r"shapes \(2,\) and \(1,\)"),
        ([], [], "at least one example"),
        ([[0]], [[0]], "one axis"),
        ([0, 3], [0, 1], "classes from 0 to 2"),
        ([-1], [0], "classes from 0 to 2"),
    ],
)
def test_classes_that_cannot_be_compared_are_refused(wanted, found, words):
    with pytest.raises(ValueError, match=words):
        agreement(np.array(wanted, int), np.array(found, int), 3)


# Frechet distance


def test_the_distance_is_the_closed_form_by_a_matrix_square_root():
    rng = np.random.default_rng(0)
    first = rng.normal(size=(500, 4)) @ rng.normal(size=(4, 4))
    second = rng.normal(size=(400, 4)) @ rng.normal(size=(4, 4)) + [1.0, 0.0, -2.0, 0.5]
    one, two = np.cov(first.T), np.cov(second.T)
    root = scipy.linalg.sqrtm(one @ two).real
    expected = np.square(first.mean(0) - second.mean(0)).sum() + np.trace(one + two - 2 * root)
    np.testing.assert_allclose(frechet_distance(first, second), expected, rtol=1e-8)
    np.testing.assert_allclose(frechet_distance(second, first), expected, rtol=1e-8)


def test_the_distance_to_oneself_is_zero_and_of_a_shift_its_square():
    first = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    np.testing.assert_allclose(frechet_distance(first, first), 0.0, atol=1e-8)
    np.testing.assert_allclose(frechet_distance(first, first + 2.0), 12.0, rtol=1e-5)


def test_constant_features_are_no_obstacle():
    first = np.random.default_rng(0).normal(size=(50, 3)) * [1.0, 0.0, 1.0]
    assert np.isfinite(frechet_distance(first, 2 * first))


def test_the_bootstrap_error_is_that_of_repeats():
    rng = np.random.default_rng(0)

    def pair():
        return rng.normal(size=(400, 2)), rng.normal(size=(400, 2)) * 1.5 + 1.0

    repeats = [frechet_distance(*pair()) for _ in range(200)]
    found = frechet_stderr(*pair(), resamples=200)
    assert 0.6 < found / np.std(repeats) < 1.6


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (((5, 3), (5, 2)), r"\(5, 3\) and \(5, 2\): expected \[N, F\]"),
        (((5,), (5,)), "features have shapes"),
        (((5, 3), (1, 3)), "at least two rows"),
    ],
)
def test_features_that_cannot_be_compared_are_refused(shapes, words):
    with pytest.raises(ValueError, match=words):
        frechet_distance(*(np.zeros(shape) for shape in shapes))


def test_features_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="features: a value is not finite"):
        frechet_distance(np.zeros((5, 1)), np.full((5, 1), np.nan))
