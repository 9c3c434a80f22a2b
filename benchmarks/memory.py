"""Peak memory of MNIST's training and of its evaluation at K = 5000, as the system counts it.

    python benchmarks/memory.py [--num_samples=5000] [--num_examples=100]

Each command is a process of its own; its largest resident set is printed.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from absl import flags

from benchmarks import measure
from experiments import cli

_NUM_SAMPLES = flags.DEFINE_integer("num_samples", 5000, "K.", 1)
_NUM_EXAMPLES = flags.DEFINE_integer("num_examples", 100, "That are evaluated.", 2)


def peak(script: str, *words: str) -> float:
    """Bytes of the largest resident set of a command of `experiments/`.

    Raises:
      RuntimeError: it failed.
    """
    command = [sys.executable, str(ROOT / "experiments" / script), *words]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(run.pid, 0)
    if status:
        raise RuntimeError(f"{script} ended with status {os.waitstatus_to_exitcode(status)}")
    return 1024.0 * usage.ru_maxrss


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = ROOT / "experiments" / "configs" / "mnist.py"
        workdir = f"--workdir={folder}"
        training = peak(
            "train.py", f"--config={config}:jmvae_kl", "--config.train.epochs=1", workdir
        )
        numbers = (f"--{f.name}={f.value}" for f in (_NUM_SAMPLES, _NUM_EXAMPLES))
        evaluation = peak("evaluate.py", workdir, *numbers)
    lines = [
        ["training", f"{training / 1e9:.2f}"],
        [f"evaluation, K = {_NUM_SAMPLES.value}", f"{evaluation / 1e9:.2f}"],
    ]
    print(measure.grid(["peak memory", "GB"], lines))


if __name__ == "__main__":
    cli.launch(main)
