"""Speed of a whole training run, beside the machine's best matrix product and beside a peer.

    python benchmarks/train.py [--batch_size=100] [--epochs=2] [--pairs=5] [--peer=PYTHON]

A run is `experiments/train.py` on the paper's MNIST JMVAE-kl, with data, logging, validation and
checkpoints; its clock starts when the first row of metrics is there (100 steps, after compilation)
and stops when the run has ended. Each pair runs it between two measurements of the matrix product.
Arithmetic is counted as 16.70 MFLOP an example, 15.13 with the peer's joint encoder, whatever the
program executes. With `--peer`, the Python of an environment that has MultiVae (peers/README.md),
its Trainer and its bare step run in turn with ours, and all have its joint encoder.
"""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from absl import flags

from benchmarks import measure
from experiments import cli

_BATCH_SIZE = flags.DEFINE_integer("batch_size", 100, "Of the training.", 1)
_EPOCHS = flags.DEFINE_integer("epochs", 3, "Of each run.", 1)
_PAIRS = flags.DEFINE_integer("pairs", 5, "How often everything is measured.", 1)
_PEER = flags.DEFINE_string("peer", None, "Python that has MultiVae.")

MFLOP_AN_EXAMPLE = {"paper": 16.70, "peer": 15.13}
EXAMPLES = 60_000
PEERS_ENCODER = (
    "--config.modalities.image.branch=()",
    "--config.modalities.label.branch=()",
    "--config.model.trunk=(512, 512)",
)


def ours(shape: str) -> float:
    """Examples a second of a whole run."""
    options = {"epochs": _EPOCHS.value, "batch_size": _BATCH_SIZE.value}
    words = PEERS_ENCODER if shape == "peer" else ()
    return measure.run_rate("mnist.py:jmvae_kl", EXAMPLES, options, words)


def pair(shape: str) -> dict[str, float]:
    """One measurement of everything, as ratios and rates by name."""
    matrix = measure.matrix_rate()
    rate = ours(shape)
    matrix = max(matrix, measure.matrix_rate())
    found = {
        "matrix, GFLOP/s": matrix / 1e9,
        "examples/s": rate,
        "of the matrix product": rate * MFLOP_AN_EXAMPLE[shape] * 1e6 / matrix,
    }
    for name in ("trainer", "step") if _PEER.value else ():
        theirs = measure.peer(_PEER.value, name, _BATCH_SIZE.value)
        found |= {f"peer's {name}, examples/s": theirs, f"over the peer's {name}": rate / theirs}
    return found


def main() -> None:
    shape = "peer" if _PEER.value else "paper"
    pairs = [measure.shown(pair(shape)) for _ in range(_PAIRS.value)]
    print(measure.medians(pairs))


if __name__ == "__main__":
    cli.launch(main)
