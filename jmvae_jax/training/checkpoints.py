"""Checkpoints that are whole or not there: Orbax's arrays, and a manifest of their sums.

`DIR/<step>/` holds `state/` (Orbax) and `manifest.json` (SHA-256 of every file). A checkpoint
is written under another name, synced, and renamed: a kill at any instant leaves the older ones
as they were. Orbax restores a damaged file in silence, so the sums are checked first.
"""

import hashlib
import json
import os
import pathlib
import shutil
import warnings
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jmvae_jax import parallel

_MANIFEST = "manifest.json"
_UNFINISHED = "unfinished-"
_NONE, _NONE_WHOLE = -1, -2


class CheckpointError(OSError):
    """There are checkpoints, and none of them is whole."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
      directory: made at the first save.
      keep: how many of the newest are kept.

    Example:
      >>> import tempfile, jax.numpy as jnp
      >>> from jmvae_jax.training.checkpoints import Checkpoints
      >>> checkpoints = Checkpoints(tempfile.mkdtemp(), keep=2)
      >>> checkpoints.save(3, {"w": jnp.ones(2)})
      >>> step, tree = checkpoints.restore({"w": jnp.zeros(2)})
      >>> step
      3
    """

    def __init__(self, directory: str | os.PathLike[str], keep: int = 3):
        if keep < 1:
            raise ValueError(f"keep={keep}: expected at least 1")
        self.directory = pathlib.Path(directory).absolute()
        self.keep = keep

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are there, oldest first, whole or damaged."""
        if not self.directory.exists():
            return []
        return sorted(int(p.name) for p in self.directory.iterdir() if p.name.isdecimal())

    def save(self, step: int, tree: Any) -> None:
        """Writes a checkpoint, whole or not at all, then removes the oldest beyond `keep`.

        Raises:
          OSError: it could not be written; the earlier ones are as they were.
        """
        unfinished = self.directory / f"{_UNFINISHED}{step}"
        if parallel.is_first():
            self.directory.mkdir(parents=True, exist_ok=True)
            for left_over in self.directory.glob(f"{_UNFINISHED}*"):
                shutil.rmtree(left_over)
        parallel.meet("before a checkpoint")
        try:
            with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
                checkpointer.save(unfinished / "state", args=ocp.args.StandardSave(tree))
            if parallel.is_first():
                self._finish(unfinished, step, tree)
        except BaseException as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            if not isinstance(error, Exception):
                raise
            # A full disk has many names: Orbax's stores have errors of their own.
            raise OSError(
                f"checkpoint {step} could not be written to {self.directory}: {error}. The earlier "
                f"ones are as they were (steps {self.steps()})"
            ) from error
        if parallel.is_first():
            self._remove_old(step)
        parallel.meet("after a checkpoint")

    def _finish(self, unfinished: pathlib.Path, step: int, tree: Any) -> None:
        """Writes the manifest and gives the checkpoint its name."""
        manifest = {
            "step": step,
            "arrays": _arrays(tree),
            "sha256": _sums(unfinished / "state"),
        }
        (unfinished / _MANIFEST).write_text(json.dumps(manifest, indent=1))
        for path in (unfinished, *unfinished.rglob("*")):
            _sync(path)
        final = self.directory / str(step)
        if final.exists():
            shutil.rmtree(final)
        os.rename(unfinished, final)
        _sync(self.directory)

    def _remove_old(self, step: int) -> None:
        """All but the newest `keep`; what cannot be removed is told, and tried again next time."""
        # Later ones are damaged ones that were passed over: they count for nothing.
        for old in [other for other in self.steps() if other <= step][: -self.keep]:
            try:
                shutil.rmtree(self.directory / str(old))
            except OSError as error:
                warnings.warn(
                    f"the old checkpoint {self.directory / str(old)} cannot be removed ({error})",
                    stacklevel=3,
                )

    def restore(self, target: Any) -> tuple[int, Any] | None:
        """The newest whole checkpoint.

        Args:
          target: a tree with the structure, shapes and dtypes of what was saved.

        Returns:
          Its step and the tree, or None where there is no checkpoint.

        Warns of every damaged one that is passed over, by name. Beside a run that trains and keeps
        one checkpoint alone, that one may go while it is read: read again.

        Raises:
          CheckpointError: there are checkpoints, and none of them is whole.
          ValueError: it holds other arrays than `target`.
        """
        # One process looks, so that all read the same one and each damage is told once.
        step = parallel.tell(self._newest_whole() if parallel.is_first() else 0)
        if step == _NONE_WHOLE:
            raise CheckpointError(
                f"none of the checkpoints in {self.directory} is whole (steps {self.steps()}). "
                "Nothing was changed; restore the folder from a copy, or start again in another one"
            )
        return None if step == _NONE else (step, self._read(step, target))

    def newest(self) -> int | None:
        """The step of the newest whole checkpoint; None where there is none. Warns as `restore`."""
        step = self._newest_whole()
        return None if step in (_NONE, _NONE_WHOLE) else step

    def _newest_whole(self) -> int:
        """The step of the newest whole checkpoint, `_NONE` or `_NONE_WHOLE`."""
        steps = self.steps()
        for step in reversed(steps):
            damage = self._damage(step)
            if damage is None:
                return step
            if not (self.directory / str(step)).exists():
                continue  # who trains has removed it meanwhile
            warnings.warn(
                f"checkpoint {self.directory / str(step)} is damaged ({damage}): trying the one "
                "before",
                stacklevel=3,
            )
        if steps != self.steps():  # who trains has written others meanwhile
            return self._newest_whole()
        return _NONE_WHOLE if steps else _NONE

    def _read(self, step: int, target: Any) -> Any:
        saved = json.loads((self.directory / str(step) / _MANIFEST).read_text())["arrays"]
        wanted = _arrays(target)
        for name in sorted(saved.keys() | wanted.keys()):
            if saved.get(name) != wanted.get(name):
                raise ValueError(
                    f"checkpoint {self.directory / str(step)} has {name} of shape "
                    f"{saved.get(name)}: expected {wanted.get(name)}"
                )
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), target
        )
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
            return checkpointer.restore(
                self.directory / str(step) / "state", args=ocp.args.StandardRestore(abstract)
            )

    def _damage(self, step: int) -> str | None:
        """What is wrong with a checkpoint, or None."""
        folder = self.directory / str(step)
        try:
            manifest = json.loads((folder / _MANIFEST).read_text())
            expected, _ = manifest["sha256"], manifest["arrays"]
        except (OSError, ValueError, KeyError) as error:
            return f"its {_MANIFEST} cannot be read: {error}"
        try:
            found = _sums(folder / "state")
        except OSError as error:
            return f"its files cannot be read: {error}"
        missing = sorted(set(expected) - set(found))
        if missing:
            return f"{missing[0]} is missing"
        changed = sorted(name for name, value in expected.items() if found[name] != value)
        return f"{changed[0]} has changed" if changed else None


def _arrays(tree: Any) -> dict[str, str]:
    """Path of each leaf -> its dtype and shape."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path): f"{np.dtype(leaf.dtype)}{list(leaf.shape)}"
        for path, leaf in leaves
    }


def _sums(folder: pathlib.Path) -> dict[str, str]:
    sums = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            sums[str(path.relative_to(folder))] = digest
    return sums


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
