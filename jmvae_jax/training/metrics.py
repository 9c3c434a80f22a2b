"""Numbers of a run: added up on the device, written to `metrics.jsonl` and TensorBoard."""

import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tensorboardX import SummaryWriter

from jmvae_jax.types import Array

Metrics = dict[str, Array]

METRICS_FILE = "metrics.jsonl"


class Tally(NamedTuple):
    """Sums of metrics on the device, and the first step at which one was not finite.

    Attributes:
      sums: metric -> sum over `steps` steps.
      steps: `int32[]`.
      bad_step: `int32[]`, -1 while every metric is finite.
      bad: the metrics at that step.
    """

    sums: Metrics
    steps: Array
    bad_step: Array
    bad: Metrics


def empty_tally(names: Iterable[str]) -> Tally:
    """A tally of the named metrics before the first step."""
    names = tuple(names)
    zeros = [{name: jnp.zeros(()) for name in names} for _ in range(2)]
    return Tally(zeros[0], jnp.zeros((), jnp.int32), jnp.full((), -1, jnp.int32), zeros[1])


def add_metrics(tally: Tally, metrics: Metrics, step: Array) -> Tally:
    """The tally with the metrics of one more step."""
    finite = jnp.isfinite(jnp.stack(jax.tree.leaves(metrics))).all()
    first = ~finite & (tally.bad_step < 0)
    return Tally(
        sums=jax.tree.map(jnp.add, tally.sums, metrics),
        steps=tally.steps + 1,
        bad_step=jnp.where(first, step, tally.bad_step),
        bad=jax.tree.map(lambda new, old: jnp.where(first, new, old), metrics, tally.bad),
    )


class RunLog:
    """Appends to `metrics.jsonl` (one object a line) and to TensorBoard's events.

    Args:
      workdir: the run's folder.
      step: the step that the run goes on from; rows beyond it are dropped, so that each step
        stands there once.
    """

    def __init__(self, workdir: str | os.PathLike[str], step: int = 0):
        self.path = pathlib.Path(workdir) / METRICS_FILE
        _drop_rows_after(self.path, step)
        self._board = SummaryWriter(str(workdir), purge_step=step + 1 if step else None)

    def write(self, split: str, step: int, epoch: float, values: Mapping[str, float]) -> None:
        """One row: the scalars of a split at a step."""
        row = {"step": step, "epoch": round(epoch, 4), "split": split, **values}
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        for name, value in values.items():
            self._board.add_scalar(f"{split}/{name}", value, step)

    def image(self, name: str, step: int, picture: np.ndarray) -> None:
        """A picture `uint8[H, W, 3]` for TensorBoard."""
        self._board.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        """Writes out what is pending."""
        self._board.close()


class NoLog:
    """Takes what `RunLog` takes and writes nothing: for all processes of a run but one."""

    def write(self, split: str, step: int, epoch: float, values: Mapping[str, float]) -> None:
        pass

    def image(self, name: str, step: int, picture: np.ndarray) -> None:
        pass

    def close(self) -> None:
        pass


def _drop_rows_after(path: pathlib.Path, step: int) -> None:
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        # A kill can leave the last line cut short: it belongs to no whole row.
        if line.endswith("\n") and json.loads(line)["step"] <= step:
            kept.append(line)
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(kept))
    os.replace(temporary, path)


def read_rows(workdir: str | os.PathLike[str], split: str | None = None) -> list[dict[str, Any]]:
    """The rows of `metrics.jsonl`, of one split if it is named."""
    path = pathlib.Path(workdir) / METRICS_FILE
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row for row in rows if split in (None, row["split"])]
