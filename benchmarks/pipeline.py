"""Speed of streamed data: alone, and of training with them beside data held in memory.

    python benchmarks/pipeline.py [--pairs=5]

The data are the synthetic faces, 64 pixels wide. First the stream without a model: batches of 100
in the order of training, read by `config.data.workers` threads and placed on the device. Then, in
turn, whole runs of `experiments/train.py` on `synthetic_faces.py:jmvae_kl` with
`config.data.streamed` true and false.
"""

import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import jax
from absl import flags

from benchmarks import measure
from experiments import build, cli, inputs
from experiments.configs import synthetic_faces
from jmvae_jax import parallel

_PAIRS = flags.DEFINE_integer("pairs", 5, "How often everything is measured.", 1)
_EPOCHS = flags.DEFINE_integer("epochs", 2, "Of each run.", 1)
_EXAMPLES = flags.DEFINE_integer("examples", 4000, "Faces that a run trains on.", 1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "Of the training.", 1)

STREAMED_BATCH = 100


def stream_rate() -> float:
    """Images a second of an epoch of all faces, without a model."""
    config = synthetic_faces.get_config("jmvae_kl")
    config.train.batch_size, config.train.epochs = STREAMED_BATCH, 1
    config.data.streamed = True
    rows = inputs.TrainingRows(config)
    plan = build.build_plan(config, build.build(config, len(rows), inputs.load_statistics(config)))
    devices = parallel.DataParallel((jax.devices()[0],))
    with inputs.open_feed(config, rows, plan, jax.random.key(0), devices) as stream:
        started, step = time.perf_counter(), 0
        while step < plan.num_steps:
            jax.block_until_ready(stream(step))
            step = plan.next_stop(step)
        return plan.num_steps * STREAMED_BATCH / (time.perf_counter() - started)


def pair() -> dict[str, float]:
    """One measurement of everything."""
    options = {"epochs": _EPOCHS.value, "batch_size": _BATCH_SIZE.value, "log_every": 25}
    streamed, resident = (
        measure.run_rate(
            "synthetic_faces.py:jmvae_kl",
            _EXAMPLES.value,
            options,
            (
                f"--config.data.train_split=train[:{_EXAMPLES.value}]",
                f"--config.data.streamed={value}",
            ),
        )
        for value in (True, False)
    )
    return {
        "stream alone, images/s": stream_rate(),
        "training, streamed, images/s": streamed,
        "training, in memory, images/s": resident,
        "streamed over in memory": streamed / resident,
    }


def main() -> None:
    stream_rate()  # prepares the data
    print(measure.medians([measure.shown(pair()) for _ in range(_PAIRS.value)]))


if __name__ == "__main__":
    cli.launch(main)
