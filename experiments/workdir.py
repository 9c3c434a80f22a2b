"""A run's folder: its names, its lock, and the configuration that it belongs to."""

import contextlib
import fcntl
import json
import os
import pathlib
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from jmvae_jax import parallel
from jmvae_jax.training import schedules
from jmvae_jax.training.metrics import METRICS_FILE

CONFIG_FILE = "config.json"
RESULTS_FILE = "results.json"
VALUES_FILE = "values.npz"
STATISTICS_FILE = "statistics.npz"
PRIOR_FILE = "prior.npz"
PICTURE_ENDINGS = (".png", ".pdf", ".svg")

HARMLESS = (
    "data.data_dir",
    "data.manual_dir",
    "data.download",
    "data.validation_split",
    "data.streamed",
    "data.workers",
    "data.blocks_ahead",
    "train.strategy",
    "train.num_devices",
    "train.remat",
    "train.steps_per_dispatch",
    "train.log_every",
    "train.validate_every",
    "train.checkpoint_every",
    "train.keep_checkpoints",
)
"""Keys that may differ when a run goes on: they change no parameter, but by rounding."""

ADDED = {
    "data.missing_seed": 0,
    "data.missing_rows": "keep",
    "model.posterior": "diagonal",
    "objective.alignment": "joint",
    "objective.divergence": "forward",
    "objective.num_samples": 1,
}
"""Keys that older runs lack -> what they were trained with; they had no missing rates either."""


def checkpoints_path(workdir: str | os.PathLike[str]) -> pathlib.Path:
    """Where a run keeps its checkpoints."""
    return pathlib.Path(workdir) / "checkpoints"


def check_writable(folder: pathlib.Path, argument: str) -> None:
    """Raises OSError at once, rather than after minutes of work."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            f"{argument}: {os.fspath(folder)!r} cannot be written ({error.strerror}): give a "
            "folder that can"
        ) from error


def picture_path(out: str) -> pathlib.Path:
    """Where a picture goes, checked before minutes of work.

    Raises:
      ValueError: an ending that is not known; OSError: its folder cannot be written.
    """
    path = pathlib.Path(out)
    check_writable(path.parent, "out")
    if path.suffix.lower() not in PICTURE_ENDINGS:
        endings = " or ".join(PICTURE_ENDINGS)
        raise ValueError(f"out={out!r}: expected a file that ends in {endings}")
    return path


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes a file whole or not at all; ValueError where a number is not finite."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_arrays(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays by name, as `numpy.load` reads them, whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # no name is savez's own option
    os.replace(temporary, path)


def write_evaluation(
    folder: pathlib.Path, results: Mapping[str, Any], values: Mapping[str, np.ndarray]
) -> None:
    """Results stand beside their own values, or are not there; older ones go once both are written.

    Raises:
      ValueError: a number is not finite; OSError: the folder cannot be written.
    """
    new = {name: folder / f"{name}.new" for name in (RESULTS_FILE, VALUES_FILE)}
    try:
        write_json(new[RESULTS_FILE], results)
        write_arrays(new[VALUES_FILE], values)
        (folder / RESULTS_FILE).unlink(missing_ok=True)
        for name in (VALUES_FILE, RESULTS_FILE):
            os.replace(new[name], folder / name)
    finally:
        for path in new.values():
            path.unlink(missing_ok=True)


class Evaluation(NamedTuple):
    """A run's configuration, its results, and name -> values of the examples `[N]`."""

    config: ConfigDict
    results: Mapping[str, Any]
    values: Mapping[str, np.ndarray]


def read_evaluation(workdir: str | os.PathLike[str]) -> Evaluation:
    """What `evaluate.py` wrote of a run.

    Raises:
      FileNotFoundError: it wrote nothing there.
    """
    folder = pathlib.Path(workdir)
    for name in (RESULTS_FILE, VALUES_FILE):
        if not (folder / name).exists():
            raise FileNotFoundError(
                f"{os.fspath(workdir)!r} has no {name}: run experiments/evaluate.py on it first"
            )
    path = folder / RESULTS_FILE
    try:
        results = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error}): evaluate again") from error
    return Evaluation(read_config(folder), results, _read_arrays(folder / VALUES_FILE))


def _read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """What `write_arrays` wrote; ValueError where the file is damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read ({error}): make it again") from error


def read_statistics(workdir: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """What a run keeps of its data set: name -> array; {} for one that keeps nothing."""
    path = pathlib.Path(workdir) / STATISTICS_FILE
    return _read_arrays(path) if path.exists() else {}


def read_prior(workdir: str | os.PathLike[str], step: int) -> dict[str, np.ndarray] | None:
    """The prior fitted to a run, as arguments of `evaluation.mixture_prior`; None: there is none.

    Args:
      workdir: of the run.
      step: that the run is at.

    Raises:
      ValueError: it was fitted at another step.
    """
    path = pathlib.Path(workdir) / PRIOR_FILE
    if not path.exists():
        return None
    found = _read_arrays(path)
    fitted = int(found.pop("step"))
    if fitted != step:
        raise ValueError(
            f"{path} was fitted at step {fitted:,}, and the run is at step {step:,}: fit it again "
            "with experiments/fit_prior.py, or remove it"
        )
    return found


def read_config(workdir: str | os.PathLike[str]) -> ConfigDict:
    """The configuration of a run.

    Raises:
      FileNotFoundError: the folder holds no run.
      ValueError: its configuration cannot be read.
    """
    path = pathlib.Path(workdir) / CONFIG_FILE
    if not path.exists():
        raise FileNotFoundError(
            f"workdir={os.fspath(workdir)!r} holds no run ({CONFIG_FILE} is missing): give the "
            "folder that experiments/train.py wrote"
        )
    try:
        return ConfigDict(json.loads(path.read_text()))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}. Restore it from a copy") from error


def write_config(folder: pathlib.Path, config: ConfigDict) -> None:
    """Says whose folder it is."""
    write_json(folder / CONFIG_FILE, config.to_dict())


def _flat(config: ConfigDict) -> dict[str, Any]:
    """Dotted key -> value, as JSON would give it back; keys that are younger than the run too."""
    younger = dict(ADDED)
    for name in config.modalities:
        younger |= {f"data.missing_rates.{name}": 0.0, f"modalities.{name}.posterior": "diagonal"}
    return younger | flatten_dict(json.loads(json.dumps(config.to_dict())), sep=".")


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """`key: old -> new` for every key that differs and is not harmless."""
    before, after = _flat(old), _flat(new)
    harmless = set(HARMLESS)
    batch_norm = "batch" in (old.model.get("norm"), new.model.get("norm"))
    if batch_norm and max(old.train.accumulate, new.train.accumulate) > 1:
        harmless.remove("train.num_devices")  # which rows a part has, whose statistics count
    if _planned(old) == _planned(new):
        harmless |= {"train.epochs", "train.warmup_fraction"}
    if not batch_norm:
        harmless.add("train.accumulate")
    return [
        f"{key}: {before.get(key)!r} -> {after.get(key)!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and key not in harmless
    ]


def _planned(config: ConfigDict) -> tuple[int | None, int]:
    """What of the number of epochs the schedules depend on.

    All of them, but where the learning rate is constant; and those in which beta rises.
    """
    train = config.train
    rising = max(1, schedules.warmup_epochs(train.epochs, train.warmup_fraction))
    return None if train.schedule == "constant" else train.epochs, rising


@contextlib.contextmanager
def locked(folder: pathlib.Path, argument: str, name: str = ".lock") -> Iterator[int]:
    """A folder, made if need be, for one process at a time; the lock's descriptor.

    Locks of other names are other locks. Each is on an open file, so that it ends with the process,
    however that ends.

    Raises:
      BlockingIOError: another process holds it.
      OSError: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / name).open("w")
    except OSError as error:
        raise OSError(
            f"{argument}={os.fspath(folder)!r} cannot be written ({error}): give a folder that can"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(
                f"{argument}={os.fspath(folder)!r} is in use by another process: wait for it, or "
                "give another folder"
            ) from error
        yield lock.fileno()


@contextlib.contextmanager
def opened(
    workdir: str | os.PathLike[str], config: ConfigDict, argument: str = "workdir"
) -> Iterator[pathlib.Path]:
    """A run's folder, made if need be, locked by the first process, and compared with `config`.

    `argument` is what errors call it.

    Raises:
      ValueError: the folder holds another run, or its files without a configuration.
      BlockingIOError: another process trains in it.
      OSError: it cannot be made or written.
    """
    folder = pathlib.Path(workdir)
    with locked(folder, argument) if parallel.is_first() else contextlib.nullcontext():
        _check_owner(folder, config, argument)
        yield folder


def _check_owner(folder: pathlib.Path, config: ConfigDict, argument: str) -> None:
    if (folder / CONFIG_FILE).exists():
        changed = differences(read_config(folder), config)
        if changed:
            raise ValueError(
                f"{argument}={os.fspath(folder)!r} holds another run. It differs in "
                f"{'; '.join(changed)}. Give another folder, or the same configuration to go on"
            )
        return
    foreign = [
        name for name in ("checkpoints", METRICS_FILE, RESULTS_FILE) if (folder / name).exists()
    ]
    if foreign:
        raise ValueError(
            f"{argument}={os.fspath(folder)!r} holds {', '.join(foreign)} without a {CONFIG_FILE}: "
            "give another folder"
        )
