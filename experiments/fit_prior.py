"""Fits a prior to a trained run: a mixture of Gaussians over where its training examples lie.

    python experiments/fit_prior.py --workdir=DIR [--num_components=100] [--num_examples=10000]

z is drawn once for each training example, given the modalities that training had of it. Writes
DIR/prior.npz, which `generate.py --given= --prior=fitted` draws from and `evaluate.py --coherence`
judges. A run that is trained further needs it fitted again.
"""

import contextlib
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
from absl import flags

from experiments import build, cli, inputs, processes, scores, workdir
from jmvae_jax import evaluation, parallel
from jmvae_jax.evaluation.fitted_prior import COVARIANCES

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a trained run.", required=True)
_NUM_COMPONENTS = flags.DEFINE_integer("num_components", 100, "Gaussians of the mixture.", 1)
_NUM_EXAMPLES = flags.DEFINE_integer("num_examples", None, "The first N examples; all.", 1)
_COVARIANCE = flags.DEFINE_enum(
    "covariance", "full", COVARIANCES, "Of each Gaussian: any, or a diagonal one."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the start of the fit.")


def checked_rows(run: build.Run) -> tuple[inputs.TrainingRows, int]:
    """The training rows, and how many z are drawn for; ValueError where the flags ask for more."""
    inputs.check_dataset(run.config, run.statistics)
    rows = inputs.TrainingRows(run.config)
    wanted = len(rows) if _NUM_EXAMPLES.value is None else _NUM_EXAMPLES.value
    inputs.check_count(wanted, run.config.data.train_split, len(rows))
    if _NUM_COMPONENTS.value > wanted:
        raise ValueError(
            f"num_components={_NUM_COMPONENTS.value}: expected no more than the {wanted} examples"
        )
    return rows, wanted


def main() -> None:
    processes.join()
    folder = pathlib.Path(_WORKDIR.value)
    run = build.load_run(folder).spread()
    if run.model.conditions:
        raise ValueError(
            f"workdir={_WORKDIR.value!r} holds a {type(run.model).__name__}, which draws given "
            f"{list(run.model.conditions)} alone: expected a model of the joint distribution"
        )
    lock = workdir.locked(folder, "workdir", ".prior.lock")
    with lock if parallel.is_first() else contextlib.nullcontext():
        fit(run, folder)


def fit(run: build.Run, folder: pathlib.Path) -> None:
    """Draws, fits and writes."""
    z = scores.posterior_draws(run, *checked_rows(run))
    if not parallel.is_first():
        return
    started = time.perf_counter()
    prior = evaluation.fit_prior(
        z, _NUM_COMPONENTS.value, seed=_SEED.value, covariance=_COVARIANCE.value
    )
    arrays = evaluation.mixture_arrays(prior)
    path = folder / workdir.PRIOR_FILE
    workdir.write_arrays(path, {**arrays, "step": np.array(int(run.state.step))})
    print(
        f"fitted {_NUM_COMPONENTS.value} Gaussians to {len(z):,} draws in "
        f"{time.perf_counter() - started:.0f} s\nwrote {path}"
    )


if __name__ == "__main__":
    cli.launch(main)
