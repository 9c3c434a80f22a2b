"""The paper's tables: their rows, their figures, and how ours are laid beside them."""

import dataclasses
import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments import workdir
from experiments.configs import mnist
from experiments.scores import name_of
from jmvae_jax.training.metrics import read_rows

IMAGE, LABEL = ("image",), ("label",)
BOTH = IMAGE + LABEL

QUANTITIES = {
    "log p(x,w)": name_of(BOTH, (), BOTH),
    "log p(x) multiple": name_of(IMAGE, (), BOTH),
    "log p(x) single": name_of(IMAGE, (), IMAGE),
    "log p(x|w) multiple": name_of(IMAGE, LABEL, BOTH),
    "log p(x|w) single": name_of(IMAGE, LABEL, LABEL),
    "log p(w) multiple": name_of(LABEL, (), BOTH),
    "log p(w) single": name_of(LABEL, (), LABEL),
    "log p(w|x) multiple": name_of(LABEL, IMAGE, BOTH),
    "log p(w|x) single": name_of(LABEL, IMAGE, IMAGE),
    "VI multiple": "VI multiple",
    "VI single": "VI single",
}
"""Column -> name of the examples' values in a run: x is the image, w the label."""


Figure = tuple[float, str]
"""A figure of the paper and how it is known: "table" (read off the paper's table), "code" (in the
authors' or a reproduction's code), "memory" (quoted from memory of the paper, not checked), the
last also "memory, about" and "memory, low" (the paper's own estimate is a loose one)."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One system of a table.

    Attributes:
      variant: of the configuration.
      overrides: dotted key -> value.
      paper: column -> the paper's figure.
    """

    variant: str
    overrides: Mapping[str, Any]
    paper: Mapping[str, Figure]

    def config(self, epochs: int, smoke: bool) -> ConfigDict:
        """The configuration of the row's run."""
        config = mnist.get_config(self.variant + (",smoke" if smoke else ""))
        config.update_from_flattened_dict({"train.epochs": epochs, **self.overrides})
        return config


def _jmvae_kl(alpha: float, *paper: Figure) -> Row:
    """JMVAE-kl with the paper's figures in the order of the columns."""
    figures = dict(zip(QUANTITIES, paper, strict=False))
    return Row("jmvae_kl", {"objective.alpha": alpha}, figures)


MNIST_ROWS: Mapping[str, Row] = {
    "vae": Row("vae", {}, {"log p(x) single": (-86.91, "memory")}),
    "cvae": Row("cvae", {}, {"log p(x|w) multiple": (-83.80, "memory")}),
    "cmma": Row("cmma", {}, {"log p(x|w) multiple": (-86.12, "memory")}),
    "jmvae_zero": Row(
        "jmvae_zero",
        {},
        {
            "log p(x,w)": (-86.96, "table"),
            "log p(x) multiple": (-86.89, "memory"),
            "log p(x|w) multiple": (-84.64, "memory"),
        },
    ),
    "jmvae_kl_0.01": _jmvae_kl(
        0.01,
        (-86.94, "table"),
        (-86.89, "memory"),
        (-86.55, "memory"),
        (-84.61, "memory"),
        (-129.6, "memory, low"),
    ),
    "jmvae_kl_0.1": _jmvae_kl(
        0.1,
        (-86.93, "table"),
        (-86.86, "code"),
        (-86.29, "memory"),
        (-84.6, "memory, about"),
        (-126.0, "memory, low"),
    ),
    "jmvae_kl_1": _jmvae_kl(
        1.0,
        (-89.28, "table"),
        (-89.20, "memory"),
        (-86.93, "memory"),
        (-86.75, "memory"),
        (-112.7, "memory, low"),
    ),
}
TABLES: Mapping[str, Mapping[str, Row]] = {"mnist": MNIST_ROWS}
REFERENCE = "jmvae_kl_0.1"
"""The row that the Markdown table takes the others' differences to."""


def entry(row: Row, folder: pathlib.Path, results: Mapping[str, Any]) -> dict[str, Any]:
    """A finished row of a table, from its run's folder and what `evaluate.py` wrote there."""
    likelihoods = {
        name_of(found["target"], found["given"], found["proposal"]): found
        for found in results["log_likelihood"]
    } | {f"VI {found['kind']}": found for found in results["variation_of_information"]}
    kept = ("estimator", "estimate", "stderr", "mc_stderr", "ess")
    return {
        "variant": row.variant,
        "overrides": dict(row.overrides),
        "step": results["step"],
        "minutes": {
            "training": round(training_minutes(folder), 1),
            "evaluation": round(results["seconds"] / 60, 1),
        },
        "log_likelihood": {
            column: {key: likelihoods[name][key] for key in kept if key in likelihoods[name]}
            for column, name in QUANTITIES.items()
            if name in likelihoods
        },
        "paper": {column: {"value": v, "sure": sure} for column, (v, sure) in row.paper.items()},
        "coherence": results["coherence"],
    }


def training_minutes(folder: pathlib.Path) -> float:
    """Time in training steps, over all the stops of a run; validation and saving not counted."""
    batch_size = workdir.read_config(folder).train.batch_size
    seconds, last = 0.0, 0
    for row in read_rows(folder, "train"):
        seconds += (row["step"] - last) * batch_size / row["examples_per_second"]
        last = row["step"]
    return seconds / 60


def differences(values: Mapping[str, Mapping[str, np.ndarray]]) -> list[dict[str, Any]]:
    """Means of the differences between rows on the same examples, with paired standard errors.

    Args:
      values: row -> name -> values of the examples `[N]`.
    """
    found = []
    for column, name in QUANTITIES.items():
        rows = [row for row in values if name in values[row]]
        for first, second in itertools.combinations(rows, 2):
            apart = values[first][name].astype(np.float64) - values[second][name]
            found.append(
                {
                    "quantity": column,
                    "first": first,
                    "second": second,
                    "estimate": float(apart.mean()),
                    "stderr": float(apart.std(ddof=1) / np.sqrt(len(apart))),
                    "num_examples": len(apart),
                }
            )
    return found


# Markdown


def _grid(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    bars = [[cell.replace("|", "\\|").replace("*", "\\*") for cell in cells] for cells in rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in bars)


def _likelihood_cell(row: Mapping[str, Any], column: str) -> str:
    ours, paper = row["log_likelihood"].get(column), row["paper"].get(column)
    if ours is None:
        return ""
    cell = f"{ours['estimate']:.2f} ± {ours['stderr']:.2f}"
    if paper is None:
        return cell
    loose = {"memory, about": "about ", "memory, low": "low: "}.get(paper["sure"], "")
    value = f"{paper['value']:.{1 if loose else 2}f}"
    return f"{cell} ({loose}{value}{'*' if paper['sure'].startswith('memory') else ''})"


def _share_cell(found: Mapping[str, Any] | None) -> str:
    return "" if found is None else f"{found['share']:.4f} ± {found['stderr']:.4f}"


def _coherence_cells(found: Mapping[str, Any]) -> list[str]:
    shares = ("label_to_image", "image_to_label", "joint")
    distances = found["frechet_distance"]
    return [_share_cell(found.get(name)) for name in shares] + [
        f"{distances[name]['estimate']:.2f} ± {distances[name]['stderr']:.2f}"
        if name in distances
        else ""
        for name in ("from_labels", "from_prior")
    ]


def markdown(table: Mapping[str, Any]) -> str:
    """The table as people read it."""
    rows, columns = table["rows"], list(QUANTITIES)
    parts = [
        f"# {table['table']}: {table['epochs']} epochs, K = {table['num_samples']:,}, "
        f"{table['num_examples']:,} test examples" + (" (smoke)" if table["smoke"] else ""),
        f"    {table['command']}",
        "x is the image, w the label. Log-likelihoods are in nats, mean ± standard error over the "
        "examples, the paper's figure (500 epochs) in brackets; a star marks one that is quoted "
        'from memory of the paper. "Multiple": draws of q(z|x,w); "single": draws of the encoder '
        "of what is given, or of the image or label alone. Conditionals are estimates, not bounds; "
        "an effective sample size (table.json) near 1 means a loose one.",
    ]
    for title, some in (("The image", columns[:5]), ("The label", columns[5:])):
        lines = [[name, *(_likelihood_cell(row, c) for c in some)] for name, row in rows.items()]
        parts += [f"## {title}", _grid(["row", *some], [line for line in lines if any(line[1:])])]
    head = ["label→image", "image→label", "joint", "Fréchet, labels", "Fréchet, prior"]
    parts += [
        "## Coherence",
        "label→image: share of images in which a classifier reads the label, z drawn from "
        "q(z|label). image→label: share of test images whose label is inferred, at the mean of "
        "q(z|image). joint: share of draws from the prior in which it reads the drawn label. "
        "Fréchet: distance to the test images in its features, of images from the test labels and "
        "from the prior; no FID.",
        _grid(
            ["row", *head, "minutes (training, evaluation)"],
            [
                [
                    name,
                    *_coherence_cells(row["coherence"]),
                    "{training}, {evaluation}".format(**row["minutes"]),
                ]
                for name, row in rows.items()
            ],
        ),
        *_mean_part(rows),
        *_difference_part(table),
    ]
    if table["failed"]:
        lines = [[name, words] for name, words in table["failed"].items()]
        parts += ["## Failed", _grid(["row", "error"], lines)]
    return "\n\n".join(parts) + "\n"


def _mean_part(rows: Mapping[str, Any]) -> list[str]:
    """What the judge reads at the mean of q(z|label)."""
    found = {name: row["coherence"].get("label_to_image_at_mean") for name, row in rows.items()}
    words = [f"{name} {f['share'] * f['count']:.0f}" for name, f in found.items() if f]
    if not words:
        return []
    return [
        "At the mean of q(z|label) there is one picture a class, so this is no measure; right of "
        f"ten: {', '.join(words)}."
    ]


def _difference_part(table: Mapping[str, Any]) -> list[str]:
    """Differences to the reference; table.json has every pair."""
    cells: dict[str, dict[str, str]] = {}
    for found in table["differences"]:
        if REFERENCE in (found["first"], found["second"]):
            turn = -1 if found["first"] == REFERENCE else 1
            other = found["second"] if turn < 0 else found["first"]
            text = f"{turn * found['estimate']:+.2f} ± {found['stderr']:.2f}"
            cells.setdefault(other, {})[found["quantity"]] = text
    if not cells:
        return []
    columns = [c for c in QUANTITIES if any(c in row for row in cells.values())]
    lines = [[name, *(row.get(c, "") for c in columns)] for name, row in cells.items()]
    return [
        f"## Differences to {REFERENCE}",
        "Nats, with standard errors paired over the examples.",
        _grid(["row", *columns], lines),
    ]
