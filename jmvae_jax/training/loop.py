"""The loop: dispatch steps, read the metrics of the last interval while the next one runs."""

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from jmvae_jax.parallel import DataParallel
from jmvae_jax.training.checkpoints import Checkpoints
from jmvae_jax.training.feeds import Feed
from jmvae_jax.training.metrics import NoLog, RunLog, Tally
from jmvae_jax.training.state import TrainState

Validate = Callable[[TrainState, int], Mapping[str, float]]


class NonFiniteError(FloatingPointError):
    """A term of the loss, or the gradient's norm, was NaN or infinite."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """When things happen: functions of the step alone.

    Args:
      num_steps: in the whole training.
      steps_per_epoch: for the epochs that the logs show.
      batch_size: for the examples per second that they show.
      log_every: steps between rows of metrics.
      validate_every: steps between validations, 0: at the end only.
      checkpoint_every: steps between checkpoints, 0: at the end only.
      steps_per_dispatch: steps that the device runs without a word from the host.
      profile: the steps after which a trace begins and ends, or None.
    """

    num_steps: int
    steps_per_epoch: int
    batch_size: int
    log_every: int = 100
    validate_every: int = 0
    checkpoint_every: int = 0
    steps_per_dispatch: int = 20
    profile: tuple[int, int] | None = None

    def validates(self, step: int) -> bool:
        return self._falls(step, self.validate_every)

    def saves(self, step: int) -> bool:
        return self._falls(step, self.checkpoint_every)

    def logs(self, step: int) -> bool:
        # A row ends wherever something else is done, so that a run that was stopped there and
        # one that was not write the same rows.
        return self._falls(step, self.log_every) or self.validates(step) or self.saves(step)

    def next_stop(self, step: int) -> int:
        """The end of the dispatch that begins after `step`."""
        periods = [self.steps_per_dispatch, self.steps_per_epoch, self.log_every]
        periods += [self.validate_every, self.checkpoint_every]
        ends = [step - step % every + every for every in periods if every]
        return min(self.num_steps, *ends, *(end for end in self.profile or () if end > step))

    def _falls(self, step: int, every: int) -> bool:
        return step == self.num_steps or bool(every and step % every == 0)


def train(
    state: TrainState,
    *,
    plan: Plan,
    dispatch: Callable[..., Any],
    feed: Feed,
    tally: Tally,
    devices: DataParallel,
    log: RunLog | NoLog,
    checkpoints: Checkpoints,
    validate: Validate | None = None,
    stop: Callable[[], bool] = lambda: False,
    progress: bool = True,
    profile_dir: str | os.PathLike[str] | None = None,
) -> TrainState:
    """Trains from `state.step` to `plan.num_steps`, or until `stop()`, and saves the last state.

    Args:
      state: of step 0, or restored.
      plan: when to log, validate and save.
      dispatch: from `steps.make_dispatch`.
      feed: `Resident` or `Stream`, from `training.feeds`.
      tally: empty, see `metrics.empty_tally`.
      devices: that `dispatch` was compiled for.
      log: where rows go, `NoLog` in all processes but one.
      checkpoints: where states go.
      validate: state and step -> terms of the validation split.
      stop: asked after every dispatch; true: save and return. Processes must agree on the
        answer, see `parallel.Vote`.
      progress: shows a bar with examples per second and the time left.
      profile_dir: where the trace of `plan.profile` goes, for TensorBoard or Perfetto; None: no
        trace.

    Returns:
      The last state, on one device's worth of arrays.

    Raises:
      NonFiniteError: names the step and the terms; no checkpoint of such a state is written.
    """
    first = int(state.step)
    empty = jax.device_get(tally)
    # Copies, since a compiled step consumes what it is given.
    placed, tally = devices.place((jax.tree.map(jnp.copy, state), empty))
    bar = tqdm(
        total=plan.num_steps * plan.batch_size,
        initial=first * plan.batch_size,
        unit=" examples",
        unit_scale=True,
        disable=not progress,
        dynamic_ncols=True,
    )
    interval = _Interval(plan, devices, log, bar, first)
    trace = _Trace(plan, profile_dir)
    step = first
    with bar:
        while step < plan.num_steps:
            end = plan.next_stop(step)
            trace.begin(step, tally)
            count = devices.place(np.int32(end - step))
            placed, tally = dispatch(placed, tally, feed(step), count)
            step = end
            interval.read()
            stopping = stop()
            trace.end(step, tally, stopping)
            if stopping or plan.logs(step):
                interval.end(step, tally)
                tally = devices.place(empty)
            if stopping or plan.validates(step) or plan.saves(step):
                interval.read()
                if validate is not None and plan.validates(step):
                    terms = validate(devices.fetch(placed), step)
                    if not all(map(np.isfinite, terms.values())):
                        raise NonFiniteError(_report(step, terms, "validation after step"))
                    log.write("validation", step, step / plan.steps_per_epoch, terms)
                if stopping or plan.saves(step):
                    checkpoints.save(step, devices.replicate(devices.fetch(placed)))
                interval.restart()
            if stopping:
                break
    return devices.fetch(placed)


class _Trace:
    """The profile of some steps, if one is asked for."""

    def __init__(self, plan: Plan, folder: str | os.PathLike[str] | None):
        self.first, self.last = plan.profile or (-1, -1)
        self.num_steps, self.folder, self.running = plan.num_steps, folder, False

    def begin(self, step: int, tally: Tally) -> None:
        if self.folder is not None and step == self.first:
            jax.block_until_ready(tally)  # what was dispatched before is no part of it
            jax.profiler.start_trace(os.fspath(self.folder))
            self.running = True

    def end(self, step: int, tally: Tally, stopping: bool) -> None:
        if self.running and (stopping or step in (self.last, self.num_steps)):
            jax.block_until_ready(tally)
            jax.profiler.stop_trace()
            self.running = False


class _Interval:
    """The steps since the last row; their tally is read one dispatch late."""

    def __init__(self, plan: Plan, devices: DataParallel, log: RunLog | NoLog, bar: Any, step: int):
        self.plan, self.devices, self.log, self.bar = plan, devices, log, bar
        self.pending: tuple[int, Tally] | None = None
        self.last_step = step
        self.restart()

    def restart(self) -> None:
        """Starts the clock anew: what came before was not training."""
        self.clock = time.perf_counter()

    def end(self, step: int, tally: Tally) -> None:
        self.pending = (step, tally)

    def read(self) -> None:
        if self.pending is None:
            return
        step, tally = self.pending
        self.pending = None
        host = jax.device_get(self.devices.fetch(tally))
        if host.bad_step >= 0:
            bad = {name: float(value) for name, value in host.bad.items()}
            raise NonFiniteError(_report(int(host.bad_step), bad, "step (counted from 0)"))
        now = time.perf_counter()
        steps = step - self.last_step
        values = {name: float(total / host.steps) for name, total in host.sums.items()}
        values["examples_per_second"] = round(steps * self.plan.batch_size / (now - self.clock), 1)
        self.last_step, self.clock = step, now
        self.log.write("train", step, step / self.plan.steps_per_epoch, values)
        self.bar.update(steps * self.plan.batch_size)
        self.bar.set_postfix_str(
            f"epoch {step / self.plan.steps_per_epoch:.1f}, elbo {values['elbo']:.2f}",
            refresh=False,
        )


def _report(step: int, terms: Mapping[str, float], where: str) -> str:
    bad = ", ".join(f"{name}={value}" for name, value in terms.items() if not np.isfinite(value))
    rest = ", ".join(f"{name}={value:.6g}" for name, value in terms.items() if np.isfinite(value))
    return (
        f"{where} {step}: not finite: {bad}; finite there: {rest}. Training stopped; the last "
        "good checkpoint is kept. A lower learning rate, gradient clipping or a look at the data "
        "usually helps"
    )
