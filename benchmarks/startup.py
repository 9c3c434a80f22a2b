"""Time from `python experiments/train.py ...` to its first finished step, part by part.

    python benchmarks/startup.py [--repeats=5] [--config=FILE:VARIANT]

Each repeat is a process of its own that runs train.py up to there; the median of each part is
printed. A first one, which is not counted, fills the caches of data and of compiled programs; it is
printed as "cold" (the files themselves are read from memory where they were read before). What a
part calls is not counted again: "the rest" is the time between parts.
"""

import functools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

STARTED = "STARTUP_BEGAN"
"""Variable with the time at which the process was asked for."""

PARTS = {
    "inputs.TrainingRows.__init__": "data",
    "inputs.TrainingRows.load": "data",
    "inputs.ModalityRows.__getitem__": "data",
    "inputs.load_split": "data",
    "inputs.load_statistics": "data",
    "build.build": "model, objective, optimiser",
    "build.initial_state": "initial state",
    "checkpoints.Checkpoints.restore": "restore",
    "build.Experiment.start_tally": "metrics",
    "runs.Validation.__init__": "validation",
    "runs.begin": "folder and logs",
}
"""Function of a start -> the part it is counted as."""


class Clock:
    """Seconds of each part, without the parts within it."""

    def __init__(self, began: float):
        self.seconds: dict[str, float] = {}
        self.last, self.current = began, "the rest"

    def switch(self, part: str) -> str:
        """From now on it is `part`; the one before."""
        now, before = time.time(), self.current
        self.seconds[before] = self.seconds.get(before, 0.0) + now - self.last
        self.last, self.current = now, part
        return before

    def timed(self, function, part):
        """The function, counted."""

        @functools.wraps(function)
        def counted(*args, **kwargs):
            before = self.switch(part)
            try:
                return function(*args, **kwargs)
            finally:
                self.switch(before)

        return counted


def child() -> None:
    """Runs train.py up to its first step, and prints the clock."""
    clock = Clock(float(os.environ[STARTED]))
    clock.switch("import of JAX")  # until here: the interpreter
    clock.seconds["interpreter"] = clock.seconds.pop("the rest")
    import jax

    clock.switch("other imports")
    from experiments import build, cli, inputs, runs, train
    from jmvae_jax import training
    from jmvae_jax.training import checkpoints

    clock.switch("the rest")
    jax.devices = clock.timed(jax.devices, "devices")
    rooms = {"build": build, "inputs": inputs, "checkpoints": checkpoints, "runs": runs}
    for path, part in PARTS.items():
        *holders, name = path.split(".")
        holder = functools.reduce(getattr, holders[1:], rooms[holders[0]])
        setattr(holder, name, clock.timed(getattr(holder, name), part))

    loop = training.train

    def until_the_first_step(state, *, dispatch, **options):
        def first(*args):
            clock.switch("compilation and first step")
            jax.block_until_ready(dispatch(*args))
            clock.switch("the rest")
            print(json.dumps(clock.seconds), flush=True)
            os._exit(0)

        return loop(state, dispatch=first, **options)

    training.train = until_the_first_step
    cli.launch(train.main)


def measured(words: list[str]) -> dict[str, float]:
    """Seconds of each part of one start, and of all."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, *words, f"--workdir={folder}"]
        environment = {**os.environ, STARTED: repr(time.time())}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"train.py ended with status {done.returncode}: {done.stderr}")
    seconds: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return seconds | {"in all": sum(seconds.values())}


def main() -> None:
    words = [word for word in sys.argv[1:] if not word.startswith("--repeats=")]
    repeats = [int(word.partition("=")[2]) for word in sys.argv if word.startswith("--repeats=")]
    if not any(word.startswith("--config=") for word in words):
        words.insert(0, f"--config={ROOT / 'experiments' / 'configs' / 'mnist.py'}:jmvae_kl")
    words.append("--config.train.steps_per_dispatch=1")
    cold = measured(words)
    warm = [measured(words) for _ in range(*repeats or (5,))]
    print(f"{'seconds':30} {'warm':>6} {'cold':>6}")
    for part in warm[0]:
        middle = statistics.median(one.get(part, 0.0) for one in warm)
        print(f"{part:30} {middle:6.2f} {cold.get(part, 0.0):6.2f}")


if __name__ == "__main__":
    child() if STARTED in os.environ else main()
