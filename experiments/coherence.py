"""How well generated modalities fit together, by a judge: of labels and of attributes."""

import dataclasses
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jmvae_jax as jm
from experiments import build, scores
from experiments.judge import TrainedJudge
from experiments.pictures import image_modalities, pixels
from jmvae_jax import evaluation
from jmvae_jax.data.transforms import EVALUATION_SEED, apply_transforms, unit_interval

PRIOR_DRAWS = 5000
"""Images from the prior of a data set of attributes."""

BLOCK = 500


def check_judgeable(model: jm.MultimodalModel) -> None:
    """Raises ValueError if there is not one image to judge."""
    images = image_modalities(model)
    if len(images) != 1:
        raise ValueError(f"coherence needs a model that generates one image: it has {images}")


def coherence(
    run: build.Run,
    judge: TrainedJudge,
    stored: Mapping[str, np.ndarray],
    predicted: Mapping[str, np.ndarray],
    num_images: int,
) -> dict[str, Any]:
    """How well generated images and what they are generated from fit, by a judge.

    See `evaluation.coherence`; Frechet distances are to the test images, in the judge's features.

    Args:
      run: with one image modality, and at most one label or attributes.
      judge: of the run's data set.
      stored: every test image and its label or attributes, also where the model has none.
      predicted: label -> classes that the model infers from the first examples of `stored`.
      num_images: generated images of each class.
    """
    model = run.model
    (image,) = image_modalities(model)
    found: dict[str, Any] = {"judge": dict(judge.accuracy)}
    grey = unit_interval(_key(0), jnp.asarray(stored[image]))
    features = evaluation.judge_images(judge.read, grey).features
    if "attributes" in stored:
        sets = _of_attributes(run, judge, stored, image, found)
    else:
        sets = _of_labels(run, judge, stored, image, num_images, found)
    for name, classes in predicted.items():
        wanted = stored[name][: len(classes)]
        found["image_to_label"] = _agreement(wanted, classes, model.modalities[name])
    found["frechet_distance"] = {
        name: {
            "estimate": evaluation.frechet_distance(features, generated),
            "stderr": evaluation.frechet_stderr(features, generated),
            "num_images": len(generated),
        }
        for name, generated in sets.items()
    }
    return found


def _key(stream: int) -> jax.Array:
    """Keys of the judged draws: the same for every run, and apart from those of the examples."""
    own = jax.random.fold_in(jax.random.key(EVALUATION_SEED), np.uint32(zlib.crc32(b"coherence")))
    return jax.random.fold_in(own, stream)


def _agreement(wanted: Any, found: Any, modality: jm.Modality) -> dict[str, Any]:
    return dataclasses.asdict(evaluation.agreement(wanted, found, modality.shape[0]))


# Labels


def _of_labels(
    run: build.Run,
    judge: TrainedJudge,
    stored: Mapping[str, np.ndarray],
    image: str,
    num_images: int,
    found: dict[str, Any],
) -> dict[str, np.ndarray]:
    """Adds what a judge of classes sees to `found`; features of the generated sets."""
    model = run.model
    label = next((name for name in model.modalities if model.modalities[name].is_label), None)
    sets: dict[str, np.ndarray] = {}
    if label is not None:
        real = stored[label]
        sets["from_labels"] = _from_labels(run, judge, real, image, label, num_images, found)
    if not model.conditions:
        sets["from_prior"] = _from_prior(run, judge, len(stored[image]), image, label, found)
    return sets


def _from_labels(
    run: build.Run,
    judge: TrainedJudge,
    real_classes: np.ndarray,
    image: str,
    label: str,
    num_images: int,
    found: dict[str, Any],
) -> np.ndarray:
    """Adds the label's coherence to `found`; features of one image for each real label."""
    modality = run.model.modalities[label]
    one_each = np.arange(modality.shape[0])

    def judged(stream: int, classes: np.ndarray, at_mean: bool = False) -> evaluation.Judged:
        return evaluation.judge_from_labels(
            run.model,
            run.variables,
            _key(stream),
            judge.read,
            classes,
            label=label,
            image=image,
            at_mean=at_mean,
        )

    wanted = np.tile(one_each, num_images)
    found["label_to_image"] = _agreement(wanted, judged(1, wanted).classes, modality)
    at_mean = judged(2, one_each, at_mean=True).classes
    found["label_to_image_at_mean"] = _agreement(one_each, at_mean, modality)
    return judged(3, real_classes).features


def _from_prior(
    run: build.Run,
    judge: TrainedJudge,
    num_images: int,
    image: str,
    label: str | None,
    found: dict[str, Any],
) -> np.ndarray:
    """Adds the joint coherence to `found`; features of draws from the prior."""
    seen, drawn = evaluation.judge_from_prior(
        run.model, run.variables, _key(4), judge.read, num_images, image=image, label=label
    )
    if label is not None:
        found["joint"] = _agreement(drawn, seen.classes, run.model.modalities[label])
    return seen.features


# Attributes


def _of_attributes(
    run: build.Run,
    judge: TrainedJudge,
    stored: Mapping[str, np.ndarray],
    image: str,
    found: dict[str, Any],
) -> dict[str, np.ndarray]:
    """Adds what a judge of attributes sees, and how sharp images are, to `found`; features."""
    name = scores.attribute_modality(run)
    drawn: dict[str, np.ndarray] = {}
    if name is not None:
        wanted = stored[name]
        transforms = {name: run.transforms[name]}
        given = apply_transforms(transforms, jax.random.split(_key(5), len(wanted)), stored)
        drawn["from_attributes"] = _images(run, _key(6), given, image, len(wanted))
        at_mean = _images_at_mean(run, given, image)
        for key, images in (("", drawn["from_attributes"]), ("_at_mean", at_mean)):
            logits = evaluation.judge_images(judge.read, images).logits
            found[f"attributes_to_image{key}"] = scores.scored(run, wanted, logits)
    if not run.model.conditions:
        drawn["from_prior"] = _images(run, _key(7), {}, image, PRIOR_DRAWS)
    real = np.asarray(stored[image], np.float32) / 255
    found["sharpness"] = {key: _sharpness(i) for key, i in {"real": real, **drawn}.items()}
    return {key: evaluation.judge_images(judge.read, i).features for key, i in drawn.items()}


def _images(
    run: build.Run, key: jax.Array, given: Mapping[str, jax.Array], image: str, count: int
) -> np.ndarray:
    """Pixels in [0, 1] of one image for each row of `given`, or of `count` draws of the prior."""
    keys = jm.distributions.example_keys(key, jnp.arange(count))
    parts = []
    for start in range(0, count, BLOCK):
        rows = slice(start, start + BLOCK)
        some = {name: values[rows] for name, values in given.items()}
        samples = 1 if given else len(keys[rows])
        images = jm.generate(
            run.model, run.variables, keys[rows], some, targets=(image,), num_samples=samples
        )[image]
        parts.append(pixels(run.showing, image, images[0] if given else images))
    return np.concatenate(parts)


def _images_at_mean(run: build.Run, given: Mapping[str, jax.Array], image: str) -> np.ndarray:
    parts = []
    for start in range(0, len(next(iter(given.values()))), BLOCK):
        some = {name: values[start : start + BLOCK] for name, values in given.items()}
        found = jm.predict(run.model, run.variables, some, targets=(image,))[image]
        parts.append(pixels(run.showing, image, found))
    return np.concatenate(parts)


def _sharpness(images: np.ndarray) -> dict[str, float | int]:
    values = evaluation.sharpness(images)
    stderr = float(values.std(ddof=1) / np.sqrt(len(values)))
    return {"estimate": float(values.mean()), "stderr": stderr, "num_images": len(values)}
