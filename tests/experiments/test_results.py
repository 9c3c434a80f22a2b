"""The figures in the README are those of the committed results."""

import json
import pathlib
import re

EXPERIMENTS = pathlib.Path(__file__).resolve().parents[2] / "experiments"


def test_every_figure_of_the_table_stands_in_its_file():
    table = re.findall(
        r"^\| log p\(.*\) \| (\S+) ± \S+ \| (\S+) ± \S+ \|$",
        (EXPERIMENTS / "README.md").read_text(),
        re.MULTILINE,
    )
    for column, name in enumerate(("constant", "cosine")):
        path = EXPERIMENTS / "results" / f"mnist_20_epochs_{name}.json"
        rows = json.loads(path.read_text())["log_likelihood"]
        assert [row[column] for row in table] == [f"{row['estimate']:.2f}" for row in rows]
        assert all(row["num_examples"] == 10_000 for row in rows)
