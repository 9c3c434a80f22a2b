"""The one place that compiles: `jit` over a mesh of devices, or `pmap`.

A step is a pure function of one shard of the batch with an `axis_name`. Under `jit` it sees the
global batch and `axis_name` is None: the partitioner adds the reductions. Under `pmap` it sees
its device's rows and reduces by name. `mean` and `positions` are the same words for both.
"""

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jmvae_jax.types import Array

AXIS = "batch"


def jit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`jax.jit`, for programs of one device: evaluation, generation."""
    return jax.jit(function, **options)


def mean(tree: Any, axis_name: str | None) -> Any:
    """Mean over the shards of the batch; the tree itself where there is one program."""
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def positions(batch_size: int, axis_name: str | None) -> Array:
    """Positions in the global batch of the rows that this program sees: `int32[b]`."""
    if axis_name is None:
        return jnp.arange(batch_size)
    rows = batch_size // jax.lax.axis_size(axis_name)
    return jax.lax.axis_index(axis_name) * rows + jnp.arange(rows)


@dataclasses.dataclass(frozen=True)
class DataParallel:
    """Devices that hold one copy of the state each and share the batch.

    Args:
      devices: they divide the batch evenly.
      strategy: "jit" (one program over a mesh) or "pmap" (one program a device).

    Raises:
      ValueError: an unknown strategy, or no device.
    """

    devices: Sequence[Any]
    strategy: str = "jit"

    def __post_init__(self) -> None:
        if self.strategy not in ("jit", "pmap"):
            raise ValueError(f"strategy={self.strategy!r}: expected 'jit' or 'pmap'")
        if not self.devices:
            raise ValueError("devices is empty: expected at least one")

    @property
    def axis_name(self) -> str | None:
        """The name by which a step reduces: None under `jit`."""
        return AXIS if self.strategy == "pmap" else None

    def _sharding(self, *axes: str | None) -> NamedSharding:
        mesh = Mesh(np.asarray(self.devices), (AXIS,), axis_types=(AxisType.Auto,))
        return NamedSharding(mesh, PartitionSpec(*axes))

    def place(self, tree: Any) -> Any:
        """The arrays on every device, ready for a compiled step; what is there may be shared."""
        if self.strategy == "jit":
            return jax.device_put(tree, self._sharding())
        stacked = (len(self.devices),)
        return jax.tree.map(
            lambda x: jax.device_put(
                np.broadcast_to(np.asarray(x), stacked + np.shape(x)), self._sharding(AXIS)
            ),
            tree,
        )

    def fetch(self, tree: Any) -> Any:
        """One copy of what `place` made or a compiled step returned."""
        return tree if self.strategy == "jit" else jax.tree.map(lambda x: x[0], tree)

    def shard(self, tree: Any) -> Any:
        """Inside a step: spreads the rows of a global batch over the devices."""
        if self.strategy == "pmap":
            return tree
        return jax.lax.with_sharding_constraint(tree, self._sharding(AXIS))

    def compile(self, step: Callable[..., Any], donate: tuple[int, ...] = ()) -> Callable[..., Any]:
        """Compiles a step whose arguments and results were placed on every device."""
        if self.strategy == "pmap":
            return jax.pmap(step, AXIS, devices=list(self.devices), donate_argnums=donate)
        return jax.jit(step, donate_argnums=donate, out_shardings=self._sharding())


def data_parallel(batch_size: int, strategy: str = "jit") -> DataParallel:
    """All devices of this process, or the largest number of them that divides the batch.

    Warns with the batch sizes that would use them all where some stay idle.
    """
    devices = jax.local_devices()
    count = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
    if count < len(devices):
        below = batch_size // len(devices) * len(devices)
        sizes = " or ".join(str(size) for size in (below, below + len(devices)) if size)
        warnings.warn(
            f"batch_size={batch_size} is shared by {count} of {len(devices)} devices: a batch "
            f"of {sizes} would use them all",
            stacklevel=2,
        )
    return DataParallel(tuple(devices[:count]), strategy)
