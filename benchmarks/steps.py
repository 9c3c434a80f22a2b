"""Time of a configuration's step on this machine's first device, beside what the device can do.

    python benchmarks/steps.py [--steps=mnist:jmvae_kl:100:float32,celeb_a:jmvae_gan:128:bfloat16]

A step is named CONFIG:VARIANT:ROWS:PRECISION. Its data set has the right shapes, is drawn at random
and lies on the device. A dispatch of 20 steps is timed from its call to its last value: the median
of ten. "Of the product" is the arithmetic (counted by `arithmetic.py`) over the device's best
rate of a large matrix product in the same precision, measured in the same run; "predicted" is the
time of `prediction.py`, which is for an H100.
"""

import pathlib
import statistics
import sys
import time
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import measure
from benchmarks.prediction import BFLOAT16, CLUSTER, FLOAT32, Step, step_seconds
from benchmarks.shapes import Problem, kernels, problem
from experiments import build, cli
from jmvae_jax import parallel
from jmvae_jax.data.pipeline import Epoch

_STEPS = flags.DEFINE_list(
    "steps",
    [
        "mnist:jmvae_kl:100:float32",
        "mnist:jmvae_kl:100:bfloat16",
        "mnist:jmvae_kl:500:float32",
        "mnist:jmvae_kl:4096:float32",
        "mnist:jmvae_kl:4096:bfloat16",
        "celeb_a:jmvae_kl:128:float32",
        "celeb_a:jmvae_kl:128:bfloat16",
        "celeb_a:jmvae_gan:128:float32",
        "celeb_a:jmvae_gan:128:bfloat16",
    ],
    "CONFIG:VARIANT:ROWS:PRECISION, each.",
)
_LARGEST = flags.DEFINE_integer("largest", 4096, "Rows of the largest matrix product.", 512)

DISPATCHED = 20
REPEATS = 10
LIMITS = {np.uint8: 256, np.int8: 2, np.int32: 10}
"""Of stored values, by their type."""


def drawn(of: Problem) -> Epoch:
    """The data set, at random."""
    arrays = {
        name: jax.random.randint(jax.random.key(n), v.shape, 0, LIMITS[v.dtype.type], v.dtype)
        for n, (name, v) in enumerate(of.stored().items())
    }
    return Epoch(arrays, {}, jnp.arange(of.num_examples, dtype=jnp.int32))


def timed(of: Problem, rows: int) -> tuple[float, Any]:
    """Median seconds of a step, and the compiled dispatch."""
    program = of.compiled(rows)
    state = build.initial_state(of.config, of.experiment)
    shown = {name: np.zeros((1, *v.shape[1:]), v.dtype) for name, v in of.stored(1).items()}
    tally = of.experiment.start_tally(state, shown)
    devices = parallel.DataParallel((jax.devices()[0],))
    state, tally, epoch, count = devices.place((state, tally, drawn(of), np.int32(DISPATCHED)))
    found = []
    for _ in range(REPEATS + 2):
        started = time.perf_counter()
        state, tally = program(state, tally, epoch, count)
        jax.block_until_ready(tally)
        found.append((time.perf_counter() - started) / DISPATCHED)
    return statistics.median(found[2:]), program


def line(words: str, rates: dict[str, float]) -> list[Any]:
    """A row of the table."""
    data, variant, rows, precision = words.split(":")
    of, count = problem(data, variant, precision=precision), int(rows)
    seconds, program = timed(of, count)
    work, text = of.work(count), program.as_text()
    size, memory = sum(of.parameters), program.memory_analysis()
    step = Step(work.flops / count, work.moved / count, size, 0, 0, kernels(text))
    machine = FLOAT32 if precision == "float32" else BFLOAT16
    predicted = step_seconds(step, count, 1, machine, CLUSTER)
    rate = work.flops / seconds
    return [
        words.replace(":", " "),
        f"{1e3 * seconds:.3f}",
        f"{count / seconds:,.0f}",
        f"{rate / 1e12:.2f}",
        f"{rate / rates[precision]:.3f}",
        kernels(text),
        f"{1e6 * seconds / kernels(text):.2f}",
        f"{memory.temp_size_in_bytes / 1e6:,.0f}",
        f"{1e3 * predicted:.3f}",
    ]


def main() -> None:
    sizes = [2**power for power in range(9, _LARGEST.value.bit_length())]
    rates = {str(np.dtype(t)): measure.matrix_rate(t, sizes) for t in (jnp.float32, jnp.bfloat16)}
    products = ", ".join(f"{rate / 1e12:.2f} TFLOP/s {name}" for name, rate in rates.items())
    device = jax.devices()[0]
    print(f"{device.device_kind}, JAX {jax.__version__}: large matrix product {products};")
    print(f"copy {measure.copy_rate() / 1e9:,.0f} GB/s read and written")
    head = ["step", "ms", "examples/s", "TFLOP/s", "of the product", "kernels", "µs a kernel"]
    head += ["temporary MB", "predicted ms"]
    lines = []
    for words in _STEPS.value:
        lines.append(line(words, rates))
        print(" | ".join(map(str, lines[-1])), flush=True)
    print(measure.grid(head, lines))


if __name__ == "__main__":
    cli.launch(main)
