"""A configuration's step from shapes alone: no data set, no parameters, no memory."""

import contextlib
import dataclasses
import functools
import re
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks import arithmetic
from benchmarks.arithmetic import Work
from experiments import build
from experiments.configs import celeb_a, mnist
from jmvae_jax import parallel
from jmvae_jax.data.pipeline import Epoch

EXAMPLES = {"mnist": 60_000, "celeb_a": 162_770}
"""Rows of the training splits."""

_STORED = {
    "binarize": np.uint8,
    "standardize": np.uint8,
    "as_floats": np.int8,
    "one_hot": np.int32,
}
_COMPUTATION = re.compile(r"^(ENTRY )?%?\S+ .*\{$")
_KERNEL = re.compile(r"= .*? (fusion|dot|convolution|custom-call|concatenate|copy|reduce)\(")


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """A configuration over a training split of `num_examples`, of which only shapes exist."""

    config: ConfigDict
    num_examples: int

    @property
    def title(self) -> str:
        """`celeb_a jmvae_kl`, and what is unusual."""
        config, train = self.config, self.config.train
        words = [config.data.dataset.partition("_aligned")[0], config.variant]
        if config.model.get("norm") == "group":
            words.append("norm=group")
        words += ["remat"] if train.remat else []
        words += [train.precision] if train.precision != "float32" else []
        words += [f"accumulate={train.accumulate}"] if train.accumulate > 1 else []
        return " ".join(words)

    @functools.cached_property
    def experiment(self) -> build.Experiment:
        """The pieces; pixels have mean 0 and deviation 1."""
        statistics = {}
        for name, entry in self.config.modalities.items():
            if entry.transform == "standardize":
                statistics[f"{name}/mean"] = np.zeros(entry.shape, np.float32)
                statistics[f"{name}/deviation"] = np.ones(entry.shape, np.float32)
        return build.build(self.config, self.num_examples, statistics)

    @functools.cached_property
    def state(self) -> Any:
        """Shapes of the training state."""
        return jax.eval_shape(lambda: build.initial_state(self.config, self.experiment))

    def stored(self, rows: int | None = None) -> dict[str, Any]:
        """Shapes of stored rows, of the whole split by default."""
        return {
            name: jax.ShapeDtypeStruct(
                (rows or self.num_examples, *self._shape(entry)), _STORED[entry.transform]
            )
            for name, entry in self.config.modalities.items()
        }

    @staticmethod
    def _shape(entry: ConfigDict) -> tuple[int, ...]:
        return () if entry.transform == "one_hot" else tuple(entry.shape)

    @property
    def parameters(self) -> list[int]:
        """Bytes of each array of trained parameters."""
        leaves = jax.tree.leaves((self.state.params, self.state.adversary))
        return [4 * leaf.size for leaf in leaves]

    def work(self, rows: int) -> Work:
        """Products of a step of one device, as an accelerator traces it."""
        config = _with_batch(self.config, rows)
        step = build.build_step(config, self.experiment, jax.random.key(1))
        with _as_on_an_accelerator():
            return arithmetic.work(step, self.state, self.stored(rows), axis=(parallel.AXIS, 1))

    def kept(self, rows: int) -> int:
        """Bytes that the gradient of the bound keeps, as an accelerator traces it."""
        modalities = self.experiment.model.modalities
        batch = {
            name: jax.ShapeDtypeStruct((rows, *modality.shape), np.float32)
            for name, modality in modalities.items()
        }
        weights = {"alpha": 0.1, "beta": 1.0}

        def loss(params: Any, model_state: Any, keys: Any, batch: Any) -> Any:
            loss_fn = self.experiment.loss_fn
            return loss_fn(params, model_state, keys, batch, weights=weights)[0]

        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), rows))
        state = self.state
        with _as_on_an_accelerator():
            return arithmetic.kept(
                loss, state.params, state.model_state, keys, batch, axis=(parallel.AXIS, 1)
            )

    def compiled(self, rows: int, count: int = 1) -> Any:
        """The compiled dispatch of `count` devices with `rows` each, for this machine."""
        config = _with_batch(self.config, rows * count)
        experiment, state = self.experiment, self.state
        shown = {n: np.broadcast_to(v.dtype.type(0), v.shape) for n, v in self.stored(1).items()}
        tally = jax.eval_shape(lambda: experiment.start_tally(state, shown))
        devices = parallel.DataParallel(tuple(jax.devices()[:count]))
        dispatch: Any = build.compile_dispatch(config, experiment, devices, jax.random.key(1))
        order, steps = (jax.ShapeDtypeStruct(s, np.int32) for s in ((self.num_examples,), ()))
        return dispatch.lower(state, tally, Epoch(self.stored(), {}, order), steps).compile()


@functools.cache
def problem(data: str, variant: str, **changes: Any) -> Problem:
    """`celeb_a`, `jmvae_kl`, and changes of `model` (norm) or `train` (precision, remat, ...)."""
    config = (mnist if data == "mnist" else celeb_a).get_config(variant)
    for key, value in changes.items():
        section = config.model if key in config.model else config.train
        section[key] = value
    return Problem(config, EXAMPLES[data])


def _with_batch(config: ConfigDict, batch_size: int) -> ConfigDict:
    config = config.copy_and_resolve_references()
    config.train.batch_size = batch_size
    return config


@contextlib.contextmanager
def _as_on_an_accelerator() -> Iterator[None]:
    """Networks that choose by the backend choose what they do on a GPU; nothing is run."""
    with mock.patch.object(jax, "default_backend", return_value="gpu"):
        yield


def kernels(text: str) -> int:
    """Instructions with work of their own in the largest computation of a compiled program.

    Example:
      >>> from benchmarks.shapes import kernels
      >>> kernels("body (p: f32[]) -> f32[] {\\n %a = f32[] fusion(%p)\\n %b = f32[] add(%a)\\n}")
      1
    """
    counts = [0]
    for line in text.splitlines():
        if _COMPUTATION.match(line):
            counts.append(0)
        elif _KERNEL.search(line):
            counts[-1] += 1
    return max(counts)
