"""How well generated modalities fit together, by a judge: of labels and of attributes."""

import dataclasses
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
from jmvae_jax.distributions import Distribution

PRIOR_DRAWS = 5000
"""Images from the prior of a data set of attributes."""

BLOCK = 500
"""Images that are held at once."""

RESAMPLED = ((8, "posterior", ""), (12, "likelihood", "_by_likelihood"))
"""Weights that z is resampled by, stream of the draws (+ 2: of attributes), the end of a name."""


class Asked(NamedTuple):
    """What is judged, see `coherence`."""

    num_images: int
    num_proposals: int
    prior: Distribution | None


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
    num_proposals: int = 1,
    prior: Distribution | None = None,
) -> dict[str, Any]:
    """How well generated images and what they are generated from fit, by a judge.

    See `evaluation.coherence`; Frechet distances are to the test images, in the judge's features.

    Args:
      run: with one image modality, and at most one label or attributes.
      judge: of the run's data set.
      stored: every test image and its label or attributes, also where the model has none.
      predicted: label -> classes that the model infers from the first examples of `stored`.
      num_images: generated images of each class.
      num_proposals: above 1, images whose z was resampled among so many are judged as well.
      prior: that was fitted to the run; images drawn from it are judged as well.
    """
    model = run.model
    (image,) = image_modalities(model)
    found: dict[str, Any] = {"judge": dict(judge.accuracy)}
    real = _seen(judge, (_unit(stored[image][rows]) for rows in _blocks(len(stored[image]))))
    asked = Asked(num_images, num_proposals, prior)
    if "attributes" in stored:
        sets = _of_attributes(run, judge, stored, image, asked, found, real)
    else:
        sets = _of_labels(run, judge, stored, image, asked, found)
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
    own = jm.distributions.name_number("coherence")
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(EVALUATION_SEED), own), stream)


def _agreement(wanted: Any, found: Any, modality: jm.Modality) -> dict[str, Any]:
    return dataclasses.asdict(evaluation.agreement(wanted, found, modality.shape[0]))


# Labels


def _of_labels(
    run: build.Run,
    judge: TrainedJudge,
    stored: Mapping[str, np.ndarray],
    image: str,
    asked: Asked,
    found: dict[str, Any],
) -> dict[str, np.ndarray]:
    """Adds what a judge of classes sees to `found`; features of the generated sets."""
    model = run.model
    if image in run.showing:  # the judge reads pixels, and the model what was made of them
        show, read = run.showing[image], judge.read
        judge = dataclasses.replace(judge, read=lambda images: read(show(images)))
    label = next((name for name in model.modalities if model.modalities[name].is_label), None)
    sets: dict[str, np.ndarray] = {}
    if label is not None:
        real = stored[label]
        sets["from_labels"] = _from_labels(run, judge, real, image, label, asked, found)
    if not model.conditions:
        count = len(stored[image])
        sets["from_prior"] = _from_prior(run, judge, count, image, label, None, found)
        if asked.prior is not None:
            fitted = _from_prior(run, judge, count, image, label, asked.prior, found)
            sets["from_fitted_prior"] = fitted
    return sets


def _from_labels(
    run: build.Run,
    judge: TrainedJudge,
    real_classes: np.ndarray,
    image: str,
    label: str,
    asked: Asked,
    found: dict[str, Any],
) -> np.ndarray:
    """Adds the label's coherence to `found`; features of one image for each real label."""
    modality = run.model.modalities[label]
    one_each = np.arange(modality.shape[0])

    def judged(stream: int, classes: np.ndarray, **options: Any) -> evaluation.Judged:
        return evaluation.judge_from_labels(
            run.model,
            run.variables,
            _key(stream),
            judge.read,
            classes,
            label=label,
            image=image,
            **options,
        )

    wanted = np.tile(one_each, asked.num_images)
    found["label_to_image"] = _agreement(wanted, judged(1, wanted).classes, modality)
    # A condition has no likelihood to resample by.
    if asked.num_proposals > 1 and label in run.model.generated:
        for stream, weighting, key in RESAMPLED:
            options = {"num_proposals": asked.num_proposals, "weighting": weighting}
            resampled = judged(stream, wanted, **options).classes
            found[f"label_to_image_resampled{key}"] = _agreement(wanted, resampled, modality)
    at_mean = judged(2, one_each, at_mean=True).classes
    found["label_to_image_at_mean"] = _agreement(one_each, at_mean, modality)
    return judged(3, real_classes).features


def _from_prior(
    run: build.Run,
    judge: TrainedJudge,
    num_images: int,
    image: str,
    label: str | None,
    prior: Distribution | None,
    found: dict[str, Any],
) -> np.ndarray:
    """Adds the joint coherence to `found`; features of draws from the prior, p(z) or another."""
    name, stream = ("joint", 4) if prior is None else ("joint_fitted_prior", 9)
    seen, drawn = evaluation.judge_from_prior(
        run.model,
        run.variables,
        _key(stream),
        judge.read,
        num_images,
        image=image,
        label=label,
        prior=prior,
    )
    if label is not None:
        found[name] = _agreement(drawn, seen.classes, run.model.modalities[label])
    return seen.features


# Attributes


def _of_attributes(
    run: build.Run,
    judge: TrainedJudge,
    stored: Mapping[str, np.ndarray],
    image: str,
    asked: Asked,
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
        judged = {"": sets["from_attributes"]}
        if asked.num_proposals > 1 and name in run.model.generated:
            for stream, weighting, key in RESAMPLED:
                options = {"num_proposals": asked.num_proposals, "weighting": weighting}
                images = _drawn(run, _key(stream + 2), given, image, len(wanted), **options)
                judged[f"_resampled{key}"] = _seen(judge, images)
        judged["_at_mean"] = _seen(judge, _drawn_at_mean(run, given, image))
        for key, seen in judged.items():
            found[f"attributes_to_image{key}"] = scores.scored(run, wanted, seen.logits)
    if not run.model.conditions:
        sets["from_prior"] = _seen(judge, _drawn(run, _key(7), {}, image, PRIOR_DRAWS))
        if asked.prior is not None:
            images = _drawn(run, _key(11), {}, image, PRIOR_DRAWS, prior=asked.prior)
            sets["from_fitted_prior"] = _seen(judge, images)
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
    run: build.Run,
    key: jax.Array,
    given: Mapping[str, jax.Array],
    image: str,
    count: int,
    **options: Any,
) -> Iterator[np.ndarray]:
    """Blocks of pixels: an image for each row of `given`, or for each of `count` prior draws.

    `options` are those of `generate`.
    """
    keys = jm.distributions.example_keys(key, jnp.arange(count))
    for rows in _blocks(count):
        some = {name: values[rows] for name, values in given.items()}
        samples = 1 if given else rows.stop - rows.start
        images = jm.generate(
            run.model,
            run.variables,
            keys[rows],
            some,
            targets=(image,),
            num_samples=samples,
            **options,
        )[image]
        yield pixels(run.showing, image, images[0] if given else images)


def _drawn_at_mean(
    run: build.Run, given: Mapping[str, jax.Array], image: str
) -> Iterator[np.ndarray]:
    for rows in _blocks(len(next(iter(given.values())))):
        some = {name: values[rows] for name, values in given.items()}
        found = jm.predict(run.model, run.variables, some, targets=(image,))[image]
        yield pixels(run.showing, image, found)
