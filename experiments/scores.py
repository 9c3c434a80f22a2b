"""What a trained run is worth on stored examples: the numbers of `evaluate.py` and the tables."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import jmvae_jax as jm
from experiments import build, inputs, workdir
from jmvae_jax import data, evaluation, parallel

BLOCK = 500
"""Examples between two moves of the progress bar."""


def blocks(run: build.Run, stored: Mapping[str, np.ndarray]) -> Iterator[tuple[Any, Any, int]]:
    """Batches of one size: modality -> arrays, keys, and how many rows count."""
    size = min(BLOCK, len(stored["index"]))
    for part, weight in data.padded_batches(stored, size):
        batch, keys = data.evaluation_batch(run.transforms, part)
        yield batch, keys, int(weight.sum())


def posterior_draws(run: build.Run, rows: inputs.ModalityRows, count: int) -> np.ndarray:
    """A draw of q(z | what a row has) for each of the first rows: `[count, latent_dim]`."""
    parts = []
    with tqdm(total=count, unit=" examples", disable=not parallel.is_first()) as bar:
        for part, weight in data.padded_batches({"index": np.arange(count)}, min(BLOCK, count)):
            numbers = part["index"]  # read as they are needed: a split may be larger than memory
            batch, keys = data.evaluation_batch(run.transforms, rows[numbers] | part)
            mask = {name: jnp.asarray(there[numbers]) for name, there in rows.mask.items()}
            z = evaluation.aggregate_posterior(run.model, run.variables, keys, batch, mask or None)
            parts.append(np.asarray(z)[: int(weight.sum())])
            bar.update(len(parts[-1]))
    return np.concatenate(parts)


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
    with tqdm(total=len(stored["index"]), unit=" examples", disable=not parallel.is_first()) as bar:
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


def paired(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """The mean difference of two values of the same examples `[N]`, and its standard error."""
    apart = first.astype(np.float64) - second
    return {
        "estimate": float(apart.mean()),
        "stderr": float(apart.std(ddof=1) / np.sqrt(len(apart))),
        "num_examples": len(apart),
    }


def compared(first: workdir.Evaluation, second: workdir.Evaluation) -> list[dict[str, Any]]:
    """The likelihoods that two evaluations have, and their differences on the same examples.

    Where one has more examples, the first ones are compared.

    Raises:
      ValueError: they are of other data, densities or draws, or have no likelihood in common.
    """
    kinds = [_compared_as(one) for one in (first, second)]
    apart = [
        f"{name}: {kinds[0][name]!r} and {kinds[1][name]!r}"
        for name in kinds[0]
        if name in kinds[1] and kinds[0][name] != kinds[1][name]
    ]
    if apart:
        raise ValueError(f"workdirs: the evaluations differ in {'; '.join(apart)}")
    names = [name for name in first.values if name in second.values]
    if not names:
        raise ValueError("workdirs: the evaluations have no likelihood in common")
    count = min(one.results["num_examples"] for one in (first, second))
    found = []
    for name in names:
        ours, theirs = (one.values[name][:count].astype(np.float64) for one in (first, second))
        means = {"first": float(ours.mean()), "second": float(theirs.mean())}
        found.append({"quantity": name, **means, **paired(ours, theirs)})
    return found


def _compared_as(one: workdir.Evaluation) -> dict[str, Any]:
    """What two evaluations must agree in, where they have it, if a difference is one of models."""
    found = {name: one.results[name] for name in ("dataset", "split", "num_samples")}
    for name, entry in one.config.modalities.to_dict().items():
        for key in ("likelihood", "likelihood_options", "transform"):
            found[f"modalities.{name}.{key}"] = entry.get(key)
    return found


# Classes


def predicted_labels(run: build.Run, stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Label -> classes `int[N]` at z = the mean of q(z | the other modalities).

    Of each label that the model generates and can infer from all that it has beside it.
    """
    model, found = run.model, {}
    for name in model.generated:
        others = [other for other in model.modalities if other != name]
        if model.modalities[name].is_label and others and model.infers(others):
            parts = []
            for batch, _, count in blocks(run, stored):
                given = {other: batch[other] for other in others}
                predicted = jm.predict(model, run.variables, given, targets=(name,))[name]
                parts.append(np.argmax(predicted, -1)[:count])
            found[name] = np.concatenate(parts)
    return found


# Attributes


def attribute_modality(run: build.Run) -> str | None:
    """The modality whose columns are named attributes, if the run has one."""
    names = [n for n, entry in run.config.modalities.items() if entry.transform == "as_floats"]
    return names[0] if names and "attributes" in run.statistics else None


def scored(run: build.Run, wanted: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """How well attributes are read, see `evaluation.attribute_scores`.

    Returns:
      Means over the visible attributes with the standard error of the balanced accuracy, and each
      attribute's own measures.
    """
    names = [str(name) for name in run.statistics["attributes"]]
    visible = [str(name) for name in run.statistics.get("visible", names)]
    each = evaluation.attribute_scores(wanted, scores, names)
    columns = [names.index(name) for name in visible]
    return {
        **evaluation.mean_scores(each, visible),
        "stderr": evaluation.balanced_accuracy_stderr(wanted[:, columns], scores[:, columns]),
        "count": len(wanted),
        "per_attribute": each,
    }


def predicted_attributes(run: build.Run, stored: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """How well attributes are inferred, at the mean of q(z | the other modalities)."""
    name = attribute_modality(run)
    if name is None or name not in run.model.generated or len(run.model.modalities) < 2:
        return {}
    others = [other for other in run.model.modalities if other != name]
    if not run.model.infers(others):
        return {}
    parts = []
    for batch, _, count in blocks(run, stored):
        given = {other: batch[other] for other in others}
        found = jm.predict(run.model, run.variables, given, targets=(name,))[name]
        parts.append(np.asarray(found)[:count])
    return scored(run, stored[name], np.concatenate(parts))
