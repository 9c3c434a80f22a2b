"""Results of a run as lines of text, for `evaluate.py` and `compare.py`."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments import scores


def table(rows: list[dict[str, Any]]) -> str:
    """The likelihoods as lines of text."""
    head = ("log-likelihood", "draws from", "nats", "stderr", "mc", "ess", "estimator")
    lines = [
        (
            *scores.name_of(r["target"], r["given"], r["proposal"]).split(" from "),
            f"{r['estimate']:.2f}",
            f"{r['stderr']:.2f}",
            f"{r['mc_stderr']:.3f}",
            f"{r['ess']:.1f}",
            r["estimator"],
        )
        for r in rows
    ]
    return _columns((head, *lines), left={0, 1, len(head) - 1})


def differences(rows: Sequence[Mapping[str, Any]]) -> str:
    """Differences of `compare.py` as lines of text."""
    head = ("quantity", "first", "second", "difference", "stderr")
    numbers = ("first", "second", "estimate", "stderr")
    lines = [(row["quantity"], *(f"{row[name]:.2f}" for name in numbers)) for row in rows]
    return _columns((head, *lines), left={0})


def _columns(lines: Sequence[tuple[str, ...]], left: set[int]) -> str:
    """Cells one below the other: those of the columns `left` begin there, the others end there."""
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def measures(found: Mapping[str, Any]) -> str:
    """How well attributes are read, in words."""
    if found["balanced_accuracy"] is None:
        return "undefined: no attribute is both present and absent in these examples"
    return (
        f"balanced accuracy {found['balanced_accuracy']:.4f} ± {found['stderr']:.4f}, accuracy "
        f"{found['accuracy']:.4f}, average precision {found['average_precision']:.4f}"
    )


def coherence_lines(found: Mapping[str, Any]) -> list[str]:
    """The coherence as lines of text."""
    words = {
        "label_to_image": "images generated from labels show their label",
        "label_to_image_resampled": "the same with z resampled",
        "label_to_image_resampled_by_likelihood": "the same with z resampled by p(label|z) alone",
        "label_to_image_at_mean": "the same at the mean of q(z|label), one image a class",
        "image_to_label": "labels inferred from images are right",
        "joint": "images and labels drawn from the prior fit",
        "joint_fitted_prior": "the same drawn from the fitted prior",
    }
    lines = [
        f"{text}: {found[name]['share']:.4f} ± {found[name]['stderr']:.4f}"
        for name, text in words.items()
        if name in found
    ]
    words = {
        "attributes_to_image": "images generated from attributes show them",
        "attributes_to_image_resampled": "the same with z resampled",
        "attributes_to_image_resampled_by_likelihood": "the same by p(attributes|z) alone",
        "attributes_to_image_at_mean": "the same at the mean of q(z|attributes)",
    }
    lines += [f"{text}: {measures(found[name])}" for name, text in words.items() if name in found]
    for name, sharp in found.get("sharpness", {}).items():
        lines.append(
            f"sharpness (variance of the Laplacian), {name.replace('_', ' ')}: "
            f"{sharp['estimate']:.0f} ± {sharp['stderr']:.0f}"
        )
    for name, distance in found["frechet_distance"].items():
        lines.append(
            f"Frechet distance to real images in the judge's features, {name.replace('_', ' ')}: "
            f"{distance['estimate']:.2f} ± {distance['stderr']:.2f}"
        )
    return lines
