"""The paper's tables: their rows, their figures, and how ours are laid beside them."""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments import inputs, workdir
from experiments.configs import aligned, celeb_a, mnist, synthetic_faces
from experiments.models import describe_likelihoods
from experiments.rows import ABLATION_ROWS, CELEB_A_ROWS, FACES_ROWS, MNIST_ROWS, Row, quantities
from experiments.scores import name_of, paired
from jmvae_jax import data
from jmvae_jax.training.metrics import read_rows


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
      num_proposals: among which each z is resampled for a further measure of coherence; 1: none.
    """

    configuration: Any
    condition: str
    rows: Mapping[str, Row]
    reference: str
    epochs: int
    num_samples: int
    remark: str = ""
    num_proposals: int = 1

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
        if row.source:
            trained = self.config(row.source, epochs, smoke)
            steps = self.num_steps(row.source, epochs, smoke)
            return aligned.get_config(trained, steps, row.posteriors, epochs=epochs)
        config = self.configuration.get_config(row.variant + (",smoke" if smoke else ""))
        config.update_from_flattened_dict({"train.epochs": epochs, **row.overrides})
        return config

    def in_order(self, names: Iterable[str]) -> list[str]:
        """These rows once each, and what a row is made from before it."""
        pairs = [(self.rows[name].source, name) for name in names]
        return list(dict.fromkeys(name for pair in pairs for name in pair if name))

    def num_steps(self, name: str, epochs: int, smoke: bool) -> int:
        """Steps after which a row is trained."""
        config = self.config(name, epochs, smoke)
        examples = len(inputs.TrainingRows(config))
        return int(config.train.epochs) * data.num_steps(examples, config.train.batch_size)


def _remark(configuration: Any) -> str:
    """Which densities the figures are of."""
    described = describe_likelihoods(configuration.get_config("jmvae_kl"))
    return f"Densities, of standardised pixels and of attributes in {{-1, 1}}: {described}."


TABLES: Mapping[str, Table] = {
    "mnist": Table(mnist, "label", MNIST_ROWS, "jmvae_kl_0.1", epochs=500, num_samples=1000),
    "ablation": Table(
        mnist, "label", ABLATION_ROWS, "alpha_0", epochs=10, num_samples=1000, num_proposals=100
    ),
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
        "epochs": workdir.read_config(folder).train.epochs,
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
            apart = paired(values[first][name], values[second][name])
            found.append({"quantity": column, "first": first, "second": second, **apart})
    return found
