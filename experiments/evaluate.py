"""Likelihoods and accuracies of a trained run on test examples.

    python experiments/evaluate.py --workdir=DIR [--num_samples=1000] [--num_examples=N]

Prints a table and writes DIR/results.json. All figures are means over the examples, in nats:
`stderr` is the deviation over the examples / sqrt(their number), `mc_stderr` the Monte-Carlo
error of the mean, `ess` the mean effective sample size of the draws.
"""

import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
from absl import flags
from tqdm import tqdm

import jmvae_jax as jm
from experiments import build, cli, workdir
from jmvae_jax import data, evaluation

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a trained run.", required=True)
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", 1000, "K, draws for each example.", 1)
_NUM_EXAMPLES = flags.DEFINE_integer("num_examples", None, "The first N examples; all.", 2)
_SPLIT = flags.DEFINE_string("split", "test", "Split of the run's data set.")

BLOCK = 500
"""Examples between two moves of the progress bar."""


def blocks(run: build.Run, stored: dict[str, np.ndarray]) -> Iterator[tuple[Any, Any, int]]:
    """Batches of one size: modality -> arrays, keys, and how many rows count."""
    size = min(BLOCK, len(stored["index"]))
    for part, weight in data.padded_batches(stored, size):
        batch, keys = data.evaluation_batch(run.transforms, part)
        yield batch, keys, int(weight.sum())


def likelihoods(
    run: build.Run, stored: dict[str, np.ndarray], num_samples: int
) -> list[dict[str, Any]]:
    """One row for each of the paper's likelihoods, see `evaluation.standard_queries`."""
    queries = evaluation.standard_queries(run.model)
    parts: list[list[evaluation.Estimate]] = [[] for _ in queries]
    with tqdm(total=len(stored["index"]), unit=" examples") as bar:
        for batch, keys, count in blocks(run, stored):
            found = jm.estimate(run.model, run.variables, keys, batch, queries, num_samples)
            for part, one in zip(parts, found, strict=True):
                part.append(one.rows(count))
            bar.update(count)
    return [
        {
            "target": list(query.target),
            "given": list(query.given),
            "proposal": list(query.source),
            "estimator": query.estimator(run.model),
            **evaluation.summarize(part),
            "num_samples": num_samples,
        }
        for query, part in zip(queries, parts, strict=True)
    ]


def accuracies(run: build.Run, stored: dict[str, np.ndarray]) -> dict[str, float]:
    """Share of right labels at z = the mean of q(z | the other modalities)."""
    found = {}
    for name in run.model.modalities:
        others = tuple(other for other in run.model.modalities if other != name)
        if others and run.model.modalities[name].is_label:
            right = 0
            for batch, _, count in blocks(run, stored):
                given = {other: batch[other] for other in others}
                predicted = jm.predict(run.model, run.variables, given, targets=(name,))[name]
                same = np.argmax(predicted, -1) == np.argmax(batch[name], -1)
                right += int(same[:count].sum())
            found[name] = right / len(stored["index"])
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """The likelihoods as lines of text."""
    head = ("log-likelihood", "draws from", "nats", "stderr", "mc", "ess", "estimator")
    lines = [
        (
            f"log p({','.join(r['target'])}{'|' if r['given'] else ''}{','.join(r['given'])})",
            f"q(z|{','.join(r['proposal'])})",
            f"{r['estimate']:.2f}",
            f"{r['stderr']:.2f}",
            f"{r['mc_stderr']:.3f}",
            f"{r['ess']:.1f}",
            r["estimator"],
        )
        for r in rows
    ]
    widths = [max(len(line[i]) for line in (head, *lines)) for i in range(len(head))]
    left = {0, 1, len(head) - 1}
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (head, *lines)
    )


def main() -> None:
    run = build.load_run(_WORKDIR.value)
    workdir.check_writable(pathlib.Path(_WORKDIR.value), "workdir")
    stored = build.load_split(run.config, _SPLIT.value)
    available = len(stored["index"])
    wanted = available if _NUM_EXAMPLES.value is None else _NUM_EXAMPLES.value
    if wanted > available:
        raise ValueError(f"num_examples={wanted}: the split {_SPLIT.value!r} has {available}")
    stored = {name: values[:wanted] for name, values in stored.items()}
    started = time.perf_counter()
    rows = likelihoods(run, stored, _NUM_SAMPLES.value)
    results = {
        "variant": run.config.variant,
        "dataset": run.config.data.dataset,
        "split": _SPLIT.value,
        "step": int(run.state.step),
        "log_likelihood": rows,
        "accuracy": accuracies(run, stored),
        "seconds": round(time.perf_counter() - started, 1),
    }
    print(
        f"\n{run.config.variant} after {results['step']:,} steps, K = {_NUM_SAMPLES.value}, "
        f"{wanted:,} examples of {run.config.data.dataset} {_SPLIT.value}\n\n{table(rows)}\n"
    )
    print(
        "Conditional rows (prior, ratio) are estimates, not bounds; a small ess means a loose one."
    )
    for name, value in results["accuracy"].items():
        print(f"accuracy of {name}, from the other modalities: {value:.4f}")
    path = pathlib.Path(_WORKDIR.value) / workdir.RESULTS_FILE
    workdir.write_json(path, results)
    print(f"wrote {path}")


if __name__ == "__main__":
    cli.launch(main)
