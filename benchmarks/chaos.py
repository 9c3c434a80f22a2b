"""Kills a training at random instants, and compares its end with that of an unbroken one.

    python benchmarks/chaos.py [--kills=20] [--during_save=5] [--seed=0] [--config=FILE:VARIANT]

Trains once from beginning to end, and once more with one SIGKILL after another: while the process
starts, in its first epoch, later in the training, and at least `during_save` times while a
checkpoint is being written. Then every array of the last checkpoints
has to be the same to the bit, and every row of metrics but for its examples a second.

Any key of the configuration can be set, as for `experiments/train.py`. A data set that would be
trained on whole is cut to its first 2000 examples. Programs are compiled once, by the unbroken run;
`--recompile` compiles them at every start, so that kills hit that as well, and takes longer.
"""

import collections
import contextlib
import itertools
import math
import os
import pathlib
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import jax
import numpy as np
from absl import flags
from ml_collections import config_flags

from experiments import build, cli, inputs, workdir
from jmvae_jax.training import metrics
from jmvae_jax.training.checkpoints import Checkpoints

CONFIG = f"{ROOT / 'experiments' / 'configs' / 'mnist.py'}:jmvae_kl"
EXAMPLES = 2000
POLL = 0.003  # seconds between two looks at a run's folder


class ChaosError(Exception):
    """A run did not do what it has to."""


def newest(folder: pathlib.Path) -> int:
    """The step of a run's newest checkpoint, 0 before the first."""
    return max(Checkpoints(workdir.checkpoints_path(folder)).steps(), default=0)


def marks(folder: pathlib.Path) -> set[tuple[str, int]]:
    """Name and last change of what each start writes anew: its configuration, unfinished saves."""
    found = set()
    unfinished = workdir.checkpoints_path(folder).glob("unfinished-*")
    for path in (folder / workdir.CONFIG_FILE, *unfinished):
        with contextlib.suppress(FileNotFoundError):
            found.add((path.name, path.stat().st_ctime_ns))
    return found


class Start:
    """One start of `experiments/train.py`, killed when the block ends, and what its folder shows.

    Args:
      words: flags of train.py but for the folder.
      folder: of the run.
      environment: variables beside our own.

    Attributes:
      before: step of the newest checkpoint when it started.
      history: states in the order in which `follow` saw them, and the second at which each began.
    """

    def __init__(
        self, words: Sequence[str], folder: pathlib.Path, environment: Mapping[str, str]
    ) -> None:
        self.folder, self.before, self.old_marks = folder, newest(folder), marks(folder)
        self.history: list[tuple[str, float]] = []
        self.log = folder.with_suffix(".log")
        script = str(ROOT / "experiments" / "train.py")
        with self.log.open("w") as output:
            self.began = time.perf_counter()
            # A session of its own is a group of its own: no child of it outlives a kill.
            self.process = subprocess.Popen(
                [sys.executable, script, *words, f"--workdir={folder}"],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    def __enter__(self) -> "Start":
        return self

    def __exit__(self, *error: Any) -> None:
        self.kill()

    def seconds(self) -> float:
        """Since it started."""
        return time.perf_counter() - self.began

    def state(self) -> str:
        """Where it stands; once it is dead, where it died.

        start-up, first epoch (compilation included), training (it has made a checkpoint), or save.
        """
        new = {name for name, _ in marks(self.folder) - self.old_marks}
        if new - {workdir.CONFIG_FILE}:
            return "save"
        if newest(self.folder) > self.before:
            return "training"
        return "first epoch" if new else "start-up"

    def follow(self, aim: str = "the end", visits: int = 1) -> None:
        """Returns when it enters the state `aim` for the `visits`-th time, or has ended."""
        while self.process.poll() is None:
            state = self.state()
            if not self.history or state != self.history[-1][0]:
                self.history.append((state, self.seconds()))
                visits -= state == aim
                if not visits:
                    return
            time.sleep(POLL)
        self.history.append(("the end", self.seconds()))

    def wait(self, seconds: float) -> None:
        """Lets it run for a while, but not past the next checkpoint."""
        until, step = self.seconds() + seconds, newest(self.folder)
        while self.seconds() < until and newest(self.folder) == step:
            time.sleep(POLL)

    def kill(self) -> bool:
        """Kills it with its children; false where it had ended by itself."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait() == -signal.SIGKILL

    def lengths(self) -> dict[str, float]:
        """State -> how many seconds it lasts, of those that `follow` saw begin and end."""
        found = collections.defaultdict(list)
        for (state, began), (_, ended) in itertools.pairwise(self.history):
            found[state].append(ended - began)
        return {state: statistics.median(each) for state, each in found.items()}

    def check(self) -> None:
        """Once it is dead: raises ChaosError unless it went on from the newest checkpoint."""
        said = re.search(r"going on from step (\d+)", self.log.read_text(errors="replace"))
        step = int(said[1]) if said else 0
        if step != self.before and (said or self.state() != "start-up"):
            raise ChaosError(f"went on from step {step}, where step {self.before} was there")

    def finish(self) -> None:
        """Lets it run to its end. Raises ChaosError where that is an error."""
        self.follow()
        if self.process.returncode != 0:
            raise ChaosError(
                f"train.py ended with status {self.process.returncode} after step {self.before}:\n"
                f"{self.log.read_text(errors='replace')}"
            )
        self.check()


def kill_again_and_again(
    run: Sequence[Any],
    kills: int,
    during_save: int,
    lengths: dict[str, float],
    rng: random.Random,
) -> list[str]:
    """Starts a run and kills it until there were enough kills; the states that they hit.

    Args:
      run: arguments of `Start`.
      kills: at least so many; more where the last ones have missed the save that was aimed at.
      during_save: at least so many of them leave an unfinished checkpoint.
      lengths: see `Start.lengths`, of a run like it; kept up with what is seen here.
      rng: of the instants.
    """
    made: list[str] = []
    others = itertools.cycle(("training", "start-up", "first epoch"))
    while len(made) < kills or made.count("save") < during_save:
        left, saves_left = kills - len(made), during_save - made.count("save")
        aim = "save" if rng.random() * left < saves_left else next(others)
        with Start(*run) as start:
            start.follow(aim, rng.randint(1, 2) if aim in ("training", "save") else 1)
            start.wait(rng.uniform(0, lengths[aim]))
            instant = start.seconds()
            if not start.kill():
                start.finish()
                raise ChaosError(f"the run ended after {len(made)} kills: give more --epochs")
        start.check()
        lengths.update(start.lengths())
        made.append(start.state())
        print(
            f"kill {len(made):2} after {instant:5.1f} s: {made[-1]:11}  "
            f"(newest checkpoint: step {newest(start.folder)})",
            flush=True,
        )
    return made


def arrays_of(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Path -> array, of everything in a run's newest whole checkpoint."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(build.load_run(folder).state)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def rows_of(folder: pathlib.Path) -> list[dict[str, Any]]:
    """A run's rows of metrics, without the one number that is not determined."""
    rows = metrics.read_rows(folder)
    return [{k: v for k, v in row.items() if k != "examples_per_second"} for row in rows]


def different_arrays(
    expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]
) -> list[str]:
    """Names of those that differ in any bit, or that one side lacks."""

    def bits(array: np.ndarray | None) -> Any:
        return None if array is None else (array.dtype, array.shape, array.tobytes())

    names = sorted(expected.keys() | found.keys())
    return [name for name in names if bits(expected.get(name)) != bits(found.get(name))]


def compare(whole: pathlib.Path, broken: pathlib.Path) -> str:
    """What was found equal, in words.

    Raises:
      ChaosError: the broken run differs from the whole one.
    """
    expected, rows = arrays_of(whole), rows_of(whole)
    wrong = different_arrays(expected, arrays_of(broken))
    if wrong:
        names = ", ".join(wrong[:5])
        raise ChaosError(f"{len(wrong)} of {len(expected)} arrays differ, the first are {names}")
    for row, other in itertools.zip_longest(rows, rows_of(broken)):
        if row != other:
            raise ChaosError(f"rows of metrics differ, the first of them are\n{row}\n{other}")
    listed, left = (sorted(os.listdir(workdir.checkpoints_path(run))) for run in (whole, broken))
    if left != listed:
        raise ChaosError(f"its checkpoints are {left}, the unbroken run's {listed}")
    return (
        f"all {len(expected)} arrays equal the unbroken run's, bit for bit; "
        f"{len(rows)} rows of metrics equal"
    )


def train_flags(epochs: int) -> list[str]:
    """Flags of train.py: the configuration that was asked for, with many short epochs."""
    config, flag = flags.FLAGS.config, flags.FLAGS["config"]
    # The data are prepared here, so that no start has to.
    inputs.load_statistics(config)
    inputs.load_split(config, config.data.validation_split)
    examples = len(inputs.load_split(config, config.data.train_split)["index"])
    if config.data.train_split == "train":
        config.data.train_split = f"train[:{min(EXAMPLES, examples)}]"
    return [
        f"--config={config_flags.get_config_filename(flag)}",
        f"--config.data.train_split={config.data.train_split}",
        f"--config.train.epochs={epochs}",
        "--config.train.checkpoint_every=1",
        *(f"--config.{k}={v}" for k, v in config_flags.get_override_values(flag).items()),
    ]


def chaos(folder: pathlib.Path) -> None:
    """Both runs in `folder`, and their comparison. Raises ChaosError where they differ."""
    kills, during_save = _KILLS.value, _DURING_SAVE.value
    during_save = math.ceil(kills / 4) if during_save is None else during_save
    # A start comes two checkpoints further at most, and only one in four of them does.
    words = train_flags(_EPOCHS.value or kills + 8)
    clock = time.perf_counter()
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    environment = {} if _RECOMPILE.value else cache
    with Start(words, folder / "whole", environment) as start:
        start.finish()
    lengths = start.lengths()
    print(
        f"unbroken: {lengths['start-up']:.1f} s of start-up, first checkpoint begun "
        f"{lengths['first epoch']:.1f} s later, {lengths['save']:.2f} s each, "
        f"{start.seconds():.0f} s in all",
        flush=True,
    )
    run = (words, folder / "broken", environment)
    made = kill_again_and_again(run, kills, during_save, lengths, random.Random(_SEED.value))
    with Start(*run) as start:
        start.finish()
    equal = compare(folder / "whole", folder / "broken")
    print(f"{len(made)} kills, {made.count('save')} of them during a save: {equal}")
    print(f"{(time.perf_counter() - clock) / 60:.1f} minutes")


def main() -> int:
    # ^C and SIGTERM leave no process and no folder behind.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="chaos_"))
    kept = False
    try:
        chaos(folder)
    except ChaosError as error:
        print(f"FAILED: {error}\nboth runs are kept in {folder}", file=sys.stderr)
        kept = True
    finally:
        if not kept:
            shutil.rmtree(folder)
    return int(kept)


if __name__ == "__main__":
    # Defined here and not at import: the tests use this file beside others with flags.
    _KILLS = flags.DEFINE_integer("kills", 20, "How often the run is killed.", 1)
    _DURING_SAVE = flags.DEFINE_integer("during_save", None, "In a save; a quarter of them.", 0)
    _EPOCHS = flags.DEFINE_integer("epochs", None, "Of the training; enough for the kills.", 1)
    _SEED = flags.DEFINE_integer("seed", 0, "Of the instants.")
    _RECOMPILE = flags.DEFINE_bool("recompile", False, "Compile at every start.")
    config_flags.DEFINE_config_file("config", None, "File of a configuration, :VARIANT.")
    # A default of its own would be read before errors have words.
    if not any(re.match(r"--?config(=|$)", word) for word in sys.argv):
        sys.argv.insert(1, f"--config={CONFIG}")
    cli.launch(main)
