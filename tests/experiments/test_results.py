"""What is committed under `experiments/results/`: what the commands wrote, and what it shows."""

import json
import pathlib
import re

import numpy as np
import pytest

from experiments import tables
from experiments.markdown import markdown
from experiments.rows import FAMILIES

EXPERIMENTS = pathlib.Path(__file__).resolve().parents[2] / "experiments"
RESULTS = EXPERIMENTS / "results"
TABLES = {name: RESULTS / f"mnist_{name}_epochs" for name in (50, 500)}


def table_of(epochs):
    return json.loads((TABLES[epochs] / "table.json").read_text())


@pytest.fixture(scope="module")
def short():
    return table_of(50)


def estimate(table, row, column):
    return table["rows"][row]["log_likelihood"][column]["estimate"]


def share(table, row, name):
    return table["rows"][row]["coherence"][name]["share"]


def test_every_figure_of_the_readmes_table_stands_in_its_file():
    table = re.findall(
        r"^\| log p\(.*\) \| (\S+) ± \S+ \| (\S+) ± \S+ \|$",
        (RESULTS / "README.md").read_text().partition("## Twenty epochs")[2],
        re.MULTILINE,
    )
    for column, name in enumerate(("constant", "cosine")):
        path = RESULTS / f"mnist_20_epochs_{name}.json"
        rows = json.loads(path.read_text())["log_likelihood"]
        assert [row[column] for row in table] == [f"{row['estimate']:.2f}" for row in rows]
        assert all(row["num_examples"] == 10_000 for row in rows)


@pytest.mark.parametrize("epochs", TABLES)
def test_a_committed_table_is_whole_and_its_markdown_is_its_own(epochs):
    table = table_of(epochs)
    assert (TABLES[epochs] / "table.md").read_text() == markdown(table)
    assert table["failed"] == {}
    head = ("mnist", epochs, 1000, 10_000, 1000, False)
    names = ("table", "epochs", "num_samples", "num_examples", "num_images", "smoke")
    assert tuple(table[name] for name in names) == head
    for row in table["rows"].values():
        assert row["step"] == 600 * epochs
        for found in row["log_likelihood"].values():
            assert found["stderr"] > 0
            assert found["mc_stderr"] > 0
        shares = [v for k, v in row["coherence"].items() if isinstance(v, dict) and "share" in v]
        assert all(found["stderr"] >= 0 and len(found["per_class"]) == 10 for found in shares)
        assert all(d["stderr"] > 0 for d in row["coherence"]["frechet_distance"].values())
        assert row["coherence"]["judge"]["grey"] >= 0.985


def test_the_papers_recipe_reaches_the_papers_figures():
    table = table_of(500)
    assert list(table["rows"]) == ["jmvae_kl_0.1"]
    joint, multiple, single = (
        estimate(table, "jmvae_kl_0.1", column)
        for column in ("log p(x,w)", "log p(x) multiple", "log p(x) single")
    )
    assert -87.25 <= joint <= -86.0
    assert -87.2 <= multiple <= -86.0
    assert multiple - 0.05 <= single <= -86.0


def test_the_table_has_every_row(short):
    assert list(short["rows"]) == list(tables.MNIST_ROWS)


def test_alpha_one_costs_joint_fit(short):
    (found,) = [
        d
        for d in short["differences"]
        if (d["quantity"], d["first"], d["second"]) == ("log p(x,w)", "jmvae_kl_0.1", "jmvae_kl_1")
    ]
    assert found["estimate"] >= 0.3
    assert found["estimate"] > 5 * found["stderr"]


def test_the_conditional_of_cvae_is_the_best(short):
    column = "log p(x|w) multiple"
    ours = {name: estimate(short, name, column) for name in short["rows"] if name != "vae"}
    assert max(value for name, value in ours.items() if "jmvae" in name) < ours["cvae"]


def test_images_from_labels_alone_are_better_explained_as_alpha_grows(short):
    column = "log p(x|w) single"
    order = ("jmvae_zero", "jmvae_kl_0.01", "jmvae_kl_0.1", "jmvae_kl_1")
    values = [estimate(short, name, column) for name in order]
    assert values == sorted(values)
    assert values[0] < values[1] - 20


def test_coherence_is_largest_at_alpha_one_and_zero_is_below_all(short):
    order = ("jmvae_zero", "jmvae_kl_0.01", "jmvae_kl_0.1", "jmvae_kl_1")
    zero, least, middle, one = (share(short, name, "label_to_image") for name in order)
    assert zero < 0.2 < 0.5 <= min(least, middle)
    assert max(least, middle) < one
    # Between 0.01 and 0.1 the runs do not differ by more than chance.
    assert abs(least - middle) < 3 * np.hypot(0.0048, 0.0048)
    counts = {short["rows"][n]["coherence"]["label_to_image"]["count"] for n in order}
    assert counts == {10_000}


def test_labels_are_read_from_images(short):
    for name in ("jmvae_kl_0.01", "jmvae_kl_0.1"):
        assert share(short, name, "image_to_label") >= 0.98
    # Alpha 1 pays for its coherence here as well.
    assert 0.97 <= share(short, "jmvae_kl_1", "image_to_label") < 0.98


# Faces


@pytest.fixture(scope="module")
def faces():
    return json.loads((RESULTS / "faces_5_epochs" / "table.json").read_text())


def read_in(table, row, name):
    return table["rows"][row]["coherence"][name]["balanced_accuracy"]


def test_the_table_of_faces_is_whole_and_its_markdown_is_its_own(faces):
    assert (RESULTS / "faces_5_epochs" / "table.md").read_text() == markdown(faces)
    assert list(faces["rows"]) == list(tables.FACES_ROWS)
    assert faces["failed"] == {}
    for row in faces["rows"].values():
        assert row["step"] == 6250
        assert row["coherence"]["judge"]["balanced_accuracy"] >= 0.95
        counts = {d["num_images"] for d in row["coherence"]["frechet_distance"].values()}
        assert counts <= {2000, 5000}


def test_attributes_are_inferred_and_drawn(faces):
    found = faces["rows"]["jmvae_kl"]["attributes"]
    assert found["balanced_accuracy"] >= 0.85
    assert len(found["per_attribute"]) == 40
    drawn = {
        name: read_in(faces, name, "attributes_to_image") for name in ("jmvae_kl", "jmvae_zero")
    }
    assert drawn["jmvae_kl"] >= 0.75
    assert drawn["jmvae_zero"] < drawn["jmvae_kl"] - 0.05


@pytest.mark.parametrize("kind", ["from_attributes", "from_prior"])
def test_the_discriminator_makes_images_sharper_and_more_like_real_ones(faces, kind):
    plain, adversarial = (faces["rows"][name]["coherence"] for name in ("jmvae_kl", "jmvae_gan"))
    sharp = [found["sharpness"][kind]["estimate"] for found in (plain, adversarial)]
    assert sharp[0] < sharp[1] < plain["sharpness"]["real"]["estimate"]
    apart = [found["frechet_distance"][kind] for found in (plain, adversarial)]
    error = np.hypot(apart[0]["stderr"], apart[1]["stderr"])
    assert apart[1]["estimate"] < apart[0]["estimate"] - 3 * error
    drawn = [read_in(faces, name, "attributes_to_image") for name in ("jmvae_kl", "jmvae_gan")]
    assert abs(drawn[0] - drawn[1]) <= 0.05


# Past the paper


@pytest.fixture(scope="module")
def past():
    folder = RESULTS / "mnist_20_epochs_past"
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def likelihood(results, target, given, proposal):
    (found,) = (
        row
        for row in results["log_likelihood"]
        if (row["target"], row["given"], row["proposal"]) == (target, given, proposal)
    )
    return found


def words(found):
    return f"{found['estimate']:.2f} ± {found['stderr']:.2f}"


def test_the_readmes_figures_past_the_paper_stand_in_their_files(past):
    text = (RESULTS / "README.md").read_text()
    both = ["image", "label"]
    for results in past.values():
        assert (results["num_samples"], results["num_examples"]) == (1000, 10_000)
        assert words(likelihood(results, both, [], both)) in text
        assert words(likelihood(results, ["image"], ["label"], ["label"])) in text
        assert f"{results['coherence']['label_to_image']['share']:.4f}" in text
    for name in ("missing_0.5_masked", "missing_0.5_dropped"):
        assert words(likelihood(past[name], ["image"], [], ["image"])) in text
        assert f"{past[name]['accuracy']['label']:.4f}" in text
    for name in ("alpha_0_20_draws", "joint_1_diagonal_20_draws"):
        assert f"{past[name]['coherence']['label_to_image_resampled']['share']:.4f}" in text


def test_incomplete_rows_are_worth_more_than_a_nat_and_a_half(past):
    both = ["image", "label"]
    masked, dropped = (
        likelihood(past[f"missing_0.5_{how}"], both, [], both)["estimate"]
        for how in ("masked", "dropped")
    )
    assert masked - dropped > 1.5
    assert past["missing_0.5_masked"]["accuracy"]["label"] > 0.96


def test_the_papers_alignment_costs_joint_fit_at_alpha_one(past):
    both = ["image", "label"]
    free, aligned = (
        likelihood(past[name], both, [], both)["estimate"]
        for name in ("alpha_0_20_draws", "joint_1_diagonal_20_draws")
    )
    assert free - aligned > 0.5


@pytest.fixture(scope="module")
def fast():
    folder = RESULTS / "mnist_100_epochs_fast"
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("seed_?.json")}


def test_the_fast_recipe_is_better_than_the_papers_five_hundred_epochs(fast):
    text, both = (RESULTS / "README.md").read_text(), ["image", "label"]
    assert set(fast) == {"seed_0", "seed_1"}
    found = [likelihood(results, both, [], both) for results in fast.values()]
    mean = sum(one["estimate"] for one in found) / len(found)
    assert mean > -86.6
    assert f"Their mean is {mean:.2f} where" in text
    for results in fast.values():
        assert (results["num_samples"], results["num_examples"]) == (1000, 10_000)
        assert results["step"] == 60_000
        for one in (("image", "label"), ()), (("image",), ()), (("image",), ("label",)):
            target, given = (list(names) for names in one)
            source = given or target
            assert words(likelihood(results, target, given, source)) in text
        assert f"{results['accuracy']['label']:.4f}" in text
        for name in ("", "_resampled", "_resampled_by_likelihood"):
            assert f"{results['coherence'][f'label_to_image{name}']['share']:.4f}" in text


@pytest.mark.parametrize("epochs", [10, 20])
def test_the_ablation_is_written_as_it_is_kept(epochs):
    folder = RESULTS / f"ablation_{epochs}_epochs"
    table = json.loads((folder / "table.json").read_text())
    assert (folder / "table.md").read_text() == markdown(table)
    assert (table["epochs"], table["failed"]) == (epochs, {})


def joint_less_alpha_0(table):
    """Row -> its log p(image, label) less that of alpha 0."""
    return {
        row["first"]: row["estimate"]
        for row in (turned(found, "alpha_0") for found in table["differences"])
        if row and row["quantity"] == "log p(x,w)"
    }


def test_a_detached_alignment_costs_no_joint_fit():
    folder, text = RESULTS / "ablation_20_epochs", (RESULTS / "README.md").read_text()
    table = json.loads((folder / "table.json").read_text())
    apart = joint_less_alpha_0(table)
    assert abs(apart["detached_1_diagonal"]) < 0.3
    assert apart["joint_1_diagonal"] < -0.5
    for name in ("joint_1_diagonal", "detached_1_diagonal"):
        assert f"{apart[name]:+.2f} ± " in text
        assert words(table["rows"][name]["log_likelihood"]["log p(x,w)"]) in text
        assert f"{share(table, name, 'label_to_image'):.4f}" in text


@pytest.mark.parametrize("family", FAMILIES)
def test_the_readme_sums_the_ablation_up(family):
    text = (RESULTS / "README.md").read_text()
    table = json.loads((RESULTS / "ablation_10_epochs" / "table.json").read_text())
    apart, cells = joint_less_alpha_0(table), [f"`{family}`"]
    for way in ("joint_0.1", "joint_1", "detached_0.1", "detached_1", "posthoc"):
        row = f"{way}_{family.replace(':', '_')}"
        cells.append(f"{apart[row]:+.2f}, {share(table, row, 'label_to_image'):.4f}")
    assert f"| {' | '.join(cells)} |" in text


def test_the_ablation_is_whole_and_the_readme_has_what_missing_rows_cost():
    text = (RESULTS / "README.md").read_text()
    table = json.loads((RESULTS / "ablation_10_epochs" / "table.json").read_text())
    assert list(table["rows"]) == list(tables.ABLATION_ROWS)
    costs = {row: -value for row, value in joint_less_alpha_0(table).items()}
    for rate in ("0.2", "0.5"):
        masked, dropped = (costs[f"missing_{rate}_{way}"] for way in ("masked", "dropped"))
        assert f"{rate}: {masked:.2f} and {dropped:.2f}" in text
    assert costs["missing_0.5_dropped"] - costs["missing_0.5_masked"] >= 1.5
    assert share(table, "missing_0.5_masked", "image_to_label") > 0.96


def turned(found, reference):
    """A difference to the reference, however it is stored; None: it is of two others."""
    if found["second"] == reference:
        return found
    if found["first"] != reference:
        return None
    return {**found, "first": found["second"], "estimate": -found["estimate"]}


def test_a_flow_after_training_shows_more_labels(fast):
    flow = json.loads((RESULTS / "mnist_100_epochs_fast" / "seed_0_flow.json").read_text())
    text, given = (RESULTS / "README.md").read_text(), (["image"], ["label"], ["label"])
    assert words(likelihood(flow, *given)) in text
    for name in ("", "_resampled", "_resampled_by_likelihood"):
        found, before = (
            results["coherence"][f"label_to_image{name}"]["share"]
            for results in (flow, fast["seed_0"])
        )
        assert f"{found:.4f}" in text
        assert found > before


@pytest.mark.parametrize("name", ["seed_0_flow", "kl_flow"])
def test_a_flow_explains_images_ten_nats_better_than_a_gaussian(name):
    text = (RESULTS / "README.md").read_text()
    path = RESULTS / "mnist_100_epochs_fast" / f"{name}_less_seed_0.json"
    apart = {row["quantity"]: row for row in json.loads(path.read_text())}
    found = apart["log p(image|label) from q(z|label)"]
    assert found["num_examples"] == (2000 if name == "seed_0_flow" else 10_000)
    assert found["estimate"] > 10
    assert f"{found['estimate']:.2f} ± {found['stderr']:.2f}" in text
    joint = apart["log p(image,label) from q(z|image,label)"]
    if name == "seed_0_flow":
        assert abs(joint["estimate"]) < 1e-3
    else:
        assert words(joint) in text


@pytest.mark.parametrize(
    "name",
    [
        "kl_flow_2000",
        "kl_flow_2_draws_alpha_0.2",
        "kl_flow_1_draw_rate_1e-3",
        "kl_flow_1_draw",
    ],
)
def test_what_was_tried_of_the_flow_stands_in_one_table(name):
    folder, text = RESULTS / "mnist_100_epochs_fast", (RESULTS / "README.md").read_text()
    results = json.loads((folder / f"{name}.json").read_text())
    apart = json.loads((folder / f"{name}_less_seed_0.json").read_text())
    found = {row["quantity"]: f"{row['estimate']:+.2f} ± {row['stderr']:.2f}" for row in apart}
    columns = [found["log p(image,label) from q(z|image,label)"]]
    columns.append(found["log p(image|label) from q(z|label)"])
    for kind in ("", "_resampled_by_likelihood"):
        columns.append(f"{results['coherence'][f'label_to_image{kind}']['share']:.4f}")
    assert f"| {' | '.join(columns)} |" in text


@pytest.mark.parametrize("name", ["kl_flow", "kl_flow_again"])
def test_a_flow_from_the_beginning_shows_labels_and_keeps_the_joint(name):
    results = json.loads((RESULTS / "mnist_100_epochs_fast" / f"{name}.json").read_text())
    text, both = (RESULTS / "README.md").read_text(), ["image", "label"]
    assert (results["num_samples"], results["num_examples"]) == (1000, 10_000)
    assert (results["step"], results["variant"]) == (60_000, "jmvae_kl_flow")
    joint = likelihood(results, both, [], both)
    assert joint["estimate"] > -87
    assert words(joint) in text
    assert words(likelihood(results, ["image"], ["label"], ["label"])) in text
    shares = {
        how: results["coherence"][f"label_to_image{how}"]["share"]
        for how in ("", "_resampled", "_resampled_by_likelihood")
    }
    assert shares[""] > 0.95
    assert shares["_resampled_by_likelihood"] > 0.97
    for share_of in (*shares.values(), results["accuracy"]["label"]):
        assert f"{share_of:.4f}" in text
