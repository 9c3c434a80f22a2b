"""One run of several processes: flags that join them, over JAX's own distributed runtime.

    --distributed                                          Slurm, TPU slices, GKE: found out
    --coordinator=HOST:PORT --num_processes=N --process_id=I       anywhere else

Every process runs the same command; the first one writes and speaks. A process that is lost ends
the others within `HEARTBEAT_SECONDS` and a little.
"""

import jax
from absl import flags

_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Join the processes of a cluster's job.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of the first process.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many there are.", 1)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which one this is, from 0.", 0)

HEARTBEAT_SECONDS = 60
"""A process that was not heard for so long is lost."""

START_SECONDS = 300
"""How long the processes wait for one another at the start."""


def join() -> None:
    """Joins the other processes, if the flags name any; before anything else asks JAX for devices.

    Raises:
      ValueError: flags that contradict one another, an address that is none, or no cluster found.
      OSError: the processes did not find one another.
    """
    by_hand = {
        "coordinator": _COORDINATOR.value,
        "num_processes": _NUM_PROCESSES.value,
        "process_id": _PROCESS_ID.value,
    }
    given = [name for name, value in by_hand.items() if value is not None]
    if not given and not _DISTRIBUTED.value:
        return
    if _DISTRIBUTED.value and given:
        raise ValueError(f"--distributed finds out what --{given[0]} says: give one of them")
    if given:
        _check(by_hand)
    try:
        jax.distributed.initialize(
            _COORDINATOR.value,
            _NUM_PROCESSES.value,
            _PROCESS_ID.value,
            initialization_timeout=START_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except ValueError as error:
        if given:
            raise
        raise ValueError(
            f"--distributed found no cluster ({error}): expected a job of Slurm, Open MPI, GKE or "
            "a TPU slice; elsewhere give --coordinator, --num_processes and --process_id"
        ) from error
    except RuntimeError as error:
        raise OSError(f"the processes did not find one another: {error}") from error


def _check(by_hand: dict[str, str | int | None]) -> None:
    lacking = [name for name, value in by_hand.items() if value is None]
    if lacking:
        raise ValueError(f"--{lacking[0]} is missing: several processes need {', '.join(by_hand)}")
    address, count, number = by_hand.values()
    host, _, port = str(address).rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"coordinator={address!r}: expected HOST:PORT, as 10.0.0.1:1234")
    if not int(number or 0) < int(count or 0):
        raise ValueError(f"process_id={number}: expected below num_processes={count}")
