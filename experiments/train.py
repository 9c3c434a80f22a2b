"""Trains a model, or goes on with a run that was stopped.

    python experiments/train.py --config=experiments/configs/mnist.py:jmvae_kl --workdir=DIR

Any key of the configuration can be set: `--config.train.epochs=20`. The same command goes on
from the newest whole checkpoint in DIR.
"""

import functools
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from experiments import build, cli, pictures, workdir
from jmvae_jax import data, parallel, plotting, training
from jmvae_jax.training import metrics
from jmvae_jax.training.checkpoints import Checkpoints

_CONFIG = config_flags.DEFINE_config_file("config", None, "File of a configuration, :VARIANT.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
flags.mark_flag_as_required("config")

VALIDATION_BATCH = 500
PICTURED = 10


class StopRequest:
    """Remembers SIGTERM or SIGINT until the step is done; a second one acts at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: object) -> None:
        self.signal = number
        signal.signal(number, signal.SIG_DFL)

    def __call__(self) -> bool:
        return self.signal is not None


class Validation:
    """Terms of the validation split, and pictures for TensorBoard."""

    def __init__(self, config: ConfigDict, experiment: build.Experiment):
        self.model, self.showing = experiment.model, experiment.showing
        self.stored = build.load_split(config, config.data.validation_split)
        self.step = training.make_eval_step(
            experiment.loss_fn, experiment.transforms, experiment.weights
        )
        first = {name: values[:PICTURED] for name, values in self.stored.items()}
        self.pictured, _ = data.evaluation_batch(experiment.transforms, first)

    def __call__(
        self, state: training.TrainState, step: int, log: metrics.RunLog
    ) -> Mapping[str, float]:
        count = len(self.stored["index"])
        size = min(VALIDATION_BATCH, count)
        sums = [
            jax.device_get(self.step(state, stored, weight))
            for stored, weight in data.padded_batches(self.stored, size)
        ]
        grids = pictures.validation_grids(self.model, state.variables, self.pictured, self.showing)
        for name, images in grids.items():
            log.image(name, step, plotting.tile(images))
        return {name: float(sum(part[name] for part in sums)) / count for name in sums[0]}


def compile_dispatch(
    config: ConfigDict, experiment: build.Experiment, devices: parallel.DataParallel, key: jax.Array
) -> Callable[..., Any]:
    """The compiled steps of a run."""
    step = training.make_train_step(
        experiment.update(devices.axis_name),
        key=key,
        batch_size=config.train.batch_size,
        transforms=experiment.transforms,
        weights=experiment.weights,
        learning_rate=experiment.learning_rate,
        clip_norm=config.train.clip_norm or None,
        average_decay=config.train.average_decay,
        axis_name=devices.axis_name,
    )
    return training.make_dispatch(step, config.train.batch_size, devices)


def train(
    config: ConfigDict, folder: pathlib.Path, stop: StopRequest
) -> tuple[training.TrainState, bool]:
    """The whole run: build, restore, train. The last state, and whether it is the end."""
    stored = build.load_split(config, config.data.train_split)
    statistics = build.load_statistics(config)
    experiment = build.build(config, len(stored.pop("index")), statistics)
    validation = Validation(config, experiment)
    devices = parallel.data_parallel(config.train.batch_size, config.train.strategy)
    checkpoints = Checkpoints(workdir.checkpoints_path(folder), config.train.keep_checkpoints)
    state = build.initial_state(config, experiment)
    restored = checkpoints.restore(state)
    if restored is not None:
        state = restored[1]
        print(f"going on from step {restored[0]} of {experiment.num_steps}", flush=True)
    tally = training.start_tally(
        experiment.loss_fn,
        experiment.transforms,
        experiment.weights,
        state,
        stored,
        experiment.further_metrics,
    )
    # Only now is it sure that the run can begin: until here the folder is nobody's.
    if statistics:
        workdir.write_arrays(folder / workdir.STATISTICS_FILE, statistics)
    workdir.write_config(folder, config)
    order_key, step_key = (jax.random.fold_in(jax.random.key(config.seed), i) for i in (1, 2))
    log = metrics.RunLog(folder, int(state.step))
    _print_start(config, experiment, devices, state)
    try:
        state = training.train(
            state,
            plan=build.build_plan(config, experiment),
            dispatch=compile_dispatch(config, experiment, devices, step_key),
            epochs=training.resident_epochs(stored, {}, order_key, devices),
            tally=tally,
            devices=devices,
            log=log,
            checkpoints=checkpoints,
            validate=functools.partial(validation, log=log),
            stop=stop,
        )
        return state, int(state.step) == experiment.num_steps
    finally:
        log.close()


def _print_start(
    config: ConfigDict,
    experiment: build.Experiment,
    devices: parallel.DataParallel,
    state: training.TrainState,
) -> None:
    trained = (state.params, state.adversary)
    parameters = sum(np.size(leaf) for leaf in jax.tree.leaves(trained))
    print(
        f"{config.variant} on {config.data.dataset}: {parameters:,} parameters, "
        f"{config.train.epochs} epochs of {experiment.steps_per_epoch} steps of "
        f"{config.train.batch_size}; {len(devices.devices)} {devices.devices[0].platform} "
        f"device(s), {devices.strategy}, float32",
        flush=True,
    )


def main() -> int:
    config, stop, started = _CONFIG.value, StopRequest(), time.perf_counter()
    with workdir.opened(_WORKDIR.value, config) as folder:
        state, finished = train(config, folder, stop)
    minutes = (time.perf_counter() - started) / 60
    if stop.signal is not None and not finished:
        print(f"stopped at step {int(state.step)} and saved; the same command goes on from there")
        return 128 + stop.signal
    print(f"finished step {int(state.step)} after {minutes:.1f} minutes; the run is in {folder}")
    return 0


if __name__ == "__main__":
    cli.launch(main)
