"""What a trained run is worth on stored examples: the numbers of `evaluate.py` and the tables."""

import dataclasses
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import jmvae_jax as jm
from experiments import build
from experiments.judge import TrainedJudge
from experiments.pictures import image_modalities
from jmvae_jax import data, evaluation
from jmvae_jax.data.transforms import EVALUATION_SEED, unit_interval

BLOCK = 500
"""Examples between two moves of the progress bar."""


def blocks(run: build.Run, stored: Mapping[str, np.ndarray]) -> Iterator[tuple[Any, Any, int]]:
    """Batches of one size: modality -> arrays, keys, and how many rows count."""
    size = min(BLOCK, len(stored["index"]))
    for part, weight in data.padded_batches(stored, size):
        batch, keys = data.evaluation_batch(run.transforms, part)
        yield batch, keys, int(weight.sum())


# Likelihoods


def name_of(target: Sequence[str], given: Sequence[str], proposal: Sequence[str]) -> str:
    """`log p(image|label) from q(z|image,label)`: one likelihood in tables and files."""
    bar = "|" if given else ""
    return f"log p({','.join(target)}{bar}{','.join(given)}) from q(z|{','.join(proposal)})"


def likelihoods(
    run: build.Run, stored: Mapping[str, np.ndarray], num_samples: int
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """The paper's likelihoods, see `evaluation.standard_queries`.

    Returns:
      One row of means and errors for each, and its name -> values of the examples `[N]`.
    """
    queries = evaluation.standard_queries(run.model)
    parts: list[list[evaluation.Estimate]] = [[] for _ in queries]
    with tqdm(total=len(stored["index"]), unit=" examples") as bar:
        for batch, keys, count in blocks(run, stored):
            found = jm.estimate(run.model, run.variables, keys, batch, queries, num_samples)
            for part, one in zip(parts, found, strict=True):
                part.append(one.rows(count))
            bar.update(count)
    rows, values = [], {}
    for query, part in zip(queries, parts, strict=True):
        name = name_of(query.target, query.given, query.source)
        values[name] = np.concatenate([np.asarray(one.value, np.float32) for one in part])
        rows.append(
            {
                "target": list(query.target),
                "given": list(query.given),
                "proposal": list(query.source),
                "estimator": query.estimator(run.model),
                **evaluation.summarize(part),
                "num_samples": num_samples,
            }
        )
    return rows, values


def variation_of_information(
    model: jm.MultimodalModel, rows: Sequence[Mapping[str, Any]], values: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    """`VI = -E[log p(x|w) + log p(w|x)]` of a model of two modalities, in nats.

    One row with both conditionals from draws of q(z | x, w) ("multiple"), one with each from what
    it is given ("single"). Adds the examples' values to `values`. `mc_stderr` is the sum of the
    conditionals' errors, which share draws: an upper bound.
    """
    if len(model.modalities) != 2 or model.conditions:
        return []
    both = list(model.modalities)
    found = []
    for kind in ("multiple", "single"):
        halves = [
            row
            for row in rows
            if row["given"] and row["proposal"] == (both if kind == "multiple" else row["given"])
        ]
        names = [name_of(row["target"], row["given"], row["proposal"]) for row in halves]
        total = -np.sum([values[name].astype(np.float64) for name in names], axis=0)
        values[f"VI {kind}"] = total.astype(np.float32)
        found.append(
            {
                "kind": kind,
                "estimate": float(total.mean()),
                "stderr": float(total.std(ddof=1) / np.sqrt(len(total))),
                "mc_stderr": sum(row["mc_stderr"] for row in halves),
                "num_examples": len(total),
            }
        )
    return found


# Classes


def predicted_labels(run: build.Run, stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Label -> classes `int[N]` at z = the mean of q(z | the other modalities).

    Of each label that the model generates and can infer from all that it has beside it.
    """
    model, found = run.model, {}
    for name in model.generated:
        others = [other for other in model.modalities if other != name]
        inferable = bool(others) and set(model.conditions) in (set(), set(others))
        if model.modalities[name].is_label and inferable:
            parts = []
            for batch, _, count in blocks(run, stored):
                given = {other: batch[other] for other in others}
                predicted = jm.predict(model, run.variables, given, targets=(name,))[name]
                parts.append(np.argmax(predicted, -1)[:count])
            found[name] = np.concatenate(parts)
    return found


# Coherence


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
    """How well generated images and labels fit, by a judge; see `evaluation.coherence`.

    Args:
      run: with one image modality and at most one label.
      judge: of the run's data set.
      stored: every test image and its label, also where the model has none.
      predicted: from `predicted_labels`, of the first examples of `stored`.
      num_images: generated images of each class.
    """
    model = run.model
    (image,) = image_modalities(model)
    label = next((name for name in model.modalities if model.modalities[name].is_label), None)
    found: dict[str, Any] = {"judge": dict(judge.accuracy)}
    sets: dict[str, np.ndarray] = {}
    if label is not None:
        real = stored[label]
        sets["from_labels"] = _from_labels(run, judge, real, image, label, num_images, found)
    if not model.conditions:
        sets["from_prior"] = _from_prior(run, judge, len(stored[image]), image, label, found)
    for name, classes in predicted.items():
        wanted = stored[name][: len(classes)]
        found["image_to_label"] = _agreement(wanted, classes, model.modalities[name])
    grey = unit_interval(_key(0), jnp.asarray(stored[image]))
    features = evaluation.judge_images(judge.read, grey).features
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
