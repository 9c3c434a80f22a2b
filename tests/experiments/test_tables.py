"""The table's arithmetic and its words, on rows that are made up."""

import json

import numpy as np
import pytest

from experiments import tables, workdir
from experiments.configs import mnist
from experiments.scores import name_of

SHARE = {"share": 0.5, "stderr": 0.01, "count": 100, "per_class": []}
COHERENCE = {
    "label_to_image": SHARE,
    "frechet_distance": {"from_labels": {"estimate": 3.0, "stderr": 0.2, "num_images": 10}},
}


def likelihood(target, given, proposal, estimate):
    return {
        "target": target,
        "given": given,
        "proposal": proposal,
        "estimator": "importance",
        "estimate": estimate,
        "stderr": 0.25,
        "mc_stderr": 0.01,
        "ess": 2.0,
        "num_examples": 4,
        "num_samples": 10,
    }


def run_folder(folder, config):
    folder.mkdir(parents=True)
    workdir.write_config(folder, config)
    rows = [
        {"step": 100, "split": "train", "examples_per_second": 100.0},
        {"step": 300, "split": "train", "examples_per_second": 400.0},
        {"step": 300, "split": "validation"},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_the_rows_are_the_papers_systems_with_its_recipe():
    assert list(tables.MNIST_ROWS) == [
        "vae",
        "cvae",
        "cmma",
        "jmvae_zero",
        "jmvae_kl_0.01",
        "jmvae_kl_0.1",
        "jmvae_kl_1",
    ]
    for name, row in tables.MNIST_ROWS.items():
        config = row.config(500, smoke=False)
        expected = mnist.get_config(row.variant)
        if row.variant == "jmvae_kl":
            expected.objective.alpha = float(name.rpartition("_")[2])
        assert config.to_dict() == expected.to_dict()
        assert row.paper.keys() <= tables.QUANTITIES.keys()


def test_the_papers_figures_say_how_sure_they_are():
    kinds = {sure for row in tables.MNIST_ROWS.values() for _, sure in row.paper.values()}
    assert kinds == {"table", "code", "memory"}
    assert tables.MNIST_ROWS["jmvae_kl_0.1"].paper["log p(x) multiple"] == (-86.86, "code")
    assert tables.MNIST_ROWS["jmvae_kl_1"].paper["log p(x|w) single"] == (-112.7, "memory")


def test_time_is_added_up_over_the_rows_of_training(tmp_path):
    folder = run_folder(tmp_path / "run", mnist.get_config("vae"))
    # 100 steps of 100 at 100 a second, and 200 of 100 at 400.
    assert tables.training_minutes(folder) == pytest.approx((100 + 50) / 60)


def entry_of(tmp_path, name, likelihoods, vi=()):
    row = tables.MNIST_ROWS[name]
    folder = run_folder(tmp_path / name, row.config(50, smoke=False))
    results = {
        "step": 30_000,
        "seconds": 90.0,
        "log_likelihood": likelihoods,
        "variation_of_information": list(vi),
        "coherence": COHERENCE,
    }
    return tables.entry(row, folder, results)


def jmvae_entry(tmp_path, name="jmvae_kl_0.1"):
    both, image, label = ["image", "label"], ["image"], ["label"]
    return entry_of(
        tmp_path,
        name,
        [
            likelihood(both, [], both, -87.0),
            likelihood(image, [], both, -86.5),
            likelihood(image, [], image, -86.25),
            likelihood(image, label, label, -130.0),
        ],
        [{"proposal": "multiple", "estimate": 85.0, "stderr": 0.25, "mc_stderr": 0.1}],
    )


def test_a_row_has_its_likelihoods_by_column_and_the_papers_beside(tmp_path):
    entry = jmvae_entry(tmp_path)
    found = {column: row["estimate"] for column, row in entry["log_likelihood"].items()}
    assert found == {
        "log p(x,w)": -87.0,
        "log p(x) multiple": -86.5,
        "log p(x) single": -86.25,
        "log p(x|w) single": -130.0,
        "VI multiple": 85.0,
    }
    assert entry["paper"]["log p(x,w)"] == {"value": -86.93, "sure": "table"}
    assert entry["minutes"] == {"training": 2.5, "evaluation": 1.5}
    assert entry["overrides"] == {"objective.alpha": 0.1}


def test_the_evidence_of_a_vae_is_a_marginal_by_its_own_encoder(tmp_path):
    entry = entry_of(tmp_path, "vae", [likelihood(["image"], [], ["image"], -87.0)])
    assert list(entry["log_likelihood"]) == ["log p(x) single"]


def test_differences_are_paired_over_the_examples():
    rng = np.random.default_rng(0)
    hard = rng.normal(-87, 20, 1000)
    name = name_of(("image", "label"), (), ("image", "label"))
    values = {
        "jmvae_zero": {name: (hard + rng.normal(0.5, 1, 1000)).astype(np.float32)},
        "jmvae_kl_0.1": {name: hard.astype(np.float32), "other": hard},
        "vae": {"other": hard},
    }
    (found,) = tables.differences(values)
    assert (found["quantity"], found["first"], found["second"]) == (
        "log p(x,w)",
        "jmvae_zero",
        "jmvae_kl_0.1",
    )
    apart = values["jmvae_zero"][name].astype(float) - values["jmvae_kl_0.1"][name]
    assert found["estimate"] == pytest.approx(apart.mean())
    assert found["stderr"] == pytest.approx(apart.std(ddof=1) / np.sqrt(1000))
    assert found["stderr"] < 0.05 < hard.std() / np.sqrt(1000)


def test_the_markdown_says_ours_the_papers_and_how_sure(tmp_path):
    table = {
        "table": "mnist",
        "epochs": 50,
        "num_samples": 1000,
        "num_examples": 10_000,
        "smoke": False,
        "command": "python experiments/reproduce.py --out=DIR",
        "rows": {
            "jmvae_kl_0.1": jmvae_entry(tmp_path),
            "jmvae_kl_1": jmvae_entry(tmp_path, "jmvae_kl_1"),
        },
        "differences": [
            {
                "quantity": "log p(x,w)",
                "first": "jmvae_kl_0.1",
                "second": "jmvae_kl_1",
                "estimate": 2.0,
                "stderr": 0.1,
                "num_examples": 10_000,
            }
        ],
        "failed": {"cmma": "train.py: exit status 1: disk full"},
    }
    text = tables.markdown(table)
    assert "# mnist: 50 epochs, K = 1,000, 10,000 test examples" in text
    lines = text.splitlines()
    (row,) = [line for line in lines if line.startswith("| jmvae_kl_0.1 | -87.00")]
    assert row == (
        "| jmvae_kl_0.1 | -87.00 ± 0.25 (-86.93) | -86.50 ± 0.25 (-86.86) | "
        r"-86.25 ± 0.25 (-86.29\*) |  | -130.00 ± 0.25 (-126.0\*) |"
    )
    # A bar inside a cell would end it.
    assert r"log p(x\|w) multiple" in text
    assert "| jmvae_kl_1 | -2.00 ± 0.10 |" in text
    assert "| cmma | train.py: exit status 1: disk full |" in text
    assert "| jmvae_kl_0.1 | 0.5000 ± 0.0100 |  |  |  | 3.00 ± 0.20 |  | 2.5, 1.5 |" in text
    for part in ("## The image", "## Coherence", "## Differences to jmvae_kl_0.1"):
        table_lines = text.partition(part)[2].split("##")[0].strip().splitlines()
        widths = {line.replace(r"\|", "").count("|") for line in table_lines if line[:1] == "|"}
        assert len(widths) == 1
