"""MNIST, Fashion-MNIST and KMNIST as TFDS builders that need no TensorFlow.

Each builder is the stock one (same name, version, features, keys, hence the same order of examples
and the same files on disk) with another source: four local IDX files instead of a download unpacked
by TensorFlow. MNIST's files ship with the package; those of the other two come from a `manual_dir`.

What decides whether a file is the right one is the SHA-256 of its unpacked bytes, so a file may be
the original `.gz`, packed again, or unpacked.
"""

import gzip
import hashlib
import http.client
import importlib.resources
import pathlib
import urllib.parse
import urllib.request
import warnings
import zlib
from collections.abc import Iterator
from importlib.resources.abc import Traversable
from typing import Any

import numpy as np
from PIL import Image
from tensorflow_datasets.image_classification import mnist as stock

_STEMS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_SPLITS = {"train": _STEMS[:2], "test": _STEMS[2:]}

# Of the unpacked bytes, in the order of _STEMS. KMNIST has no entry: only the sums of its original
# .gz files are known (TFDS registers them).
_SHA256 = {
    "mnist": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    "fashion_mnist": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}


class _IdxBuilder(stock.MNIST, skip_registration=True):  # type: ignore[call-arg]
    """A stock builder of the MNIST family, fed from four local IDX files."""

    _sources: dict[str, tuple[np.ndarray, np.ndarray]] | None = None

    def collect_sources(
        self, manual_dir: pathlib.Path | None = None, download: bool = False
    ) -> None:
        """Reads and verifies the four source files, in memory; writes nothing.

        Each file is looked for in `manual_dir/<name>`, then in `manual_dir`, then in the package,
        and fetched from the stock address only if it is in none of them and `download` is set.

        Args:
          manual_dir: Folder with the user's own copies of the files.
          download: Whether the network may be used for what is missing.

        Raises:
          FileNotFoundError: A file, or `manual_dir` itself, is missing.
          ValueError: A file is damaged, or is not the one it should be.
          OSError: A file could not be read, or not be downloaded.
        """
        if manual_dir is not None and not manual_dir.is_dir():
            raise FileNotFoundError(
                f"{self.name}: manual_dir={str(manual_dir)!r} is no folder. Pass the folder that "
                f"holds the files of this data set."
            )
        self._sources = {split: self._read_split(split, manual_dir, download) for split in _SPLITS}

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        if self._sources is None:
            self.collect_sources()
        # TFDS caches `info` per builder for the life of the process, and with it the builder:
        # what it holds would never be freed.
        sources, self._sources = self._sources or {}, None
        return {split: self._generate_examples(*arrays) for split, arrays in sources.items()}

    def _generate_examples(
        self, images: np.ndarray, labels: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for key, (image, label) in enumerate(zip(images, labels, strict=True)):
            # TFDS encodes arrays with TensorFlow, but PIL images with PIL.
            yield key, {"image": Image.fromarray(image), "label": int(label)}

    def _read_split(
        self, split: str, manual_dir: pathlib.Path | None, download: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the verified images `[N, 28, 28]` and labels `[N]`, both uint8."""
        images, labels = (self._read_file(s, manual_dir, download) for s in _SPLITS[split])
        if len(images) != len(labels) or labels.max(initial=0) > 9:
            raise ValueError(
                f"{self.name}: the {split} split came with {len(images)} images, {len(labels)} "
                f"labels and a largest label of {labels.max(initial=0)}; expected as many labels "
                f"as images, from 0 to 9. {self._advice(_SPLITS[split][1])}"
            )
        return images, labels

    def _read_file(self, stem: str, manual_dir: pathlib.Path | None, download: bool) -> np.ndarray:
        path = self._find(stem, manual_dir)
        if path is not None:
            where, packed = str(path), path.read_bytes()
        elif download:
            where = urllib.parse.urljoin(self.URL, f"{stem}.gz")
            packed = self._fetch(where)
        else:
            missing = [f"{s}.gz" for s in _STEMS if self._find(s, manual_dir) is None]
            raise FileNotFoundError(
                f"{self.name}: {', '.join(missing)}: not found, neither packed nor unpacked, in "
                f"manual_dir={None if manual_dir is None else str(manual_dir)!r}, and the package "
                f"does not ship them. Fetch them from {self.URL} into a folder and pass that as "
                f"manual_dir, or pass download=True."
            )
        try:
            payload = _unpack(packed)
            array = _parse_idx(payload, (28, 28) if "images" in stem else ())
            self._check_sum(stem, packed, payload, array)
        except ValueError as error:
            raise ValueError(f"{self.name}: {where} {error} {self._advice(stem)}") from error
        return array

    def _find(self, stem: str, manual_dir: pathlib.Path | None) -> Traversable | None:
        # The three data sets name their files alike, so a shared manual_dir needs subfolders.
        folders: list[Traversable] = (
            [] if manual_dir is None else [manual_dir / self.name, manual_dir]
        )
        folders.append(importlib.resources.files("jmvae_jax.data") / "files" / self.name)
        names = (stem, stem.replace("-idx", ".idx"))
        candidates = (
            folder / f"{name}{suffix}"
            for folder in folders
            for name in names
            for suffix in (".gz", "")
        )
        return next((path for path in candidates if path.is_file()), None)

    def _fetch(self, url: str) -> bytes:
        try:
            with urllib.request.urlopen(url, timeout=60) as response:
                return bytes(response.read())
        except (OSError, http.client.HTTPException) as error:
            raise OSError(
                f"{self.name}: {url} could not be downloaded ({error}). Try again, or put the file "
                f"into a folder yourself and pass that as manual_dir."
            ) from error

    def _check_sum(self, stem: str, packed: bytes, payload: bytes, array: np.ndarray) -> None:
        if self.name in _SHA256:
            came = hashlib.sha256(payload).hexdigest()
            expected = _SHA256[self.name][_STEMS.index(stem)]
            if came != expected:
                raise ValueError(f"has SHA-256 {came} when unpacked; expected {expected}.")
            return
        registered = {i.filename: i.checksum for i in (stock.KMNIST.url_infos or {}).values()}
        if hashlib.sha256(packed).hexdigest() == registered.get(f"{stem}.gz"):
            return
        count = 60_000 if stem.startswith("train") else 10_000
        if len(array) != count:
            raise ValueError(f"holds {len(array)} examples; expected {count}.")
        warnings.warn(
            f"{self.name}: {stem} is not the original .gz file, and no sum of its unpacked bytes "
            f"is known: only its format and its size were checked.",
            stacklevel=2,
        )

    def _advice(self, stem: str) -> str:
        return (
            f"Fetch {urllib.parse.urljoin(self.URL, f'{stem}.gz')} into a folder and pass that as "
            f"manual_dir, or remove what is wrong there and pass download=True."
        )


class Mnist(_IdxBuilder, skip_registration=True):  # type: ignore[call-arg]
    """MNIST, prepared from the files that ship with the package."""


class FashionMnist(_IdxBuilder, stock.FashionMNIST, skip_registration=True):  # type: ignore[call-arg]
    """Fashion-MNIST, prepared from the files in `manual_dir`."""


class Kmnist(_IdxBuilder, stock.KMNIST, skip_registration=True):  # type: ignore[call-arg]
    """KMNIST (Kuzushiji), prepared from the files in `manual_dir`."""


def _unpack(packed: bytes) -> bytes:
    # The first bytes tell, not the name: browsers unpack a .gz and leave its name as it was.
    if not packed.startswith(b"\x1f\x8b"):
        return packed
    try:
        return gzip.decompress(packed)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(
            f"is a truncated or damaged gzip file of {len(packed)} bytes ({error}); expected a "
            f"whole one."
        ) from error


def _parse_idx(payload: bytes, item_shape: tuple[int, ...]) -> np.ndarray:
    """Returns the uint8 array `[N, *item_shape]` of an IDX file's bytes."""
    ndim = 1 + len(item_shape)
    expected = bytes((0, 0, 8, ndim))  # 8: unsigned bytes
    start = 4 + 4 * ndim
    if payload[:4] != expected or len(payload) < start:
        raise ValueError(
            f"starts with the bytes {payload[:4].hex(' ') or '(none)'}; expected an IDX header of "
            f"{start} bytes that starts with {expected.hex(' ')}."
        )
    shape = tuple(np.frombuffer(payload, ">u4", ndim, offset=4).tolist())
    size = len(payload) - start
    if shape[1:] != item_shape or shape[0] == 0 or size != np.prod(shape, dtype=np.int64):
        raise ValueError(
            f"has an IDX header of shape {shape} before {size} bytes; expected a shape of "
            f"{('N', *item_shape)}, N at least 1, and as many bytes as that takes."
        )
    return np.frombuffer(payload, np.uint8, offset=start).reshape(shape)
