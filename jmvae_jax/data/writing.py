"""Writing a data set with TFDS: one writer at a time, nothing half-written, no TensorFlow."""

import contextlib
import io
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

FORMAT = "array_record"


@contextlib.contextmanager
def only_writer(builder: Any) -> Iterator[None]:
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


def write(builder: Any) -> None:
    """Prepares a data set, whole or not at all; to be called by its only writer.

    What a killed preparation has left behind is removed first.
    """
    folder = pathlib.Path(builder.data_dir)
    for left_over in folder.parent.glob(f"incomplete.*_{folder.name}"):  # TFDS's own pattern
        shutil.rmtree(left_over)
    with (
        # TFDS wants a folder for downloads even if there are none, and announces them on stdout.
        tempfile.TemporaryDirectory() as downloads,
        contextlib.redirect_stdout(io.StringIO()),
        _shuffled_in_memory(),
    ):
        builder.download_and_prepare(download_dir=downloads, file_format=FORMAT)


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
