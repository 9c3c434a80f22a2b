"""How well generated modalities fit together, by a judge: of labels and of attributes."""

import dataclasses
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jmvae_jax as jm
from experiments import build, scores
from experiments.judge import TrainedJudge
from experiments.pictures import image_modalities, pixels
from jmvae_jax import evaluation
from jmvae_jax.data.transforms import EVALUATION_SEED, apply_transforms

PRIOR_DRAWS = 5000
"""Images from the prior of a data set of attributes."""

BLOCK = 500
"""Images that are held at once."""


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
    real = _seen(judge, (_unit(stored[image][rows]) for rows in _blocks(len(stored[image]))))
    if "attributes" in stored:
        sets = _of_attributes(run, judge, stored, image, found, real)
    else:
        sets = _of_labels(run, judge, stored, image, num_images, found)
    for name, classes in predicted.items():
        wanted = stored[name][: len(classes)]
        found["image_to_label"] = _agreement(wanted, classes, model.modalities[name])
    found["frechet_distance"] = {
        name: {
            "estimate": evaluation.frechet_distance(real.features, generated),
            "stderr": evaluation.frechet_stderr(real.features, generated),
            "num_images": len(generated),
        }
        for name, generated in sets.items()
    }
    return found


class Seen(NamedTuple):
    """What a judge sees in images, and how sharp they are: `[N, C]`, `[N, F]` and `[N]`."""

    logits: np.ndarray
    features: np.ndarray
    sharpness: np.ndarray


def _seen(judge: TrainedJudge, blocks: Iterable[np.ndarray]) -> Seen:
    """Of blocks of pixels in [0, 1]; no more than one of them is held."""
    parts = [
        (*evaluation.judge_images(judge.read, block), evaluation.sharpness(block))
        for block in blocks
    ]
    return Seen(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _unit(stored: np.ndarray) -> np.ndarray:
    """Stored pixels in [0, 1]."""
    return np.asarray(stored, np.float32) / 255


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK))


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
    real: Seen,
) -> dict[str, np.ndarray]:
    """Adds what a judge of attributes sees, and how sharp images are, to `found`; features."""
    name = scores.attribute_modality(run)
    sets = {"real": real}
    if name is not None:
        wanted = stored[name]
        transforms = {name: run.transforms[name]}
        given = apply_transforms(transforms, jax.random.split(_key(5), len(wanted)), stored)
        sets["from_attributes"] = _seen(judge, _drawn(run, _key(6), given, image, len(wanted)))
        at_mean = _seen(judge, _drawn_at_mean(run, given, image))
        for key, seen in (("", sets["from_attributes"]), ("_at_mean", at_mean)):
            found[f"attributes_to_image{key}"] = scores.scored(run, wanted, seen.logits)
    if not run.model.conditions:
        sets["from_prior"] = _seen(judge, _drawn(run, _key(7), {}, image, PRIOR_DRAWS))
    found["sharpness"] = {
        key: {
            "estimate": float(seen.sharpness.mean()),
            "stderr": float(seen.sharpness.std(ddof=1) / np.sqrt(len(seen.sharpness))),
            "num_images": len(seen.sharpness),
        }
        for key, seen in sets.items()
    }
    return {key: seen.features for key, seen in sets.items() if key != "real"}


def _drawn(
    run: build.Run, key: jax.Array, given: Mapping[str, jax.Array], image: str, count: int
) -> Iterator[np.ndarray]:
    """Blocks of pixels: an image for each row of `given`, or for each of `count` prior draws."""
    keys = jm.distributions.example_keys(key, jnp.arange(count))
    for rows in _blocks(count):
        some = {name: values[rows] for name, values in given.items()}
        samples = 1 if given else rows.stop - rows.start
        images = jm.generate(
            run.model, run.variables, keys[rows], some, targets=(image,), num_samples=samples
        )[image]
        yield pixels(run.showing, image, images[0] if given else images)


def _drawn_at_mean(
    run: build.Run, given: Mapping[str, jax.Array], image: str
) -> Iterator[np.ndarray]:
    for rows in _blocks(len(next(iter(given.values())))):
        some = {name: values[rows] for name, values in given.items()}
        found = jm.predict(run.model, run.variables, some, targets=(image,))[image]
        yield pixels(run.showing, image, found)
