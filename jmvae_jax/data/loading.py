"""The one door to stored data: data sets are prepared once, then loaded as NumPy arrays.

`prepare` writes a data set with TFDS in its array_record format, which needs no TensorFlow, or
takes one that is already there. `load` decodes it, in the prepared (TFDS) order. Decoding tens of
thousands of PNG files takes seconds, so `decoded` keeps a copy of each split beside them.
"""

import contextlib
import difflib
import importlib
import io
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from jmvae_jax.data.decoded import decoded

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

# One entry per data set: the module and the class of its builder, imported when it is asked for
# because TFDS is slow to import. A builder has, beside what TFDS asks of it, a method
# `collect_sources(manual_dir, download)` that finds and verifies its source files without writing.
_BUILDERS = {
    "fashion_mnist": ("jmvae_jax.data.mnist", "FashionMnist"),
    "kmnist": ("jmvae_jax.data.mnist", "Kmnist"),
    "mnist": ("jmvae_jax.data.mnist", "Mnist"),
}

_FORMAT = "array_record"

PathLike = str | os.PathLike[str]


def prepare(
    name: str,
    *,
    data_dir: PathLike | None = None,
    manual_dir: PathLike | None = None,
    download: bool = False,
) -> "tfds.core.DatasetBuilder":
    """Prepares a data set on disk, unless it is there already, and returns its TFDS builder.

    A data set found in `data_dir`, prepared by this function or by TFDS itself, is used as it is.
    Preparing is safe against other processes that prepare the same data set: one writes, the others
    wait and use what it wrote. Nothing half-written is left behind. It holds the largest split in
    memory, encoded.

    Args:
      name: Name of the data set, for instance `"mnist"`.
      data_dir: Local folder of prepared data sets; TFDS's own default (`$TFDS_DATA_DIR`, else
        `~/tensorflow_datasets`) if None.
      manual_dir: Folder with the source files, for what does not ship with the package; a
        subfolder of the data set's name is looked into first.
      download: Whether source files that are not found may be downloaded. Without it, no network
        is ever tried.

    Returns:
      The builder of the prepared data set.

    Raises:
      ValueError: The name is unknown, a source file is not what it should be, or `data_dir` has
        the data set in a format other than array_record.
      FileNotFoundError: A source file, or a file of the prepared data set, is missing.
      OSError: `data_dir` cannot be written, or a download failed.

    Example:
      builder = prepare("mnist", data_dir="data")
      builder.info.splits["test"].num_examples  # 10000
    """
    builder = _new_builder(name, data_dir)
    if _is_prepared(builder):
        return builder
    builder.collect_sources(None if manual_dir is None else _expand(manual_dir), download)
    with _only_writer(builder):
        if not _is_prepared(_new_builder(name, data_dir)):  # nobody else was faster
            _write(builder)
    return _new_builder(name, data_dir)


def load(
    name: str,
    split: str,
    *,
    data_dir: PathLike | None = None,
    manual_dir: PathLike | None = None,
    download: bool = False,
) -> dict[str, np.ndarray]:
    """Loads a split of a data set as arrays, preparing the data set first if need be.

    Args:
      name: Name of the data set, for instance `"mnist"`.
      split: A split in the notation of TFDS: `"train"`, `"train[:50000]"`, `"train[10%:]"`,
        `"train+test"`.
      data_dir: See `prepare`.
      manual_dir: See `prepare`.
      download: See `prepare`.

    Returns:
      One array per feature, `[N, ...]`, in the prepared order and in the dtype it is stored in
      (class labels: int32), and `"index"` `[N]`, int32: the position of each example in its base
      split, whatever part of that was asked for. Text is left out. For the MNIST family:
      `"image"` uint8 `[N, 28, 28, 1]`, `"label"` int32 `[N]` and `"index"`.

    Raises:
      ValueError: The split is unknown, malformed or empty; and see `prepare`.
      FileNotFoundError: See `prepare`.
      OSError: See `prepare`.

    Example:
      arrays = load("mnist", "test[2000:]", data_dir="data")
      arrays["image"].shape  # (8000, 28, 28, 1)
      arrays["index"][0]  # 2000
    """
    builder = prepare(name, data_dir=data_dir, manual_dir=manual_dir, download=download)
    pieces = _parse_split(builder, split)
    whole = {base: decoded(builder, base) for base in dict.fromkeys(base for base, _ in pieces)}
    parts = [
        {key: array[positions.start : positions.stop] for key, array in whole[base].items()}
        | {"index": np.arange(positions.start, positions.stop, dtype=np.int32)}
        for base, positions in pieces
    ]
    if len(parts) == 1:  # spare a copy of what may be gigabytes
        return parts[0]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def num_examples(name: str, split: str, **options: Any) -> int:
    """Number of examples in a split; arguments and errors are those of `load`."""
    return sum(len(positions) for _, positions in _parse_split(prepare(name, **options), split))


def _new_builder(name: str, data_dir: PathLike | None) -> Any:
    if name not in _BUILDERS:
        near = difflib.get_close_matches(name, _BUILDERS, n=1)
        raise ValueError(
            f"name={name!r} is no data set known here; expected one of {', '.join(_BUILDERS)}."
            + (f" Did you mean {near[0]!r}?" if near else "")
        )
    module, class_name = _BUILDERS[name]
    builder_class = getattr(importlib.import_module(module), class_name)
    from google.protobuf.json_format import ParseError

    try:
        return builder_class(data_dir=None if data_dir is None else _expand(data_dir))
    except ParseError as error:
        where = "TFDS's default folder" if data_dir is None else data_dir
        raise ValueError(
            f"{name}: the description of the prepared data set in {where} is damaged "
            f"({str(error).splitlines()[0]}). Delete its folder to have it prepared again."
        ) from error


def _expand(path: PathLike) -> pathlib.Path:
    return pathlib.Path(path).expanduser()


def _is_prepared(builder: Any) -> bool:
    """Whether the data set is there in full; raises if what is there cannot be used."""
    folder = pathlib.Path(builder.data_dir)
    if not folder.exists():
        return False
    # TFDS takes any folder of this name for the prepared data set, even an empty one.
    if not (folder / "dataset_info.json").exists():
        raise FileNotFoundError(
            f"{builder.name}: {folder} has no dataset_info.json, so it is not a prepared data set. "
            f"Delete that folder, or pass another data_dir."
        )
    found = builder.info.file_format.value
    if found != _FORMAT:
        raise ValueError(
            f"{builder.name}: {folder} was prepared in the format {found}, which only TensorFlow "
            f"can read; expected {_FORMAT}. Pass another data_dir, where it can be prepared in "
            f"{_FORMAT}, or delete that folder."
        )
    shards = [pathlib.Path(p) for s in builder.info.splits.values() for p in s.filepaths]
    missing = [shard.name for shard in shards if not shard.exists()]
    if missing or not shards:
        raise FileNotFoundError(
            f"{builder.name}: {folder} lacks {', '.join(missing) or 'its splits'}. Delete that "
            f"folder to have it prepared again, or pass another data_dir."
        )
    return True


@contextlib.contextmanager
def _only_writer(builder: Any) -> Iterator[None]:
    """Holds the data set's lock file.

    TFDS writes to a temporary folder and renames it, which alone would not do: the second of two
    writers fails at the end of its work, and two that seeded `random` alike share that folder.
    """
    import fcntl  # Unix only, as array_record is; the rest of the library need not be

    folder = pathlib.Path(builder.data_dir)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = (folder.parent / f".{folder.name}.lock").open("w")
    except OSError as error:
        raise OSError(
            error.errno,
            f"{builder.name}: cannot write to {folder.parent} ({error.strerror}). Pass a data_dir "
            f"that can be written, or one that has the data set prepared",
        ) from error
    with lock:  # closing it releases the lock; deleting the file would let two writers in
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(builder: Any) -> None:
    with (
        # TFDS wants a folder for downloads even if there are none, and announces them on stdout.
        tempfile.TemporaryDirectory() as downloads,
        contextlib.redirect_stdout(io.StringIO()),
        _shuffled_in_memory(),
    ):
        builder.download_and_prepare(download_dir=downloads, file_format=_FORMAT)


@contextlib.contextmanager
def _shuffled_in_memory() -> Iterator[None]:
    """Keeps TFDS from shuffling on disk: what is over a gibibyte it spills with TensorFlow."""
    from tensorflow_datasets.core import shuffle

    limit = shuffle.MAX_MEM_BUFFER_SIZE
    shuffle.MAX_MEM_BUFFER_SIZE = sys.maxsize
    try:
        yield
    finally:
        shuffle.MAX_MEM_BUFFER_SIZE = limit


def _parse_split(builder: Any, split: str) -> list[tuple[str, range]]:
    """Returns the base split and the positions in it of each term of `split`."""
    import tensorflow_datasets as tfds

    sizes = {base: info.num_examples for base, info in builder.info.splits.items()}
    available = ", ".join(f"{base} ({size} examples)" for base, size in sizes.items())
    advice = f"Available: {available}, their parts such as 'train[:50%]', and sums of these by '+'."
    try:
        terms = tfds.core.ReadInstruction.from_spec(split).to_absolute(builder.info.splits)
    except (ValueError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"{builder.name}: cannot read split={split!r}: {error} {advice}"
        ) from error
    pieces = [
        (term.splitname, range(sizes[term.splitname])[term.from_ : term.to]) for term in terms
    ]
    if not any(positions for _, positions in pieces):
        raise ValueError(f"{builder.name}: split={split!r} is empty. {advice}")
    return pieces
