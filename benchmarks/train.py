"""Speed of a whole training run beside the machine's best large matrix product.

    python benchmarks/train.py [--batch_size=100] [--epochs=2] [--repeats=5]

Each repeat trains the paper's MNIST JMVAE-kl with data, logging and checkpoints, measures the
matrix product before and after, and takes their ratio; the median of the ratios is printed.
Arithmetic is counted as 16.70 MFLOP an example, whatever the program executes.
"""

import itertools
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from absl import flags

from benchmarks import measure
from experiments import cli
from jmvae_jax.training import metrics

_BATCH_SIZE = flags.DEFINE_integer("batch_size", 100, "Of the training.", 1)
_EPOCHS = flags.DEFINE_integer("epochs", 2, "Of each repeat.", 1)
_REPEATS = flags.DEFINE_integer("repeats", 5, "Pairs of measurements.", 1)

MFLOP_AN_EXAMPLE = 16.70


def training_rate() -> tuple[float, float]:
    """Examples a second: over a whole run but its compilation, and the median of its rows."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            str(ROOT / "experiments" / "train.py"),
            f"--config={ROOT / 'experiments' / 'configs' / 'mnist.py'}:jmvae_kl",
            f"--config.train.epochs={_EPOCHS.value}",
            f"--config.train.batch_size={_BATCH_SIZE.value}",
            f"--workdir={folder}",
        ]
        subprocess.run(command, check=True, capture_output=True)
        rows = metrics.read_rows(folder, "train")
    # The first row holds the compilation, and every row the time of its own steps.
    steps = [after["step"] - before["step"] for before, after in itertools.pairwise(rows)]
    seconds = [
        count * _BATCH_SIZE.value / row["examples_per_second"]
        for count, row in zip(steps, rows[1:], strict=True)
    ]
    whole = sum(steps) * _BATCH_SIZE.value / sum(seconds)
    return whole, statistics.median(row["examples_per_second"] for row in rows[1:])


def main() -> None:
    ratios = []
    print("matrix GFLOP/s   examples/s (whole)   examples/s (median row)   ratio (whole)")
    for _ in range(_REPEATS.value):
        before = measure.matrix_rate() / 1e9
        whole, row = training_rate()
        rate = max(before, measure.matrix_rate() / 1e9)
        ratios.append(whole * MFLOP_AN_EXAMPLE / 1e3 / rate)
        print(f"{rate:14.1f}   {whole:18.0f}   {row:23.0f}   {ratios[-1]:13.3f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.3f} at batch {_BATCH_SIZE.value}")


if __name__ == "__main__":
    cli.launch(main)
