"""How well binary attributes are predicted: accuracies and average precision, one by one.

Attributes are in {-1, 1}; scores are any numbers that rise with the attribute and are positive
where it is predicted (the tanh of JMVAE's decoder, a judge's logits).
"""

from collections.abc import Sequence

import numpy as np

MEASURES = ("accuracy", "balanced_accuracy", "average_precision")


def attribute_scores(
    wanted: np.ndarray, scores: np.ndarray, names: Sequence[str]
) -> dict[str, dict[str, float | None]]:
    """Accuracy, balanced accuracy and average precision of each attribute.

    Balanced accuracy is the mean of the shares that are right among those with the attribute and
    among those without: 0.5 for a constant, however rare the attribute. Average precision is
    scikit-learn's `average_precision_score`: its level by chance is the attribute's share.

    Args:
      wanted: `[N, A]` in {-1, 1}.
      scores: `[N, A]`.
      names: of the A attributes.

    Returns:
      name -> measure -> number; None where all of the examples, or none, have the attribute.

    Raises:
      ValueError: shapes that differ, no example, other values, or scores that are not finite.

    Example:
      >>> import numpy as np
      >>> from jmvae_jax.evaluation import attribute_scores
      >>> wanted = np.array([[1], [1], [-1], [-1]])
      >>> attribute_scores(wanted, np.array([[2.0], [1.0], [0.5], [-1.0]]), ["Smiling"])["Smiling"]
      {'accuracy': 0.75, 'balanced_accuracy': 0.75, 'average_precision': 1.0}
    """
    from sklearn import metrics  # takes a second, and most runs do not need it

    wanted, scores = _checked(wanted, scores, len(names))
    found: dict[str, dict[str, float | None]] = {}
    for name, truth, score in zip(names, wanted.T > 0, scores.T, strict=True):
        both = 0 < truth.sum() < len(truth)
        found[name] = {
            "accuracy": float(metrics.accuracy_score(truth, score > 0)),
            "balanced_accuracy": (
                float(metrics.balanced_accuracy_score(truth, score > 0)) if both else None
            ),
            "average_precision": (
                float(metrics.average_precision_score(truth, score)) if both else None
            ),
        }
    return found


def _checked(wanted: np.ndarray, scores: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    wanted, scores = np.asarray(wanted), np.asarray(scores)
    expected = (len(wanted), count)
    if wanted.shape != expected or scores.shape != expected or not len(wanted):
        raise ValueError(
            f"wanted and scores have shapes {wanted.shape} and {scores.shape}: expected "
            f"[N, {count}] with N at least 1"
        )
    if not np.isin(wanted, (-1, 1)).all():
        raise ValueError("wanted: expected values in {-1, 1}")
    if not np.isfinite(scores).all():
        raise ValueError("scores: a value is not finite")
    return wanted, scores


def mean_scores(
    found: dict[str, dict[str, float | None]], names: Sequence[str]
) -> dict[str, float | None]:
    """Each measure's mean over the named attributes that have it; None where none has."""
    means: dict[str, float | None] = {}
    for measure in MEASURES:
        values = [value for name in names if (value := found[name][measure]) is not None]
        means[measure] = float(np.mean(values)) if values else None
    return means


def balanced_accuracy_stderr(wanted: np.ndarray, scores: np.ndarray) -> float | None:
    """Standard error of the balanced accuracies' mean over attributes that have both values.

    By the delta method: the share that is right among those with an attribute, and among those
    without, moves with each example by its own amount; an example moves all attributes at once. The
    amounts of a side of n examples are `sqrt(n / (n - 1))` larger than they seem; a single one, of
    which nothing is known, counts as far from its share as can be, by a half.

    Args:
      wanted, scores: as in `attribute_scores`.

    Returns:
      The error; None where no attribute has both values.

    Raises:
      ValueError: as `attribute_scores`.
    """
    wanted, scores = _checked(wanted, scores, np.shape(wanted)[-1])
    truth, right = wanted > 0, (scores > 0) == (wanted > 0)
    both = truth.any(axis=0) & ~truth.all(axis=0)
    if not both.any():
        return None
    truth, right = truth[:, both], right[:, both]
    moved = np.zeros(truth.shape)
    for side in (truth, ~truth):
        count = side.sum(axis=0)
        apart = right - (right & side).sum(axis=0) / count
        apart = np.where(count > 1, apart * np.sqrt(count / np.maximum(count - 1, 1)), 0.5)
        moved += np.where(side, 0.5 * apart / side.mean(axis=0), 0.0)
    return float(np.std(moved.mean(axis=1)) / np.sqrt(len(moved)))
