"""Speed of the likelihoods of MNIST's JMVAE-kl, beside the best matrix product and beside a peer.

    python benchmarks/likelihood.py [--examples=200] [--num_samples=1000] [--peer=PYTHON]

Each pair measures, in turn: the joint likelihood; the paper's five together (the joint, and of the
image its marginal and its conditional, from q(z | both) and from its own proposal: three proposals
in all); all nine with the label's; the matrix product; and with `--peer` MultiVae's
`compute_joint_nll` under `no_grad` (peers/README.md). A sample is one z and its two decoders, 1.993
MFLOP. The parameters are the initial ones: the arithmetic does not depend on them.
`--chunks=500,1000,2000` instead measures the joint by `chunk_rows`.
"""

import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import jax
import jax.numpy as jnp
from absl import flags

import jmvae_jax as jm
from benchmarks import measure
from benchmarks.shapes import problem
from experiments import build, cli
from jmvae_jax import evaluation

_EXAMPLES = flags.DEFINE_integer("examples", 200, "Rows of the batch.", 1)
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", 1000, "K.", 1)
_PAIRS = flags.DEFINE_integer("pairs", 5, "How often everything is measured.", 1)
_PEER = flags.DEFINE_string("peer", None, "Python that has MultiVae.")
_CHUNKS = flags.DEFINE_list("chunks", [], "Sizes of chunk_rows to compare.")

FLOP_A_SAMPLE = 2 * (2 * (64 * 512 + 512 * 512) + 512 * 784 + 512 * 10)


def main() -> None:
    of = problem("mnist", "jmvae_kl")
    model = of.experiment.model
    variables = build.initial_state(of.config, of.experiment).variables
    rows = _EXAMPLES.value
    pixels = jax.random.bernoulli(jax.random.key(1), 0.2, (rows, 28, 28, 1))
    labels = jax.random.randint(jax.random.key(2), (rows,), 0, 10)
    batch = {"image": pixels.astype(jnp.float32), "label": jax.nn.one_hot(labels, 10)}
    nine = evaluation.standard_queries(model)
    five = [query for query in nine if "image" in query.target]
    wanted = {"joint": nine[:1], "five": five, "nine": nine}

    def seconds(name: str, **options: int) -> float:
        started = time.perf_counter()
        found = jm.estimate(
            model, variables, jax.random.key(3), batch, wanted[name], _NUM_SAMPLES.value, **options
        )
        jax.block_until_ready(found)
        return time.perf_counter() - started

    def pair() -> dict[str, float]:
        matrix = measure.matrix_rate()
        taken = {name: seconds(name) for name in wanted}
        matrix = max(matrix, measure.matrix_rate())
        rate = rows * _NUM_SAMPLES.value / taken["joint"]
        found = {
            "matrix, GFLOP/s": matrix / 1e9,
            "joint, samples/s": rate,
            "of the matrix product": rate * FLOP_A_SAMPLE / matrix,
            "five over the joint": taken["five"] / taken["joint"],
            "nine over the joint": taken["nine"] / taken["joint"],
        }
        if _PEER.value:
            theirs = measure.peer(_PEER.value, "likelihood", 100, rows)
            found |= {"peer's joint, samples/s": theirs, "over the peer's": rate / theirs}
        return found

    def by_chunk() -> dict[str, float]:
        options = ({"chunk_rows": int(size)} for size in _CHUNKS.value)
        return {
            f"chunk_rows={one['chunk_rows']}, samples/s": rows
            * _NUM_SAMPLES.value
            / seconds("joint", **one)
            for one in options
        }

    one = by_chunk if _CHUNKS.value else pair
    one()  # compiles
    print(measure.medians([measure.shown(one()) for _ in range(_PAIRS.value)]))


if __name__ == "__main__":
    cli.launch(main)
