"""Trains a model, or goes on with a run that was stopped.

    python experiments/train.py --config=experiments/configs/mnist.py:jmvae_kl --workdir=DIR

Any key of the configuration can be set: `--config.train.epochs=20`. The same command goes on
from the newest whole checkpoint in DIR.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags
from ml_collections import config_flags

from experiments import cli, processes, runs

_CONFIG = config_flags.DEFINE_config_file("config", None, "File of a configuration, :VARIANT.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
_PROFILE_STEPS = flags.DEFINE_list(
    "profile_steps",
    [],
    "FIRST,LAST: a trace (jax.profiler) of the steps between, for TensorBoard's profile plugin "
    "or Perfetto; in WORKDIR/plugins/profile.",
)
flags.mark_flag_as_required("config")


def profile_steps() -> tuple[int, int] | None:
    """The steps that are to be traced.

    Raises:
      ValueError: they are not two whole numbers, the second larger.
    """
    words = _PROFILE_STEPS.value
    if not words:
        return None
    numbers = [int(word) for word in words if word.isdecimal()]
    if len(numbers) != 2 or len(words) != 2 or numbers[0] >= numbers[1]:
        raise ValueError(f"profile_steps={','.join(words)!r}: expected FIRST,LAST, say 10,20")
    return numbers[0], numbers[1]


def main() -> int:
    processes.join()
    return runs.run(_CONFIG.value, _WORKDIR.value, profile_steps())


if __name__ == "__main__":
    cli.launch(main)
