"""The table's arithmetic and its words, on rows that are made up."""

import json
import pathlib

import numpy as np
import pytest
import zoo

from experiments import reproduce, tables, workdir
from experiments.configs import mnist
from experiments.markdown import markdown
from experiments.scores import name_of, variation_of_information

MNIST = tables.TABLES["mnist"]
SHARE = {"share": 0.5, "stderr": 0.01, "count": 100, "per_class": []}
COHERENCE = {
    "label_to_image": SHARE,
    "label_to_image_at_mean": {"share": 0.7, "stderr": 0.14, "count": 10, "per_class": []},
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


def test_what_a_row_is_made_from_comes_before_it():
    found = tables.TABLES["ablation"].in_order(["posthoc_full", "joint_1_full", "posthoc_full"])
    assert found == ["alpha_0", "posthoc_full", "joint_1_full"]
    assert MNIST.in_order(MNIST.rows) == list(MNIST.rows)


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
        config = MNIST.config(name, 500, smoke=False)
        expected = mnist.get_config(row.variant)
        if row.variant == "jmvae_kl":
            expected.objective.alpha = float(name.rpartition("_")[2])
        assert config.to_dict() == expected.to_dict()
        assert row.paper.keys() <= MNIST.quantities.keys()


def test_the_papers_figures_are_those_of_its_table():
    t, c, m, a, low = "table", "code", "memory", "memory, about", "memory, low"
    columns = list(MNIST.quantities)[:5]
    assert columns == [
        "log p(x,w)",
        "log p(x) multiple",
        "log p(x) single",
        "log p(x|w) multiple",
        "log p(x|w) single",
    ]
    none = None
    expected = {
        "vae": (none, none, (-86.91, m), none, none),
        "cvae": (none, none, none, (-83.8, m), none),
        "cmma": (none, none, none, (-86.12, m), none),
        "jmvae_zero": ((-86.96, t), (-86.89, m), none, (-84.64, m), none),
        "jmvae_kl_0.01": ((-86.94, t), (-86.89, m), (-86.55, m), (-84.61, m), (-129.6, low)),
        "jmvae_kl_0.1": ((-86.93, t), (-86.86, c), (-86.29, m), (-84.6, a), (-126.0, low)),
        "jmvae_kl_1": ((-89.28, t), (-89.2, m), (-86.93, m), (-86.75, m), (-112.7, low)),
    }
    for name, figures in expected.items():
        found = tables.MNIST_ROWS[name].paper
        assert tuple(found.get(column) for column in columns) == figures
        assert set(found) <= set(columns)


def test_time_is_added_up_over_the_rows_of_training(tmp_path):
    folder = run_folder(tmp_path / "run", mnist.get_config("vae"))
    # 100 steps of 100 at 100 a second, and 200 of 100 at 400.
    assert tables.training_minutes(folder) == pytest.approx((100 + 50) / 60)


def entry_of(tmp_path, name, likelihoods, vi=()):
    folder = run_folder(tmp_path / name, MNIST.config(name, 50, smoke=False))
    results = {
        "step": 30_000,
        "seconds": 90.0,
        "log_likelihood": likelihoods,
        "variation_of_information": list(vi),
        "coherence": COHERENCE,
    }
    return tables.entry(MNIST, name, folder, results)


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
        [{"kind": "multiple", "estimate": 85.0, "stderr": 0.25, "mc_stderr": 0.1}],
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
    (found,) = tables.differences(MNIST, values)
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
    text = markdown(table)
    assert "# mnist: 50 epochs, K = 1,000, 10,000 test examples" in text
    lines = text.splitlines()
    (row,) = [line for line in lines if line.startswith("| jmvae_kl_0.1 | -87.00")]
    assert row == (
        "| jmvae_kl_0.1 | -87.00 ± 0.25 (-86.93) | -86.50 ± 0.25 (-86.86) | "
        r"-86.25 ± 0.25 (-86.29\*) |  | -130.00 ± 0.25 (low: -126.0\*) |"
    )
    # A bar inside a cell would end it.
    assert r"log p(x\|w) multiple" in text
    assert "| jmvae_kl_1 | -2.00 ± 0.10 |" in text
    assert "| cmma | train.py: exit status 1: disk full |" in text
    assert "| jmvae_kl_0.1 | 0.5000 ± 0.0100 |  |  | 3.00 ± 0.20 |  | 50 | 2.5, 1.5 |" in text
    assert "no measure; right of ten: jmvae_kl_0.1 7, jmvae_kl_1 7." in text
    for part in ("## The image", "## Coherence", "## Differences to jmvae_kl_0.1"):
        table_lines = text.partition(part)[2].split("##")[0].strip().splitlines()
        widths = {line.replace(r"\|", "").count("|") for line in table_lines if line[:1] == "|"}
        assert len(widths) == 1


READ = {
    "accuracy": 0.9,
    "balanced_accuracy": 0.875,
    "average_precision": 0.8,
    "stderr": 0.0025,
    "count": 10,
    "per_attribute": {},
}


def face_entry(tmp_path, name, conditional):
    epochs = 9 if conditional else 5
    folder = run_folder(tmp_path / name, tables.TABLES["faces"].config(name, epochs, smoke=False))
    number = {"estimate": 120.0, "stderr": 4.0, "num_images": 10}
    sets = ["from_attributes"] if conditional else ["from_attributes", "from_prior"]
    x, w = ["image"], ["attributes"]
    results = {
        "step": 100,
        "seconds": 60.0,
        "log_likelihood": [likelihood(x, w, x + w, -13_000.0)],
        "variation_of_information": [],
        "coherence": {
            "attributes_to_image": READ,
            "attributes_to_image_at_mean": READ | {"balanced_accuracy": 0.9},
            "sharpness": {"real": number | {"estimate": 2800.0}} | dict.fromkeys(sets, number),
            "frechet_distance": dict.fromkeys(sets, number | {"estimate": 7.0}),
        },
    }
    if not conditional:
        results["attributes"] = READ
    return tables.entry(tables.TABLES["faces"], name, folder, results)


def test_the_markdown_of_faces_says_what_is_drawn_and_of_what_density(tmp_path):
    rows = {
        name: face_entry(tmp_path, name, name == "cvae_gan") for name in ("jmvae_kl", "cvae_gan")
    }
    head = {"table": "faces", "epochs": 5, "num_samples": 10, "num_examples": 4, "smoke": False}
    text = markdown({**head, "command": "python", "rows": rows, "differences": [], "failed": {}})
    assert "synthetic drawings" in text
    assert "attributes: normal_tanh (scale 0.1); image: normal (scale 1)." in text
    assert "in brackets" not in text
    assert "| jmvae_kl | 0.8750 ± 0.0025 | 0.8750 ± 0.0025 | 0.9000 ± 0.0025 | 0.8000 |" in text
    assert "| cvae_gan |  | 0.8750 ± 0.0025 | 0.9000 ± 0.0025 |  |" in text
    assert "| jmvae_kl | 120 ± 4 | 120 ± 4 | 7 ± 4 | 7 ± 4 | 5 | 0.4, 1.0 |" in text
    assert "| cvae_gan | 120 ± 4 |  | 7 ± 4 |  | 9 | 0.4, 1.0 |" in text
    assert "that of real test images is 2800" in text


def test_celeb_a_has_the_papers_second_table():
    rows = tables.TABLES["celeb_a"].rows
    assert rows["jmvae_gan"].paper["log p(x|w) single"] == (-4852.23, "memory")
    assert rows["vae_gan"].paper == {"log p(x) single": (-4439.30, "memory")}
    assert "normal_channel_mean" in tables.TABLES["celeb_a"].remark
    assert set(rows) == set(tables.TABLES["faces"].rows)
    for name in rows:
        assert tables.TABLES["celeb_a"].config(name, 7, smoke=True).train.epochs == 7


# Scores and finished rows


def test_the_variation_of_information_is_minus_both_conditionals():
    model = zoo.ZOO["jmvae_kl_2"].model
    both, image, label = ["image", "label"], ["image"], ["label"]
    conditionals = {
        "multiple": [(image, label, both), (label, image, both)],
        "single": [(image, label, label), (label, image, image)],
    }
    rng = np.random.default_rng(0)
    queries = [(both, [], both), (image, [], image), (label, [], both)]
    queries += [query for pair in conditionals.values() for query in pair]
    values = {name_of(*query): rng.normal(-50, 3, 40).astype(np.float32) for query in queries}
    expected = {
        kind: -(values[name_of(*pair[0])].astype(float) + values[name_of(*pair[1])])
        for kind, pair in conditionals.items()
    }
    rows = [likelihood(*query, 0.0) for query in queries]
    found = variation_of_information(model, rows, values)
    assert [row["kind"] for row in found] == ["multiple", "single"]
    for row in found:
        terms = expected[row["kind"]]
        assert row["estimate"] == pytest.approx(terms.mean())
        assert row["stderr"] == pytest.approx(terms.std(ddof=1) / np.sqrt(40))
        assert row["mc_stderr"] == pytest.approx(0.02)
        np.testing.assert_allclose(values[f"VI {row['kind']}"], terms, rtol=1e-6)


@pytest.mark.parametrize("name", ["vae", "jmvae_kl_3", "cvae_2"])
def test_other_models_have_no_variation_of_information(name):
    assert variation_of_information(zoo.ZOO[name].model, [], {}) == []


REQUEST = reproduce.Request("mnist", 3, 10, 4, 20, smoke=False)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A table's folder with one finished row."""
    monkeypatch.setattr(tables.Table, "num_steps", lambda *args: 600 * REQUEST.epochs)
    config = MNIST.config("vae", 3, smoke=False)
    run = run_folder(tmp_path / "rows" / "vae", config)
    results = {
        "step": 1800,
        "split": "test",
        "num_samples": 10,
        "num_examples": 4,
        "num_images": 20,
        "seconds": 60.0,
        "log_likelihood": [likelihood(["image"], [], ["image"], -90.0)],
        "variation_of_information": [],
        "coherence": COHERENCE,
    }
    workdir.write_json(run / "results.json", results)
    workdir.write_arrays(run / "values.npz", {name_of(["image"], [], ["image"]): np.zeros(4)})
    return tmp_path


def test_a_row_is_finished_if_it_is_what_was_asked_for(made):
    entry, values = reproduce.finished("vae", made, REQUEST)
    assert entry["log_likelihood"]["log p(x) single"]["estimate"] == -90.0
    assert list(values) == ["log p(image) from q(z|image)"]
    assert reproduce.finished("cvae", made, REQUEST) is None
    for change in ({"num_samples": 11}, {"num_examples": 5}, {"num_images": 21}, {"epochs": 4}):
        other = reproduce.dataclasses.replace(REQUEST, **change)
        assert reproduce.finished("vae", made, other) is None


@pytest.mark.parametrize(
    ("name", "text"), [("results.json", "{"), ("config.json", "{"), ("values.npz", "PK")]
)
def test_a_damaged_row_is_named_and_leaves_the_others_alone(made, name, text, capsys):
    (made / "rows" / "vae" / name).write_text(text)
    with pytest.raises(ValueError, match=r"rows/vae holds results that cannot be read"):
        reproduce.finished("vae", made, REQUEST)
    failed = reproduce.make_table(["vae"], made, REQUEST, children=None)
    assert "cannot be read" in failed["vae"]
    table = json.loads((made / "table.json").read_text())
    assert (table["rows"], table["failed"]) == ({}, failed)
    assert "error: row vae failed" in capsys.readouterr().err


def test_results_of_an_older_kind_are_named(made):
    path = made / "rows" / "vae" / "results.json"
    results = json.loads(path.read_text())
    del results["coherence"]
    path.write_text(json.dumps(results))
    with pytest.raises(ValueError, match="cannot be read"):
        reproduce.finished("vae", made, REQUEST)


def test_a_failure_stays_in_the_table_until_its_row_is_finished(made, monkeypatch):
    wrong = {"cmma": "train.py: exit status 1: disk full"}
    monkeypatch.setattr(reproduce, "make_row", lambda name, *args: wrong.get(name))
    assert reproduce.make_table(["cmma"], made, REQUEST, children=None) == wrong
    assert reproduce.make_table(["vae"], made, REQUEST, children=None) == wrong
    table = json.loads((made / "table.json").read_text())
    assert (list(table["rows"]), table["failed"]) == (["vae"], wrong)
    assert "--epochs=3 --rows=vae,cmma " in table["command"]
    wrong.clear()
    assert reproduce.make_table(["cmma"], made, REQUEST, children=None) == {}


def test_a_folder_with_another_table_is_refused(made):
    reproduce.write_table(made, REQUEST, {})
    other = reproduce.dataclasses.replace(REQUEST, epochs=4)
    with pytest.raises(ValueError, match=r"holds another table\. It differs in epochs: 3 -> 4"):
        reproduce.make_table(["vae"], made, other, children=None)


# Past the paper


def test_the_ablation_has_gradients_families_and_missing_rates():
    table = tables.TABLES["ablation"]
    families = [name for name in table.rows if name.startswith("joint_1_")]
    assert len(families) == 5
    for name, row in table.rows.items():
        if not row.source:
            config = table.config(name, 20, False)
            assert config.objective.name == "jmvae_kl"
            assert config.train.epochs in (20, 100)
    for alpha in ("0.1", "1"):
        for mode in ("joint", "detached"):
            config = table.config(f"{mode}_{alpha}_mixture_10_full", 20, False)
            assert config.objective.alignment == mode
            assert config.objective.alpha == float(alpha)
            assert config.modalities.label.posterior == "mixture:10:full"
    dropped = table.config("missing_0.5_dropped", 20, False).data
    assert (dropped.missing_rates.to_dict(), dropped.missing_rows) == (
        {"image": 0.5, "label": 0.5},
        "drop",
    )
    assert table.config("missing_0.5_masked", 20, False).model.inference == "masked"


def test_a_row_after_training_is_another_row_aligned(monkeypatch):
    table = tables.TABLES["ablation"]
    monkeypatch.setattr(tables.Table, "num_steps", lambda *args: 12_000)
    config = table.config("posthoc_full", 20, False)
    assert config.objective.alignment == "posthoc"
    assert config.source.to_dict() == {
        "variant": "jmvae_kl_fast",
        "step": 12_000,
        "objective": {
            "name": "jmvae_kl",
            "num_samples": 1,
            "alpha": 0.0,
            "alignment": "joint",
            "divergence": "forward",
        },
        "train": {
            "epochs": 20,
            "learning_rate": 2e-3,
            "schedule": "warmup_cosine",
            "warmup_fraction": 0.2,
            "clip_norm": 0.0,
            "average_decay": 0.0,
        },
        "posteriors": {"label": "diagonal"},
    }
    assert config.modalities.label.posterior == "full"
    request = reproduce.Request("ablation", 20, 1000, 10_000, 1000, False)
    script, words = reproduce._training("posthoc_full", pathlib.Path("out"), request)
    assert script == "align.py"
    assert words == [
        "--workdir=out/rows/alpha_0",
        "--out=out/rows/posthoc_full",
        "--posteriors=label=full",
        "--epochs=20",
    ]
