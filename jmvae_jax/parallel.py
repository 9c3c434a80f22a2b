"""The one place that compiles: `jit` over a mesh of devices, or `pmap`, of one process or many.

A step is a pure function of one shard of the batch: it takes the rows that `positions` names and
reduces by `mean` over the axis `AXIS`. `DataParallel` runs it once on each device, by `jit` of a
`shard_map` or by `pmap`; either way the collectives of the compiled program are those that the
step asks for. Evaluation follows its variables: where these are on several devices
(`replicate`), functions made by `by_rows` share their rows among them.

With several processes (`jax.distributed`) the devices are those of all of them, and every process
calls the same functions in the same order.
"""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jmvae_jax.types import Array

AXIS = "batch"

_WHOLE, _ROWS = PartitionSpec(), PartitionSpec(AXIS)


def jit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`jax.jit`, for programs of one device."""
    return jax.jit(function, **options)


def mean(tree: Any, axis_name: str | None) -> Any:
    """Mean over the shards of the batch; the tree itself where there is one shard."""
    if axis_name is None or jax.lax.axis_size(axis_name) == 1:
        return tree
    return jax.lax.pmean(tree, axis_name)


def positions(batch_size: int, axis_name: str | None) -> Array:
    """Positions in the global batch of the rows that this shard sees: `int32[b]`."""
    if axis_name is None:
        return jnp.arange(batch_size)
    rows = batch_size // jax.lax.axis_size(axis_name)
    return jax.lax.axis_index(axis_name) * rows + jnp.arange(rows)


def _mesh(devices: Sequence[Any]) -> Mesh:
    return Mesh(np.asarray(devices), (AXIS,), axis_types=(AxisType.Auto,))


def _put(tree: Any, sharding: NamedSharding) -> Any:
    """Arrays that every process has whole, laid out over the devices of all processes."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def one(values: Any) -> Array:
        if isinstance(values, jax.Array) and jnp.issubdtype(values.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(one(jax.random.key_data(values)))
        host = np.asarray(values)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(one, tree)


def _own(tree: Any) -> Any:
    """This process's copy of arrays that every device has whole."""
    return jax.tree.map(lambda x: x.addressable_data(0), tree)


@dataclasses.dataclass(frozen=True)
class DataParallel:
    """Devices that hold one copy of the state each and share the batch.

    Args:
      devices: of all processes; they divide the batch evenly.
      strategy: "jit" (one program over a mesh) or "pmap".

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

    def replicate(self, tree: Any) -> Any:
        """The arrays whole on every device: where checkpoints and evaluation take them from."""
        return _put(tree, NamedSharding(_mesh(self.devices), _WHOLE))

    def place(self, tree: Any) -> Any:
        """The arrays on every device, ready for a compiled step; what is there may be shared."""
        if self.strategy == "jit":
            return self.replicate(tree)
        # A program of pmap sees the devices of its own process, by a leading axis.
        count = len(self._own)
        return self.place_shards(
            jax.tree.map(lambda x: np.broadcast_to(np.asarray(x), (count, *np.shape(x))), tree)
        )

    def place_shards(self, tree: Any) -> Any:
        """Arrays `[devices of this process, ...]`, to each device its own: see `compile`."""
        devices = [d for _, d in self._own] if self.strategy == "pmap" else self.devices
        sharding = NamedSharding(_mesh(devices), _ROWS)
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), tree)

    def own_positions(self, batch_size: int) -> np.ndarray:
        """Positions in the global batch of the rows of this process, `[its devices, b]`."""
        rows = np.arange(batch_size).reshape(len(self.devices), -1)
        return rows[[number for number, _ in self._own]]

    @property
    def _own(self) -> list[tuple[int, Any]]:
        """This process's devices, with their numbers."""
        mine = jax.process_index()
        return [(n, d) for n, d in enumerate(self.devices) if d.process_index == mine]

    def fetch(self, tree: Any) -> Any:
        """This process's copy of what `place` made or a compiled step returned, on one device."""
        tree = _own(tree)
        return tree if self.strategy == "jit" else jax.tree.map(lambda x: x[0], tree)

    def compile(
        self,
        step: Callable[..., Any],
        donate: tuple[int, ...] = (),
        shards: tuple[int, ...] = (),
    ) -> Callable[..., Any]:
        """Compiles a step whose arguments and results were placed on every device.

        The step runs on each device, knows which by `AXIS`, and gives the same on all. Arguments
        with the numbers `shards` are other ones on each device, from `place_shards`.
        """
        if self.strategy == "pmap":
            some = None if len(self.devices) == jax.device_count() else list(self.devices)
            return jax.pmap(step, AXIS, devices=some, donate_argnums=donate)

        def own(*args: Any) -> Any:
            parts = [
                jax.tree.map(lambda x: x[0], a) if n in shards else a for n, a in enumerate(args)
            ]
            return step(*parts)

        def mapped(*args: Any) -> Any:
            specs = tuple(_ROWS if n in shards else _WHOLE for n in range(len(args)))
            options: Any = {"in_specs": specs, "out_specs": _WHOLE, "check_vma": False}
            return jax.shard_map(own, mesh=_mesh(self.devices), **options)(*args)

        return jax.jit(mapped, donate_argnums=donate)


def data_parallel(
    batch_size: int, strategy: str = "jit", num_devices: int | None = None, parts: int = 1
) -> DataParallel:
    """The devices of all processes, as many as share the batch evenly.

    In one process, and where `num_devices` is None, these are the largest number of devices that
    divides the batch, with a warning of the sizes that would use them all.

    Args:
      batch_size: of the global batch.
      strategy: see `DataParallel`.
      num_devices: how many to use; several processes use all of theirs.
      parts: into which each device divides its rows, for accumulated gradients.

    Raises:
      ValueError: `num_devices` that are not there, or a batch that does not divide evenly where
        `num_devices` is given or there are several processes.

    Example:
      >>> from jmvae_jax.parallel import data_parallel
      >>> len(data_parallel(96, num_devices=1).devices)
      1
    """
    devices, several = jax.devices(), jax.process_count() > 1
    if num_devices is not None and not 1 <= num_devices <= len(devices):
        raise ValueError(
            f"num_devices={num_devices}: expected between 1 and the {len(devices)} there are"
        )
    if several and num_devices not in (None, len(devices)):
        raise ValueError(
            f"num_devices={num_devices}: several processes use all of their devices, {len(devices)}"
        )
    wanted = len(devices) if num_devices is None else num_devices
    fitting = [n for n in range(1, wanted + 1) if batch_size % (n * parts) == 0]
    if wanted in fitting:
        return DataParallel(tuple(devices[:wanted]), strategy)
    every = wanted * parts
    below = batch_size // every * every
    sizes = " or ".join(str(size) for size in (below, below + every) if size)
    in_parts = f", {parts} parts each" if parts > 1 else ""
    if num_devices is not None or several or not fitting:
        raise ValueError(
            f"batch_size={batch_size} is not shared evenly by {wanted} devices{in_parts}: "
            f"expected {sizes}, say"
        )
    warnings.warn(
        f"batch_size={batch_size} is shared by {fitting[-1]} of {wanted} devices{in_parts}: a "
        f"batch of {sizes} would use them all",
        stacklevel=2,
    )
    return DataParallel(tuple(devices[: fitting[-1]]), strategy)


def replicate(tree: Any) -> Any:
    """The arrays whole on every device of every process, so that evaluation uses them all."""
    return DataParallel(tuple(jax.devices())).replicate(tree)


def by_rows(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a function whose results belong to rows, and spreads them over devices.

    It multiplies in full float32 also where the backend would round the operands (an NVIDIA GPU to
    TF32, a TPU to bfloat16), so that an evaluation does not depend on the machine.

    Args:
      function: `function(variables, rows, **static)`: arrays of `rows` and of the result have the
        rows as their first axis, and a row of the result depends on that row alone.

    Returns:
      The same function. Where `variables` were put on several devices by `replicate`, each
      device computes a share of the rows, without a word to the others, and the result comes
      back to one device of each process.
    """

    @functools.partial(jax.jit, static_argnames=("mesh", "static"))
    def compiled(variables: Any, rows: Any, mesh: Mesh | None, static: Any) -> Any:
        part = functools.partial(function, **dict(static))
        if mesh is None:
            return part(variables, rows)
        mapped = jax.shard_map(
            part, mesh=mesh, in_specs=(_WHOLE, _ROWS), out_specs=_ROWS, check_vma=False
        )
        return jax.lax.with_sharding_constraint(
            mapped(variables, rows), NamedSharding(mesh, _WHOLE)
        )

    @functools.wraps(function)
    @jax.default_matmul_precision("highest")
    def spread(variables: Any, rows: Any, **static: Any) -> Any:
        mesh, options = _mesh_of(variables), tuple(static.items())
        if mesh is None:
            return compiled(variables, rows, None, options)
        count = jax.tree.leaves(rows)[0].shape[0]
        filled = -(-count // mesh.size) * mesh.size
        if filled > count:
            index = np.minimum(np.arange(filled), count - 1)
            rows = jax.tree.map(lambda x: x[index], rows)
        found = _own(compiled(variables, _put(rows, NamedSharding(mesh, _ROWS)), mesh, options))
        return jax.tree.map(lambda x: x[:count], found) if filled > count else found

    return spread


def _mesh_of(variables: Any) -> Mesh | None:
    """The mesh of several devices that concrete arrays are on, if they are on one."""
    for leaf in jax.tree.leaves(variables):
        if isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer):
            mesh = getattr(leaf.sharding, "mesh", None)
            if isinstance(mesh, Mesh) and mesh.axis_names == (AXIS,):
                return mesh if mesh.size > 1 else None
    return None


# Several processes


def is_first() -> bool:
    """Whether this is the process that writes files and speaks."""
    return jax.process_index() == 0


def meet(name: str) -> None:
    """Waits until every process is here; `name` says where, in the error of one that is not."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def tell(value: int) -> int:
    """The first process's number, on all of them."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


class Vote:
    """The largest of the processes' numbers, the same on all of them at every call.

    With several processes the answer is that of the call before, so that no device waits.
    """

    def __init__(self) -> None:
        self._sharding = NamedSharding(_mesh(jax.devices()), _ROWS)
        self._largest = jax.jit(jnp.max, out_shardings=NamedSharding(self._sharding.mesh, _WHOLE))
        self._asked: Array | None = None

    def __call__(self, number: int) -> int:
        if jax.process_count() == 1:
            return number
        before = self._asked
        self._asked = self._largest(
            jax.make_array_from_callback(
                (jax.device_count(),), self._sharding, lambda _: np.full(1, number, np.int32)
            )
        )
        return 0 if before is None else int(before)
