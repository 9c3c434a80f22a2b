"""Differences between evaluations, paired over the examples."""

import json

import numpy as np
import pytest
from scipy import stats

from experiments import scores, workdir
from experiments.configs import mnist
from jmvae_jax.training.checkpoints import Checkpoints

HEAD = {"dataset": "mnist", "split": "test", "step": 10, "num_samples": 10}


def evaluation(count, seed, variant="jmvae_kl", **changes):
    rng = np.random.default_rng(seed)
    values = {"log p(image)": rng.normal(-90, 5, count).astype(np.float32)}
    results = {**HEAD, "num_examples": count, **changes}
    return workdir.Evaluation(mnist.get_config(variant), results, values)


def written(folder, one):
    folder.mkdir()
    workdir.write_config(folder, one.config)
    workdir.write_json(folder / workdir.RESULTS_FILE, one.results)
    workdir.write_arrays(folder / workdir.VALUES_FILE, one.values)
    return folder


def test_a_difference_has_the_error_of_the_paired_test():
    first, second = evaluation(40, 0), evaluation(40, 1)
    (found,) = scores.compared(first, second)
    ours, theirs = (one.values["log p(image)"].astype(np.float64) for one in (first, second))
    test = stats.ttest_rel(ours, theirs)
    np.testing.assert_allclose(found["estimate"] / found["stderr"], test.statistic)
    np.testing.assert_allclose((found["first"], found["second"]), (ours.mean(), theirs.mean()))
    assert (found["quantity"], found["num_examples"]) == ("log p(image)", 40)
    (turned,) = scores.compared(second, first)
    assert (turned["estimate"], turned["stderr"]) == (-found["estimate"], found["stderr"])


def test_the_examples_that_both_have_are_compared_in_what_both_have():
    first, second = evaluation(40, 0), evaluation(30, 1)
    first.values["log p(label)"] = np.zeros(40, np.float32)
    (found,) = scores.compared(first, second)
    cut = {name: values[:30] for name, values in first.values.items()}
    shorter = first._replace(results={**HEAD, "num_examples": 30}, values=cut)
    assert [found] == scores.compared(shorter, second)


def test_models_of_other_modalities_are_compared_in_what_both_have():
    assert scores.compared(evaluation(40, 0), evaluation(40, 1, "vae"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("likelihood", "normal"),
        ("transform", "unit_interval"),
        ("likelihood_options", {"scale": 2}),
    ],
)
def test_other_densities_are_not_compared(key, value):
    other = evaluation(40, 1)
    with other.config.unlocked():
        other.config.modalities.image[key] = value
    with pytest.raises(ValueError, match=f"differ in modalities.image.{key}: "):
        scores.compared(evaluation(40, 0), other)


@pytest.mark.parametrize(
    ("changes", "values", "words"),
    [
        ({"num_samples": 20}, None, "differ in num_samples: 10 and 20"),
        ({"dataset": "kmnist"}, None, "differ in dataset: 'mnist' and 'kmnist'"),
        ({"split": "train"}, None, "differ in split: 'test' and 'train'"),
        ({}, {"log p(sound)": np.zeros(40)}, "no likelihood in common"),
    ],
)
def test_what_cannot_be_compared_is_refused(changes, values, words):
    other = evaluation(40, 1, **changes)
    with pytest.raises(ValueError, match=words):
        scores.compared(evaluation(40, 0), other._replace(values=values or other.values))


def test_the_command_prints_and_keeps_the_differences(command, tmp_path):
    first, second = evaluation(40, 0), evaluation(40, 1)
    folders = [written(tmp_path / name, one) for name, one in (("a", first), ("b", second))]
    out = tmp_path / "apart.json"
    made = command("compare", f"--workdirs={folders[0]},{folders[1]}", f"--out={out}")
    assert made.returncode == 0, made.stderr
    kept = json.loads(out.read_text())
    assert kept == scores.compared(first, second)
    numbers = [f"{kept[0][name]:.2f}" for name in ("first", "second", "estimate", "stderr")]
    assert "  ".join(["log p(image)", *numbers]).split() in [
        line.split() for line in made.stdout.splitlines()
    ]
    checkpoints = Checkpoints(workdir.checkpoints_path(folders[1]))
    checkpoints.save(100, {"weights": np.zeros(3)})
    stale = command("compare", f"--workdirs={folders[0]},{folders[1]}")
    assert stale.returncode == 1
    assert "and is at step 100: evaluate it again" in " ".join(stale.stderr.split())
    (folders[1] / workdir.VALUES_FILE).unlink()
    refused = command("compare", f"--workdirs={folders[0]},{folders[1]}")
    assert refused.returncode == 1
    assert "has no values.npz: run experiments/evaluate.py on it first" in " ".join(
        refused.stderr.split()
    )
