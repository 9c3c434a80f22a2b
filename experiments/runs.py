"""The course of a training run, for the scripts that train: build, restore, train, validate."""

import dataclasses
import functools
import pathlib
import signal
import time
import warnings
from collections.abc import Callable, Mapping

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import accelerators, build, inputs, pictures, workdir
from experiments.models import Statistics
from jmvae_jax import data, parallel, plotting, training
from jmvae_jax.training import metrics
from jmvae_jax.training.checkpoints import Checkpoints

Log = metrics.RunLog | metrics.NoLog

VALIDATION_BATCH = 500
PICTURED = 10


class StopRequest:
    """Remembers SIGTERM or SIGINT until the step is done; a second one acts at once.

    A process that is one of several stops where all of them do, whichever was asked.
    """

    def __init__(self) -> None:
        self.signal = 0  # what the processes agreed on
        self._mine = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)
        self._vote = parallel.Vote()

    def _handle(self, number: int, frame: object) -> None:
        self._mine = number
        signal.signal(number, signal.SIG_DFL)

    def __call__(self) -> bool:
        self.signal = self._vote(self._mine)
        return self.signal > 0


class Validation:
    """Terms of the validation split, and pictures for TensorBoard."""

    def __init__(
        self, config: ConfigDict, experiment: build.Experiment, devices: parallel.DataParallel
    ):
        self.model, self.showing, self.devices = experiment.model, experiment.showing, devices
        self.stored = inputs.load_split(config, config.data.validation_split)
        self.step = training.make_eval_step(
            experiment.loss_fn, experiment.transforms, experiment.weights
        )
        first = {name: values[:PICTURED] for name, values in self.stored.items()}
        self.pictured, _ = data.evaluation_batch(experiment.transforms, first)

    def __call__(self, state: training.TrainState, step: int, log: Log) -> Mapping[str, float]:
        spread = self.devices.replicate(state)
        size = min(VALIDATION_BATCH, len(self.stored["index"]))
        found = [
            (jax.device_get(self.step(spread, (stored, None))), weight > 0)
            for stored, weight in data.padded_batches(self.stored, size)
        ]
        means = {
            name: float(np.concatenate([terms[name][counts] for terms, counts in found]).mean())
            for name in found[0][0]
        }
        # Of what is not finite there is no picture; who asked says so.
        if parallel.is_first() and np.isfinite(list(means.values())).all():
            args = (self.model, state.variables, self.pictured, self.showing)
            for name, images in pictures.validation_grids(*args).items():
                log.image(name, step, plotting.tile(images))
        return means


def train(
    config: ConfigDict,
    folder: pathlib.Path,
    stop: StopRequest,
    profile: tuple[int, int] | None = None,
    begin_with: Callable[[training.TrainState], training.TrainState] = lambda state: state,
) -> tuple[training.TrainState, bool]:
    """The whole run: build, restore, train.

    Args:
      config: of the run.
      folder: of the run, opened by `workdir.opened`.
      stop: asked after every dispatch.
      profile: the steps after which a trace begins and ends, or None.
      begin_with: from the initial state to the one that a run without checkpoint begins with.

    Returns:
      The last state, and whether it is the end.
    """
    rows = inputs.TrainingRows(config)
    shown = rows[[0]]
    statistics = inputs.load_statistics(config)
    experiment = build.build(config, len(rows), statistics)
    plan = dataclasses.replace(build.build_plan(config, experiment), profile=profile)
    devices = parallel.data_parallel(
        config.train.batch_size,
        config.train.strategy,
        config.train.num_devices,
        config.train.accumulate,
    )
    validation = Validation(config, experiment, devices)
    checkpoints = Checkpoints(workdir.checkpoints_path(folder), config.train.keep_checkpoints)
    state = first_state(config, experiment, checkpoints, begin_with)
    if profile is not None and profile[0] >= plan.num_steps:
        raise ValueError(
            f"profile_steps={profile[0]},{profile[1]}: the run ends at step {plan.num_steps}"
        )
    if profile is not None and profile[0] < state.step:
        say(f"no trace: the run is at step {state.step}, after {profile[0]}")
    tally = experiment.start_tally(state, shown)
    order_key, step_key = (jax.random.fold_in(jax.random.key(config.seed), i) for i in (1, 2))
    with inputs.open_feed(config, rows, plan, order_key, devices) as feed:
        # Only now is it sure that the run can begin: until here the folder is nobody's.
        log = begin(folder, config, statistics, int(state.step))
        _print_start(config, experiment, devices, state, rows)
        try:
            state = training.train(
                state,
                plan=plan,
                dispatch=build.compile_dispatch(
                    config, experiment, devices, step_key, rows.streamed
                ),
                feed=feed,
                tally=tally,
                devices=devices,
                log=log,
                checkpoints=checkpoints,
                validate=functools.partial(validation, log=log),
                stop=stop,
                progress=parallel.is_first(),
                profile_dir=folder if parallel.is_first() else None,
            )
            return state, int(state.step) == experiment.num_steps
        finally:
            log.close()


def first_state(
    config: ConfigDict,
    experiment: build.Experiment,
    checkpoints: Checkpoints,
    begin_with: Callable[[training.TrainState], training.TrainState],
) -> training.TrainState:
    """The state that the run goes on from: the newest checkpoint's, or the one it begins with."""
    state = build.initial_state(config, experiment)
    restored = checkpoints.restore(state)
    if restored is None:
        return begin_with(state)
    step, state = restored
    if step > experiment.num_steps:
        raise ValueError(
            f"train.epochs={config.train.epochs} are {experiment.num_steps} steps, and the run has "
            f"done {step}: expected no fewer"
        )
    say(f"going on from step {step} of {experiment.num_steps}")
    return state


def begin(folder: pathlib.Path, config: ConfigDict, statistics: Statistics, step: int) -> Log:
    """Writes whose folder it is and opens its log; the first process does, for all.

    Raises:
      ValueError: the run was begun on another data set.
    """
    if not parallel.is_first():
        return metrics.NoLog()
    inputs.check_dataset(config, workdir.read_statistics(folder), statistics)
    if statistics:
        workdir.write_arrays(folder / workdir.STATISTICS_FILE, statistics)
    workdir.write_config(folder, config)
    return metrics.RunLog(folder, step)


def _print_start(
    config: ConfigDict,
    experiment: build.Experiment,
    devices: parallel.DataParallel,
    state: training.TrainState,
    rows: inputs.TrainingRows,
) -> None:
    trained = (state.params, state.adversary)
    parameters = sum(np.size(leaf) for leaf in jax.tree.leaves(trained))
    kind = devices.devices[0].device_kind
    feed = "streamed" if rows.streamed else "held on the devices"
    if rows.num_complete < rows.num_stored:
        feed += f", {rows.num_complete:,} of {rows.num_stored:,} rows complete"
    say(
        f"{config.variant} on {config.data.dataset}: {parameters:,} parameters, "
        f"{config.train.epochs} epochs of {experiment.steps_per_epoch} steps of "
        f"{config.train.batch_size}, {feed}\n"
        f"{devices.devices[0].platform}: {len(devices.devices)} device(s) ({kind}) of "
        f"{jax.process_count()} process(es), {devices.strategy}, {config.train.precision}"
    )
    unused = accelerators.unused_accelerator()
    if unused:
        warnings.warn(unused, stacklevel=2)


def say(words: str) -> None:
    if parallel.is_first():
        print(words, flush=True)


def run(
    config: ConfigDict,
    path: str,
    profile: tuple[int, int] | None = None,
    begin_with: Callable[[training.TrainState], training.TrainState] = lambda state: state,
    argument: str = "workdir",
) -> int:
    """What a script that trains does; the exit status: 0, or 128 and the signal that stopped it."""
    stop, started = StopRequest(), time.perf_counter()
    with workdir.opened(path, config, argument) as folder:
        state, finished = train(config, folder, stop, profile, begin_with)
    minutes = (time.perf_counter() - started) / 60
    if stop.signal and not finished:
        say(f"stopped at step {int(state.step)} and saved; the same command goes on from there")
        return 128 + stop.signal
    say(f"finished step {int(state.step)} after {minutes:.1f} minutes; the run is in {folder}")
    return 0
