"""What the machine has beside its CPU, for those who run on the CPU without meaning to."""

import os
import pathlib
import re

import jax

# Google's PCI devices that are TPUs; the same vendor makes the network cards of its machines.
_GOOGLE = "0x1ae0"
_TPUS = {"0x0027", "0x0056", "0x005e", "0x0062", "0x0063", "0x006f", "0x0076"}
_CUDA_13_DRIVER = 580


def unused_accelerator(root: str | os.PathLike[str] = "/") -> str | None:
    """Words about an NVIDIA GPU or a TPU that the system shows and JAX does not use, or None.

    Args:
      root: of the file system that is looked at.
    """
    if jax.default_backend() != "cpu":
        return None
    found = _visible(pathlib.Path(root))
    if found is None:
        return None
    name, extra = found
    platforms = os.environ.get("JAX_PLATFORMS")
    if platforms:
        return f"{name} is visible, and JAX runs on the CPU: JAX_PLATFORMS={platforms} says so"
    return (
        f"{name} is visible, and JAX runs on the CPU: pip install -e '.[{extra}]' lets it be used"
    )


def _visible(root: pathlib.Path) -> tuple[str, str] | None:
    """The accelerator's name, and the extra of this package that serves it."""
    gpus = [*root.glob("dev/nvidia[0-9]*"), *root.glob("proc/driver/nvidia/gpus/*")]
    if gpus:
        return "an NVIDIA GPU", f"cuda{_cuda(root / 'proc' / 'driver' / 'nvidia' / 'version')}"
    pci = [
        device
        for device in root.glob("sys/bus/pci/devices/*")
        if _read(device / "vendor") == _GOOGLE and _read(device / "device") in _TPUS
    ]
    if pci or [*root.glob("dev/accel[0-9]*")]:
        return "a TPU", "tpu"
    return None


def _cuda(version: pathlib.Path) -> int:
    """CUDA's newest version that the driver serves, of those there is an extra for."""
    driver = re.search(r"Kernel Module.*?(\d+)\.\d+", _read(version))
    return 13 if driver and int(driver[1]) >= _CUDA_13_DRIVER else 12


def _read(path: pathlib.Path) -> str:
    return path.read_text().strip() if path.is_file() else ""
