"""The paper's tables: their rows, their figures, and how ours are laid beside them."""

import dataclasses
import itertools
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments import workdir
from experiments.configs import celeb_a, mnist, synthetic_faces
from experiments.models import describe_likelihoods
from experiments.scores import name_of
from jmvae_jax.training.metrics import read_rows


def quantities(condition: str) -> dict[str, str]:
    """Column -> name of the examples' values in a run: x is the image, w the `condition`."""
    x, w = ("image",), (condition,)
    both = tuple(sorted(x + w))  # as a configuration orders modalities
    return {
        "log p(x,w)": name_of(both, (), both),
        "log p(x) multiple": name_of(x, (), both),
        "log p(x) single": name_of(x, (), x),
        "log p(x|w) multiple": name_of(x, w, both),
        "log p(x|w) single": name_of(x, w, w),
        "log p(w) multiple": name_of(w, (), both),
        "log p(w) single": name_of(w, (), w),
        "log p(w|x) multiple": name_of(w, x, both),
        "log p(w|x) single": name_of(w, x, x),
        "VI multiple": "VI multiple",
        "VI single": "VI single",
    }


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


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of the paper, or one like it.

    Attributes:
      configuration: module in `experiments/configs` that its rows are variants of.
      condition: the modality beside the image: w.
      rows: its systems by name.
      reference: the row that the Markdown table takes the others' differences to.
      epochs, num_samples: of each row, where nothing else is asked for.
      remark: stands above the likelihoods: what they are densities of.
    """

    configuration: Any
    condition: str
    rows: Mapping[str, Row]
    reference: str
    epochs: int
    num_samples: int
    remark: str = ""

    @property
    def quantities(self) -> dict[str, str]:
        """See `quantities`."""
        return quantities(self.condition)

    @property
    def configuration_file(self) -> str:
        """The file of the configuration."""
        return str(self.configuration.__file__)

    def config(self, name: str, epochs: int, smoke: bool) -> ConfigDict:
        """The configuration of a row's run."""
        row = self.rows[name]
        config = self.configuration.get_config(row.variant + (",smoke" if smoke else ""))
        config.update_from_flattened_dict({"train.epochs": epochs, **row.overrides})
        return config


def _jmvae_kl(alpha: float, *paper: Figure) -> Row:
    """JMVAE-kl with the paper's figures in the order of the columns."""
    figures = dict(zip(quantities("label"), paper, strict=False))
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


def _remark(configuration: Any) -> str:
    """Which densities the figures are of."""
    described = describe_likelihoods(configuration.get_config("jmvae_kl"))
    return f"Densities, of standardised pixels and of attributes in {{-1, 1}}: {described}."


CELEB_A_ROWS: Mapping[str, Row] = {
    **{name: Row(name, {}, {}) for name in ("vae", "cvae", "cmma", "jmvae_zero", "jmvae_kl")},
    "vae_gan": Row("vae_gan", {}, {"log p(x) single": (-4439.30, "memory")}),
    "cvae_gan": Row("cvae_gan", {}, {"log p(x|w) multiple": (-4152.53, "memory")}),
    "cmma_gan": Row("cmma_gan", {}, {"log p(x|w) multiple": (-4147.94, "memory")}),
    "jmvae_gan": Row(
        "jmvae_gan",
        {},
        {
            "log p(x) multiple": (-4141.17, "memory"),
            "log p(x) single": (-4144.11, "memory"),
            "log p(x|w) multiple": (-4130.46, "memory"),
            "log p(x|w) single": (-4852.23, "memory"),
        },
    ),
}
FACES_ROWS = {name: dataclasses.replace(row, paper={}) for name, row in CELEB_A_ROWS.items()}

TABLES: Mapping[str, Table] = {
    "mnist": Table(mnist, "label", MNIST_ROWS, "jmvae_kl_0.1", epochs=500, num_samples=1000),
    "faces": Table(
        synthetic_faces,
        "attributes",
        FACES_ROWS,
        "jmvae_kl",
        epochs=synthetic_faces.EPOCHS,
        num_samples=10,
        remark="The faces are synthetic drawings. " + _remark(synthetic_faces),
    ),
    "celeb_a": Table(
        celeb_a,
        "attributes",
        CELEB_A_ROWS,
        "jmvae_kl",
        epochs=100,
        num_samples=10,
        remark=_remark(celeb_a),
    ),
}


def entry(
    table: Table, name: str, folder: pathlib.Path, results: Mapping[str, Any]
) -> dict[str, Any]:
    """A finished row of a table, from its run's folder and what `evaluate.py` wrote there."""
    row = table.rows[name]
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
            column: {key: likelihoods[value][key] for key in kept if key in likelihoods[value]}
            for column, value in table.quantities.items()
            if value in likelihoods
        },
        "paper": {column: {"value": v, "sure": sure} for column, (v, sure) in row.paper.items()},
        "coherence": results["coherence"],
        **({"attributes": results["attributes"]} if "attributes" in results else {}),
    }


def training_minutes(folder: pathlib.Path) -> float:
    """Time in training steps, over all the stops of a run; validation and saving not counted."""
    batch_size = workdir.read_config(folder).train.batch_size
    seconds, last = 0.0, 0
    for row in read_rows(folder, "train"):
        seconds += (row["step"] - last) * batch_size / row["examples_per_second"]
        last = row["step"]
    return seconds / 60


def differences(
    table: Table, values: Mapping[str, Mapping[str, np.ndarray]]
) -> list[dict[str, Any]]:
    """Means of the differences between rows on the same examples, with paired standard errors.

    Args:
      table: names the quantities.
      values: row -> name -> values of the examples `[N]`.
    """
    found = []
    for column, name in table.quantities.items():
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
