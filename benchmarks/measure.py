"""What a machine can do at best, measured beside whatever is compared with it; and tables."""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jmvae_jax import parallel
from jmvae_jax.training import metrics

ROOT = pathlib.Path(__file__).resolve().parents[1]

SIZES = (512, 1024, 2048, 4096)
"""Of square matrices; an accelerator needs larger ones."""


def matrix_rate(dtype: Any = jnp.float32, sizes: Sequence[int] = SIZES) -> float:
    """Best rate of a product of square matrices over `sizes`, in FLOP a second."""
    product = parallel.jit(jnp.matmul)
    best = 0.0
    for size in sizes:
        values = jax.random.normal(jax.random.key(size), (size, size), dtype)
        best = max(best, 2 * size**3 / best_seconds(lambda values=values: product(values, values)))
    return best


def copy_rate(size: int = 1 << 30) -> float:
    """Bytes a second that a pass over an array of `size` bytes reads and writes."""
    values = jnp.zeros(size // 4, jnp.float32)
    add = parallel.jit(lambda x: x + 1)
    return 2 * size / best_seconds(lambda: add(values))


def best_seconds(function: Callable[[], Any], repeats: int = 5) -> float:
    """Shortest time from a call to its last value, after one that is not counted."""
    jax.block_until_ready(function())
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(function())
        found.append(time.perf_counter() - started)
    return min(found)


def run_rate(
    config: str, num_examples: int, train: Mapping[str, int], words: Sequence[str] = ()
) -> float:
    """Examples a second of a run of `experiments/train.py`, from its first row of metrics on.

    Args:
      config: `FILE:VARIANT` in experiments/configs.
      num_examples: of the training split.
      train: `epochs`, `batch_size` and other settings of `config.train`.
      words: further ones of the command.

    Raises:
      RuntimeError: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            str(ROOT / "experiments" / "train.py"),
            f"--config={ROOT / 'experiments' / 'configs' / config}",
            *(f"--config.train.{name}={value}" for name, value in train.items()),
            *words,
            f"--workdir={folder}",
        ]
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        with subprocess.Popen(command, **pipes) as run:
            path = pathlib.Path(folder) / metrics.METRICS_FILE
            while run.poll() is None and not (path.exists() and path.stat().st_size):
                time.sleep(0.002)
            started = time.perf_counter()
            assert run.stdout is not None
            said = [(line, time.perf_counter()) for line in run.stdout]
        if run.returncode or not said[-1][0].startswith("finished"):
            raise RuntimeError(f"train.py ended with status {run.returncode}")
        first = metrics.read_rows(folder, "train")[0]["step"]
        done = train["epochs"] * (num_examples // train["batch_size"]) - first
        return done * train["batch_size"] / (said[-1][1] - started)


PEER = pathlib.Path(__file__).parent / "peers" / "multivae_jmvae.py"


def peer(python: str, what: str, batch: int, steps: int = 300) -> float:
    """Examples or samples a second of MultiVae, see peers/multivae_jmvae.py.

    Raises:
      CalledProcessError: it failed; what it said is on stderr.
    """
    words = [python, str(PEER), f"--measure={what}", f"--batch={batch}", f"--steps={steps}"]
    said = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
    return float(json.loads(said.splitlines()[-1])["per_second"])


def shown(values: dict[str, float]) -> dict[str, float]:
    """Prints a measurement on one line, and gives it back."""
    print("; ".join(f"{name} {value:,.3g}" for name, value in values.items()), flush=True)
    return values


def medians(measured: Sequence[dict[str, float]]) -> str:
    """A Markdown table of medians, and of the range of each."""
    lines = []
    for name in measured[0]:
        values = [one[name] for one in measured]
        shape = ",.0f" if min(values) >= 100 else ".3f"
        low, middle, high = (format(f(values), shape) for f in (min, statistics.median, max))
        lines.append([name, middle, f"{low} ... {high}"])
    return grid(["", f"median of {len(measured)}", "range"], lines)


def grid(head: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    rows = [head, ["---"] + ["---:"] * (len(head) - 1), *lines]
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in rows)
