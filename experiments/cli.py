"""Starts a command: flags in, errors of use out as one paragraph."""

import difflib
import importlib.util
import os
import pathlib
import platform
import signal
import sys
import textwrap
import traceback
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
from absl import flags, logging
from flax.traverse_util import flatten_dict

_TRACEBACK = flags.DEFINE_bool("traceback", False, "Show the whole traceback of an error.")

_COMPILE_CACHE = flags.DEFINE_string(
    "compile_cache",
    None,
    "Folder where compiled programs are kept, so that a machine compiles each once; '': nowhere. "
    "JAX_COMPILATION_CACHE_DIR by default, else ~/.cache/jmvae_jax.",
)

# What bad input raises. Anything else is a defect of ours, and shows its traceback.
ERRORS_OF_USE = (ValueError, TypeError, OSError, FloatingPointError)

_CONFIG_KEY = "--config."


def launch(main: Callable[[], int | None], argv: Sequence[str] | None = None) -> None:
    """Parses the flags and runs `main`, then exits with its status.

    Exit status: 0, or what `main` returns; 1 for an error while it runs; 2 for bad flags; 130
    after ^C. With `--help` it says what the command does and its flags, and exits with 0.
    """
    logging.set_verbosity(logging.ERROR)
    argv = list(sys.argv if argv is None else argv)
    if "--help" in argv or "-h" in argv:
        print(_help(argv[0]))
        sys.exit(0)
    try:
        left_over = flags.FLAGS(argv)[1:]
        if left_over:
            raise flags.Error(f"{left_over} are no flags: write --name=value")
    except (flags.Error, AttributeError, KeyError, *ERRORS_OF_USE) as error:
        _exit(_flag_words(error, argv[1:]), 2, "--traceback" in argv)
    _keep_programs()
    try:
        sys.exit(main() or 0)
    except ERRORS_OF_USE as error:
        _exit(str(error), 1, _TRACEBACK.value)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _help(command: str) -> str:
    """What a command says of itself, its own flags and those that commands share."""
    modules = [
        name for name in flags.FLAGS.flags_by_module_dict() if name.startswith("experiments.")
    ]
    parts = [
        sys.modules["__main__"].__doc__ or "",
        *map(flags.FLAGS.module_help, [command, *modules]),
    ]
    return "\n\n".join(part.strip("\n") for part in parts)


def _keep_programs() -> None:
    """Tells JAX where compiled programs are kept."""
    folder = _COMPILE_CACHE.value
    if folder is None:
        folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or _own_cache()
    jax.config.update("jax_compilation_cache_dir", folder or None)
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _own_cache() -> str:
    """A folder for this kind of processor: another's programs may not run here."""
    about = pathlib.Path("/proc/cpuinfo")
    words = about.read_text().split("\n\n")[0] if about.exists() else platform.processor()
    kind = [
        line for line in words.splitlines() if line.startswith(("flags", "Features", "model n"))
    ]
    key = f"{platform.machine()}_{zlib.crc32(repr(kind).encode()):08x}"
    return str(pathlib.Path("~/.cache/jmvae_jax").expanduser() / key)


def _exit(words: str, status: int, show: bool) -> None:
    if show:
        traceback.print_exc()
    print(
        textwrap.fill(f"error: {words}", 100, break_long_words=False), file=sys.stderr, flush=True
    )
    if jax.distributed.is_initialized():
        os._exit(status)  # the other processes are not kept waiting for a goodbye
    sys.exit(status)


def _flag_words(error: Exception, argv: Sequence[str]) -> str:
    """What is wrong with the flags, without the traceback that config_flags puts into it."""
    if isinstance(error, AttributeError | KeyError):
        return _unknown_key(argv)
    lines = str(error).strip().splitlines()
    if any("Traceback" in line for line in lines):
        return f"--config: {lines[-1].partition(': ')[2] or lines[-1]}"
    return " ".join(line.strip() for line in lines)


def _unknown_key(argv: Sequence[str]) -> str:
    """Names the first override whose key the configuration lacks, and the nearest known key."""
    words = ["--" + word.lstrip("-") if word.startswith("-") else word for word in argv]
    known = list(flatten_dict(_default_config(words).to_dict(), sep="."))
    given = (word.removeprefix(_CONFIG_KEY) for word in words if word.startswith(_CONFIG_KEY))
    unknown = next((k for k in (w.partition("=")[0] for w in given) if k not in known), None)
    if unknown is None:  # --noconfig.KEY
        return "a key of the configuration is not known: write --config.KEY=VALUE"
    leaves = {key.rpartition(".")[2]: key for key in known}
    near = difflib.get_close_matches(unknown.rpartition(".")[2], leaves, 1, 0.6)
    nearest = leaves[near[0]] if near else difflib.get_close_matches(unknown, known, 1, 0.0)[0]
    return (
        f"{_CONFIG_KEY}{unknown} is no key of the configuration: the nearest is "
        f"{_CONFIG_KEY}{nearest}"
    )


def _default_config(words: Sequence[str]) -> Any:
    """The configuration without overrides; config_flags applies them all or fails."""
    pairs = zip(words, [*words[1:], ""], strict=True)
    given = next(
        following if word == "--config" else word.removeprefix("--config=")
        for word, following in pairs
        if word == "--config" or word.startswith("--config=")
    )
    path, _, variant = given.partition(":")
    spec = importlib.util.spec_from_file_location("_config", path)
    assert spec is not None  # config_flags has read this file
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(variant) if variant else module.get_config()
