"""Do generated modalities fit together? A judge reads the class or attributes of generated images.

A judge is any function from images `[N, *shape]` to logits and features `[N, F]`: logits `[N, C]`
of one of C classes, or of each of C attributes.
Images are means of p(image | z); what is random is z, and the label where it is drawn:

* from labels: z ~ q(z | label). Does the judge read the label that was given?
* from the prior: z ~ p(z), label ~ p(label | z). Does the judge read the label that was drawn?

z may be resampled in the first, or come from another prior in the second: see `generate`.

At the mean of q(z | label) there is one picture a class: a share over ten pictures says little.
Coherence became the usual measure with MMVAE (Shi et al., 2019, arXiv:1911.03393).
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jmvae_jax import distributions, parallel
from jmvae_jax.distributions import Distribution
from jmvae_jax.evaluation.generation import generate, predict
from jmvae_jax.models.base import MultimodalModel
from jmvae_jax.types import Array, Key, Variables

Judge = Callable[[Array], tuple[Array, Array]]

BLOCK = 500
"""Images that are generated and judged at once."""


class Judged(NamedTuple):
    """What a judge sees in images: logits `float32[N, C]` and features `float32[N, F]`."""

    logits: np.ndarray
    features: np.ndarray

    @property
    def classes(self) -> np.ndarray:
        """The likeliest of C classes, `int[N]`."""
        return np.argmax(self.logits, axis=-1)


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How often two classes are the same.

    Attributes:
      share: of all examples.
      stderr: binomial, `sqrt(share (1 - share) / count)`; 0 where all agree or none, however few
        they are.
      count: number of examples.
      per_class: share, its error and the count of each wanted class; no share without examples.
    """

    share: float
    stderr: float
    count: int
    per_class: tuple[dict[str, float | int | None], ...]


def agreement(wanted: np.ndarray, found: np.ndarray, num_classes: int) -> Agreement:
    """How often `found` is the `wanted` class, over all examples and for each wanted class.

    Args:
      wanted, found: classes, `int[N]`.
      num_classes: C; the classes are 0 ... C - 1.

    Raises:
      ValueError: shapes that differ, no example, or a wanted class that is none of the C.

    Example:
      >>> import numpy as np
      >>> from jmvae_jax.evaluation import agreement
      >>> agreement(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), 2).share
      0.75
    """
    wanted, found = np.asarray(wanted), np.asarray(found)
    if wanted.shape != found.shape or wanted.ndim != 1 or not len(wanted):
        raise ValueError(
            f"wanted and found have shapes {wanted.shape} and {found.shape}: expected one axis, "
            "the same, with at least one example"
        )
    if not 0 <= wanted.min() <= wanted.max() < num_classes:
        raise ValueError(f"wanted: expected classes from 0 to {num_classes - 1}")

    def share_of(rows: np.ndarray) -> dict[str, float | int | None]:
        count = len(rows)
        share = float(rows.mean()) if count else None
        stderr = None if share is None else float(np.sqrt(share * (1 - share) / count))
        return {"share": share, "stderr": stderr, "count": count}

    same = wanted == found
    per_class = tuple(share_of(same[wanted == number]) for number in range(num_classes))
    return Agreement(**share_of(same), per_class=per_class)  # type: ignore[arg-type]  # not empty


def judge_images(judge: Judge, images: Any) -> Judged:
    """What the judge sees in images `[N, *shape]`.

    The judge is compiled once for each function: give the same one again, not a new lambda.

    Raises:
      ValueError: there is no image.
    """
    _check_count("images", len(images))
    parts = [_judge(judge, jnp.asarray(images[rows])) for rows in _blocks(len(images))]
    return _joined(parts)


def judge_from_labels(
    model: MultimodalModel,
    variables: Variables,
    key: Key,
    judge: Judge,
    classes: Sequence[int] | np.ndarray,
    *,
    label: str,
    image: str,
    at_mean: bool = False,
    num_proposals: int = 1,
    weighting: str = "posterior",
) -> Judged:
    """What the judge sees in images generated from labels, one image for each.

    Args:
      model: a model and `variables`, its parameters and state.
      key: one key, folded with each image's number.
      judge: see `Judge`.
      classes: `int[N]`, the label of each image.
      label, image: names of the modalities.
      at_mean: z is the middle of q(z | label), as in `predict`, instead of a draw.
      num_proposals, weighting: candidates for each draw, as in `generate`.

    Raises:
      ValueError: `label` is not one categorical variable, a name or a class that the model lacks,
        no class, logits or features that are not finite, `num_proposals` or `weighting` that
        `generate` refuses, or more than 1 proposal with `at_mean`.
    """
    _check_count("classes", len(classes))
    if at_mean and num_proposals != 1:
        raise ValueError(
            f"num_proposals={num_proposals} and at_mean=True: a mean is not drawn; expected "
            "num_proposals=1"
        )
    _check_label(model, label)
    count = model.modalities[label].shape[0]
    if not 0 <= np.min(classes) <= np.max(classes) < count:
        raise ValueError(f"classes: expected numbers from 0 to {count - 1}")
    one_hot = jax.nn.one_hot(np.asarray(classes), count)
    keys = distributions.example_keys(key, jnp.arange(len(one_hot)))
    parts = []
    for rows in _blocks(len(one_hot)):
        given = {label: one_hot[rows]}
        if at_mean:
            images = predict(model, variables, given, targets=(image,))[image]
        else:
            drawn = generate(
                model,
                variables,
                keys[rows],
                given,
                targets=(image,),
                num_proposals=num_proposals,
                weighting=weighting,
            )
            images = drawn[image][0]
        parts.append(_judge(judge, images))
    return _joined(parts)


def judge_from_prior(
    model: MultimodalModel,
    variables: Variables,
    key: Key,
    judge: Judge,
    num_samples: int,
    *,
    image: str,
    label: str | None = None,
    prior: Distribution | None = None,
) -> tuple[Judged, np.ndarray | None]:
    """What the judge sees in images at draws of the prior, and the labels drawn at the same z.

    Args:
      num_samples: number of images.
      label: name of the categorical modality that is drawn as well; None: none is.
      prior: what z is drawn from instead of p(z), as in `generate`.
      model, variables, key, judge, image: as in `judge_from_labels`.

    Returns:
      What is seen, and the drawn classes `int[num_samples]` or None.

    Raises:
      ValueError: `num_samples` below 1, `label` is not one categorical variable, a name that the
        model lacks, or a `prior` that `generate` refuses.
    """
    _check_count("num_samples", num_samples)
    if label is not None:
        _check_label(model, label)
    keys = distributions.example_keys(key, jnp.arange(num_samples))
    parts, drawn = [], []
    for rows in _blocks(num_samples):
        some = keys[rows]
        # The same keys on purpose: the label belongs to the z of its image.
        again, count = jax.random.clone(some), len(some)
        options: dict[str, Any] = {"num_samples": count, "prior": prior}
        images = generate(model, variables, some, {}, targets=(image,), **options)
        parts.append(_judge(judge, images[image]))
        if label is not None:
            labels = generate(model, variables, again, {}, targets=(label,), draw=True, **options)
            drawn.append(np.argmax(labels[label], axis=-1))
    return _joined(parts), np.concatenate(drawn) if drawn else None


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """`|m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2))` of two sets of features `[N, F]`.

    The squared Frechet (2-Wasserstein) distance between Gaussians with the sets' means and
    covariances. In the features of a small classifier it is no "FID", which is defined by an
    Inception network; it compares models that were judged by the same classifier. It falls with
    the sizes of the sets: compare equal ones.

    Raises:
      ValueError: fewer than two rows, other numbers of features, or a value that is not finite.
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(
            f"features have shapes {first.shape} and {second.shape}: expected [N, F] and [M, F]"
        )
    if min(len(first), len(second)) < 2:
        raise ValueError("features: a covariance needs at least two rows")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("features: a value is not finite")
    parts = [np.asarray(part, np.float64) for part in (first, second)]
    apart = np.square(parts[0].mean(axis=0) - parts[1].mean(axis=0)).sum()
    one, two = (np.atleast_2d(np.cov(part, rowvar=False)) for part in parts)
    # tr (C_1 C_2)^(1/2) by symmetric matrices: the eigenvalues of C_1^(1/2) C_2 C_1^(1/2).
    values, vectors = np.linalg.eigh(one)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    mixed = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ two @ root), 0.0)).sum()
    return max(0.0, float(apart + np.trace(one) + np.trace(two) - 2 * mixed))


def frechet_stderr(
    first: np.ndarray, second: np.ndarray, *, resamples: int = 20, seed: int = 0
) -> float:
    """Bootstrap standard error of `frechet_distance`: both sets are drawn again with repetition.

    Up to twice too large where the sets hardly differ, since rows that come twice set them apart.

    Raises:
      ValueError: as `frechet_distance`, or fewer than two `resamples`.
    """
    _check_count("resamples", resamples, 2)
    rng = np.random.default_rng(seed)

    def again(features: np.ndarray) -> np.ndarray:
        return features[rng.integers(len(features), size=len(features))]

    found = [frechet_distance(again(first), again(second)) for _ in range(resamples)]
    return float(np.std(found, ddof=1))


def _check_label(model: MultimodalModel, label: str) -> None:
    modality = model.modalities.get(label)
    if modality is None or not modality.is_label:
        raise ValueError(f"label={label!r}: expected a categorical modality of the model")


def _check_count(argument: str, count: int, least: int = 1) -> None:
    if count < least:
        raise ValueError(f"{argument}: {count} of them, expected at least {least}")


@functools.partial(parallel.jit, static_argnums=0)
def _judge(judge: Judge, images: Array) -> tuple[Array, Array]:
    with jax.default_matmul_precision("highest"):
        return judge(images)


def _joined(parts: Sequence[tuple[Array, Array]]) -> Judged:
    """All blocks; ValueError where a value is not finite, which would be read as class 0."""
    logits, features = map(np.concatenate, zip(*jax.device_get(parts), strict=True))
    for name, values in (("logits", logits), ("features", features)):
        if not np.isfinite(values).all():
            raise ValueError(
                f"judge: {name} of {(~np.isfinite(values)).any(axis=-1).sum()} of {len(values)} "
                "images are not finite; are the images?"
            )
    return Judged(logits, features)


def _blocks(total: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, total, BLOCK))
