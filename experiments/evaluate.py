"""Likelihoods, accuracies and coherence of a trained run on test examples.

    python experiments/evaluate.py --workdir=DIR [--num_samples=1000] [--coherence]

Prints a table and writes DIR/results.json, and the likelihoods of each example to DIR/values.npz.
Likelihoods are means over the examples, in nats: `stderr` is the deviation over the examples /
sqrt(their number), `mc_stderr` the Monte-Carlo error of the mean, `ess` the mean effective sample
size of the draws. `--coherence` judges generated images with a classifier, see judge.py: with
`--num_proposals=20` also those whose z was resampled among so many, by either weighting of
`evaluation.resampling`, and where fit_prior.py fitted a prior to the run, also those drawn from it.
"""

import contextlib
import pathlib
import sys
import time
from collections.abc import Mapping
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
from absl import flags

from experiments import build, cli, inputs, processes, scores, wording, workdir
from experiments.coherence import check_judgeable, coherence
from experiments.judge import TrainedJudge, load_judge
from experiments.models import describe_likelihoods
from jmvae_jax import evaluation, parallel

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a trained run.", required=True)
_NUM_SAMPLES = flags.DEFINE_integer(
    "num_samples", 1000, "K, draws for each example: at least 2, whose spread is the error.", 2
)
_NUM_EXAMPLES = flags.DEFINE_integer("num_examples", None, "The first N examples; all.", 2)
_COHERENCE = flags.DEFINE_bool("coherence", False, "Judge generated images as well.")
_NUM_IMAGES = flags.DEFINE_integer("num_images", 1000, "Generated images of each class.", 1)
_NUM_PROPOSALS = flags.DEFINE_integer(
    "num_proposals", 1, "Above 1: judge images whose z was resampled among so many as well.", 1
)
_SPLIT = flags.DEFINE_string("split", "test", "Split of the run's data set.")


def evaluate(run: build.Run, folder: pathlib.Path) -> dict[str, Any]:
    """The results of a run, which are written only when all of them are there."""
    inputs.check_dataset(run.config, run.statistics)
    stored = inputs.load_split(run.config, _SPLIT.value)
    available = len(stored["index"])
    wanted = available if _NUM_EXAMPLES.value is None else _NUM_EXAMPLES.value
    inputs.check_count(wanted, _SPLIT.value, available)
    if wanted < 2:
        raise ValueError(f"split={_SPLIT.value!r} has one example: expected 2, for their deviation")
    stored = {name: values[:wanted] for name, values in stored.items()}
    judge, prior = None, None
    if _COHERENCE.value:
        check_judgeable(run.model)
        fitted = workdir.read_prior(folder, int(run.state.step))
        prior = None if fitted is None else evaluation.mixture_prior(**fitted)
        judge = judge_of(run)
    started = time.perf_counter()
    rows, values = scores.likelihoods(run, stored, _NUM_SAMPLES.value)
    predicted = scores.predicted_labels(run, stored)
    results = {
        "variant": run.config.variant,
        "dataset": str(run.statistics.get("dataset", run.config.data.dataset)),
        "split": _SPLIT.value,
        "step": int(run.state.step),
        "num_samples": _NUM_SAMPLES.value,
        "num_examples": wanted,
        "likelihoods": describe_likelihoods(run.config),
        "log_likelihood": rows,
        "variation_of_information": scores.variation_of_information(run.model, rows, values),
        "accuracy": {n: float(np.mean(found == stored[n])) for n, found in predicted.items()},
    }
    attributes = scores.predicted_attributes(run, stored)
    if attributes:
        results["attributes"] = attributes
    if judge is not None:
        every = inputs.load_arrays(run.config, _SPLIT.value)
        results["num_images"] = _NUM_IMAGES.value
        if _NUM_PROPOSALS.value > 1:
            results["num_proposals"] = _NUM_PROPOSALS.value
        numbers = (_NUM_IMAGES.value, _NUM_PROPOSALS.value)
        results["coherence"] = coherence(run, judge, every, predicted, *numbers, prior)
    results["seconds"] = round(time.perf_counter() - started, 1)
    if parallel.is_first():
        workdir.write_evaluation(folder, results, values)
    return results


def judge_of(run: build.Run) -> TrainedJudge:
    """The judge of a run's data set; where it has to be trained, one process does."""
    place = {"dataset": run.config.data.dataset, **inputs.places(run.config)}
    judge = load_judge(**place) if parallel.is_first() else None
    parallel.meet("judge")
    return judge or load_judge(**place)


def main() -> None:
    processes.join()
    for name in ("num_proposals", "num_images"):
        if flags.FLAGS[name].present and not _COHERENCE.value:
            raise ValueError(f"{name}: used with --coherence only, which is off")
    folder = pathlib.Path(_WORKDIR.value)
    run = build.load_run(folder).spread()
    # Of two evaluations at a time, the results of one might stand beside the values of the other.
    lock = workdir.locked(folder, "workdir", ".evaluation.lock")
    with lock if parallel.is_first() else contextlib.nullcontext():
        results = evaluate(run, folder)
    if parallel.is_first():
        show(run, results)
        print(f"wrote {folder / workdir.RESULTS_FILE}")


def show(run: build.Run, results: Mapping[str, Any]) -> None:
    """Prints the results as people read them."""
    print(
        f"\n{run.config.variant} after {results['step']:,} steps, K = {_NUM_SAMPLES.value}, "
        f"{results['num_examples']:,} examples of {run.config.data.dataset} {_SPLIT.value}\n\n"
        f"{wording.table(results['log_likelihood'])}\n"
    )
    print(f"Densities: {results['likelihoods']}.")
    print(
        "Conditional rows (prior, ratio) are estimates, not bounds; a small ess means a loose one."
    )
    for row in results["variation_of_information"]:
        print(
            f"variation of information, {row['kind']}: {row['estimate']:.2f} ± {row['stderr']:.2f}"
        )
    for name, value in results["accuracy"].items():
        print(f"accuracy of {name}, from the other modalities: {value:.4f}")
    if "attributes" in results:
        print(f"attributes, from the other modalities: {wording.measures(results['attributes'])}")
    if "coherence" in results:
        print("\n".join(wording.coherence_lines(results["coherence"])))


if __name__ == "__main__":
    cli.launch(main)
