"""A table as people read it: Markdown from what `reproduce.py` wrote to `table.json`."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.tables import TABLES, Table


def _grid(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    bars = [[cell.replace("|", "\\|").replace("*", "\\*") for cell in cells] for cells in rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in bars)


def _likelihood_cell(row: Mapping[str, Any], column: str) -> str:
    ours, paper = row["log_likelihood"].get(column), row["paper"].get(column)
    if ours is None:
        return ""
    cell = f"{ours['estimate']:.2f} ± {ours['stderr']:.2f}"
    if paper is None:
        return cell
    loose = {"memory, about": "about ", "memory, low": "low: "}.get(paper["sure"], "")
    value = f"{paper['value']:.{1 if loose else 2}f}"
    return f"{cell} ({loose}{value}{'*' if paper['sure'].startswith('memory') else ''})"


def _share_cell(found: Mapping[str, Any] | None) -> str:
    return "" if found is None else f"{found['share']:.4f} ± {found['stderr']:.4f}"


SHARES = {
    "label→image": "label_to_image",
    "resampled": "label_to_image_resampled",
    "by likelihood": "label_to_image_resampled_by_likelihood",
    "image→label": "image_to_label",
    "joint": "joint",
}
"""Column -> measure of coherence."""


def _coherence_cells(found: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    distances = found["frechet_distance"]
    return [_share_cell(found.get(SHARES[name])) for name in columns] + [
        _estimate_cell(distances.get(name), 2) for name in ("from_labels", "from_prior")
    ]


def markdown(table: Mapping[str, Any]) -> str:
    """The table as people read it."""
    kind = TABLES[table["table"]]
    rows, columns = table["rows"], list(kind.quantities)
    source = ""
    if any(row.paper for row in kind.rows.values()):
        source = (
            f", the paper's figure ({kind.epochs} epochs) in brackets; a star marks one that is "
            "not checked against the paper"
        )
    parts = [
        f"# {table['table']}: {table['epochs']} epochs, K = {table['num_samples']:,}, "
        f"{table['num_examples']:,} test examples" + (" (smoke)" if table["smoke"] else ""),
        f"    {table['command']}",
        f"x is the image, w the {kind.condition}. Log-likelihoods are in nats, mean ± standard "
        f'error over the examples{source}. "Multiple": draws of q(z|x,w); "single": draws of '
        f"the encoder of what is given, or of the image or {kind.condition} alone. Conditionals "
        "are estimates, not bounds; an effective sample size (table.json) near 1 means a loose "
        "one.",
    ]
    if kind.remark:
        parts.append(kind.remark)
    titles = ("The image", f"The {kind.condition}")
    for title, some in zip(titles, (columns[:5], columns[5:]), strict=True):
        lines = [[name, *(_likelihood_cell(row, c) for c in some)] for name, row in rows.items()]
        kept = [line for line in lines if any(line[1:])]
        if kept:
            parts += [f"## {title}", _grid(["row", *some], kept)]
    judged = _label_part if kind.condition == "label" else _attributes_part
    parts += judged(rows, table["epochs"])
    parts += _difference_part(kind, table)
    if table["failed"]:
        lines = [[name, words] for name, words in table["failed"].items()]
        parts += ["## Failed", _grid(["row", "error"], lines)]
    return "\n\n".join(parts) + "\n"


def _costs(row: Mapping[str, Any], epochs: int) -> list[str]:
    """Cells of `COSTS`; rows of older tables say theirs where they are not the table's `epochs`."""
    of_row = row.get("epochs", row.get("overrides", {}).get("train.epochs", epochs))
    return [str(of_row), "{training}, {evaluation}".format(**row["minutes"])]


COSTS = ("epochs", "minutes (training, evaluation)")


def _label_part(rows: Mapping[str, Any], epochs: int) -> list[str]:
    """What a judge of classes sees."""
    judged = {name for row in rows.values() for name in row["coherence"]}
    some = [c for c, name in SHARES.items() if "resampled" not in name or name in judged]
    head = [*some, "Fréchet, labels", "Fréchet, prior"]
    lines = [
        [name, *_coherence_cells(row["coherence"], some), *_costs(row, epochs)]
        for name, row in rows.items()
    ]
    resampled = (
        "resampled and by likelihood: the same with z chosen among several, by p(w|z) p(z) / "
        "q(z|w) and by p(w|z) alone. "
        if "resampled" in some
        else ""
    )
    return [
        "## Coherence",
        "label→image: share of images in which a classifier reads the label, z drawn from "
        f"q(z|label). {resampled}image→label: share of test images whose label is inferred, at "
        "the mean of q(z|image). joint: share of draws from the prior in which it reads the drawn "
        "label. "
        "Fréchet: distance to the test images in its features, of images from the test labels and "
        "from the prior; no FID.",
        _grid(["row", *head, *COSTS], lines),
        *_mean_part(rows),
    ]


def _attributes_part(rows: Mapping[str, Any], epochs: int) -> list[str]:
    """What a judge of attributes sees."""
    head = ["image→w", "w→image", "w→image, mean", "precision, image→w"]
    first = [[name, *_attribute_cells(row)] for name, row in rows.items()]
    sets = ("from_attributes", "from_prior")
    second = [
        [
            name,
            *(
                _estimate_cell(row["coherence"][measure].get(kind), digits)
                for measure, digits in (("sharpness", 0), ("frechet_distance", 0))
                for kind in sets
            ),
            *_costs(row, epochs),
        ]
        for name, row in rows.items()
    ]
    of_real = [row["coherence"]["sharpness"]["real"]["estimate"] for row in rows.values()]
    real = f"; that of real test images is {of_real[0]:.0f}" if of_real else ""
    return [
        "## Attributes",
        "Balanced accuracy, mean over the visible attributes. image→w: of the attributes inferred "
        "from test images, at the mean of q(z|x). w→image: of what a classifier reads in images "
        "generated from the test examples' attributes, z drawn from q(z|w), and at its mean. "
        "precision: average precision of what is inferred. Cells are empty where a model does not "
        "infer or generate that.",
        _grid(["row", *head], [line for line in first if any(line[1:])]),
        "## Images",
        "sharpness: variance of the Laplacian, mean over images generated from the test examples' "
        f"attributes and over 5,000 from the prior{real}. Fréchet: distance to the test images in "
        "the classifier's features; no FID, and one that falls with the number of images: compare "
        "within a column.",
        _grid(
            [
                "row",
                "sharpness, attributes",
                "sharpness, prior",
                "Fréchet, attributes",
                "Fréchet, prior",
                *COSTS,
            ],
            second,
        ),
    ]


def _attribute_cells(row: Mapping[str, Any]) -> list[str]:
    inferred, found = row.get("attributes"), row["coherence"]
    parts = (
        inferred,
        found.get("attributes_to_image"),
        found.get("attributes_to_image_at_mean"),
    )
    cells = [
        ""
        if part is None or part["stderr"] is None
        else f"{part['balanced_accuracy']:.4f} ± {part['stderr']:.4f}"
        for part in parts
    ]
    precision = None if inferred is None else inferred["average_precision"]
    return [*cells, "" if precision is None else f"{precision:.4f}"]


def _estimate_cell(found: Mapping[str, Any] | None, digits: int) -> str:
    if found is None:
        return ""
    return f"{found['estimate']:.{digits}f} ± {found['stderr']:.{digits}f}"


def _mean_part(rows: Mapping[str, Any]) -> list[str]:
    """What the judge reads at the mean of q(z|label)."""
    found = {name: row["coherence"].get("label_to_image_at_mean") for name, row in rows.items()}
    words = [f"{name} {f['share'] * f['count']:.0f}" for name, f in found.items() if f]
    if not words:
        return []
    return [
        "At the mean of q(z|label) there is one picture a class, so this is no measure; right of "
        f"ten: {', '.join(words)}."
    ]


def _difference_part(kind: Table, table: Mapping[str, Any]) -> list[str]:
    """Differences to the reference; table.json has every pair."""
    cells: dict[str, dict[str, str]] = {}
    for found in table["differences"]:
        if kind.reference in (found["first"], found["second"]):
            turn = -1 if found["first"] == kind.reference else 1
            other = found["second"] if turn < 0 else found["first"]
            text = f"{turn * found['estimate']:+.2f} ± {found['stderr']:.2f}"
            cells.setdefault(other, {})[found["quantity"]] = text
    if not cells:
        return []
    columns = [c for c in kind.quantities if any(c in row for row in cells.values())]
    lines = [[name, *(row.get(c, "") for c in columns)] for name, row in cells.items()]
    return [
        f"## Differences to {kind.reference}",
        "Nats, with standard errors paired over the examples.",
        _grid(["row", *columns], lines),
    ]
