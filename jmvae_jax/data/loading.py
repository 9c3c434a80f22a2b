"""The one door to stored data: data sets are prepared once, then loaded as NumPy arrays.

`prepare` writes a data set with TFDS in its array_record format, which needs no TensorFlow, or
takes one that is already there. `load` decodes it, in the prepared (TFDS) order. Decoding tens of
thousands of PNG files takes seconds, so `decoded` keeps a copy of each split beside them.
"""

import difflib
import importlib
import json
import os
import pathlib
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from jmvae_jax.data.decoded import decoded, read_statistics, without_log
from jmvae_jax.data.words import one_line
from jmvae_jax.data.writing import FORMAT, write
from jmvae_jax.data.writing import only_writer as _only_writer

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

# One entry per data set: the module and the class of its builder, imported when it is asked for
# because TFDS is slow to import. A builder has, beside what TFDS asks of it, a method
# `collect_sources(manual_dir, download)` that finds and verifies its source files without writing;
# one whose configurations are too many for a list has `find_config(text, manual_dir)`; one whose
# metadata name its attributes says `names_attributes = True`.
_BUILDERS = {
    "fashion_mnist": ("jmvae_jax.data.mnist", "FashionMnist"),
    "kmnist": ("jmvae_jax.data.mnist", "Kmnist"),
    "mnist": ("jmvae_jax.data.mnist", "Mnist"),
    "celeb_a_aligned": ("jmvae_jax.data.celeb_a", "CelebAAligned"),
    "image_attributes": ("jmvae_jax.data.image_attributes", "ImageAttributes"),
    "synthetic_faces": ("jmvae_jax.data.synthetic_faces", "SyntheticFaces"),
}

PathLike = str | os.PathLike[str]


def prepare(
    name: str,
    *,
    data_dir: PathLike | None = None,
    manual_dir: PathLike | None = None,
    download: bool = False,
    skip_bad_images: bool = False,
) -> "tfds.core.DatasetBuilder":
    """Prepares a data set on disk, unless it is there already, and returns its TFDS builder.

    A data set found in `data_dir`, prepared by this function or by TFDS itself, is used as it is.
    Preparing is safe against other processes that prepare the same data set: one writes, the others
    wait and use what it wrote. Nothing half-written is left behind: an interrupted preparation
    starts again. It holds the largest split in memory, encoded (CelebA at 64 pixels: 3 GB).

    Args:
      name: Name of the data set, for instance `"mnist"`, with its configuration if it has several:
        `"celeb_a_aligned/64"`.
      data_dir: Local folder of prepared data sets; TFDS's own default (`$TFDS_DATA_DIR`, else
        `~/tensorflow_datasets`) if None.
      manual_dir: Folder with the source files, for what does not ship with the package; a
        subfolder of the data set's name is looked into first.
      download: Whether source files that are not found may be downloaded. Without it, no network
        is ever tried.
      skip_bad_images: Whether images that cannot be used are left out, counted and warned of,
        instead of ending the preparation; see `metadata`.

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
    places = (data_dir, None if manual_dir is None else _expand(manual_dir))
    builder = _new_builder(name, *places)
    if _is_prepared(builder):
        return builder
    builder.collect_sources(places[1], download)
    builder.skip_bad_images = skip_bad_images
    with _only_writer(builder):
        if not _is_prepared(_new_builder(name, *places)):  # nobody else was faster
            write(builder)
            _finish(_new_builder(name, *places))
    return _new_builder(name, *places)


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
      name: See `prepare`.
      split: A split in the notation of TFDS: `"train"`, `"train[:50000]"`, `"train[10%:]"`,
        `"train+test"`.
      data_dir: See `prepare`.
      manual_dir: See `prepare`.
      download: See `prepare`.

    Returns:
      One array per feature, `[N, ...]`, in the prepared order and in the dtype it is stored in
      (class labels: int32), and `"index"` `[N]`, int32: the position of each example in its base
      split, whatever part of that was asked for. Text is left out. For the MNIST family:
      `"image"` uint8 `[N, 28, 28, 1]`, `"label"` int32 `[N]` and `"index"`; for images with
      attributes: `"image"` uint8 `[N, S, S, 3]`, `"attributes"` int8 `[N, A]` of -1 and 1.

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
    pieces = parse_split(builder, split)
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
    return sum(len(positions) for _, positions in parse_split(prepare(name, **options), split))


def _new_builder(name: str, data_dir: PathLike | None, manual_dir: pathlib.Path | None) -> Any:
    base, slash, text = name.partition("/")
    if base not in _BUILDERS:
        near = difflib.get_close_matches(base, _BUILDERS, n=1)
        raise ValueError(
            f"name={name!r} is no data set known here; expected one of {', '.join(_BUILDERS)}."
            + (f" Did you mean {near[0]!r}?" if near else "")
        )
    module, class_name = _BUILDERS[base]
    builder_class = getattr(importlib.import_module(module), class_name)
    config = _find_config(builder_class, name, text if slash else None, manual_dir)
    root = None if data_dir is None else _expand(data_dir)
    try:
        with without_log("custom data configuration"):
            return builder_class(config=config, data_dir=root)
    except Exception as error:  # whatever TFDS stumbles over in a damaged description
        folder = _folder(builder_class, config, root)
        if isinstance(error, OSError) or not (folder / "dataset_info.json").exists():
            raise
        raise ValueError(
            f"{name}: the description of the prepared data set in {folder} is damaged "
            f"({one_line(error)}). Delete its folder to have it prepared again."
        ) from error


def _folder(builder_class: Any, config: Any, root: pathlib.Path | None) -> pathlib.Path:
    """Where TFDS looks for a prepared data set."""
    import tensorflow_datasets as tfds

    if config is None and builder_class.BUILDER_CONFIGS:
        config = builder_class.BUILDER_CONFIGS[0]
    parts = [] if config is None else [getattr(config, "name", config)]
    root = _expand(tfds.core.constants.DATA_DIR) if root is None else root
    return root.joinpath(builder_class.name, *parts, str(builder_class.VERSION))


def _find_config(
    builder_class: Any, name: str, text: str | None, manual_dir: pathlib.Path | None
) -> Any:
    """Returns what follows the slash in a data set's name as TFDS takes it."""
    if hasattr(builder_class, "find_config"):
        return builder_class.find_config(text, manual_dir)
    known = [config.name for config in builder_class.BUILDER_CONFIGS]
    if text is not None and text not in known:
        expected = ", ".join(repr(f"{builder_class.name}/{other}") for other in known)
        raise ValueError(
            f"name={name!r}: {builder_class.name} has no configuration {text!r}; expected "
            f"{expected or repr(builder_class.name)}."
        )
    return text


def _finish(builder: Any) -> None:
    """Tells of what was left out, and measures the images once, where they have attributes."""
    described = builder.info.metadata or {}
    if skipped := described.get("skipped_images"):
        few = "; ".join(f"{name} {why}" for name, why in list(skipped.items())[:3])
        warnings.warn(
            f"{builder.name}: left out {len(skipped)} image{'s' if len(skipped) > 1 else ''} that "
            f"cannot be used: {few}" + ("; and others." if len(skipped) > 3 else "."),
            stacklevel=3,
        )
    if "attributes" in described:
        read_statistics(builder)


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
    _check_description(builder, folder)
    found = builder.info.file_format.value
    if found != FORMAT:
        raise ValueError(
            f"{builder.name}: {folder} was prepared in the format {found}, which only TensorFlow "
            f"can read; expected {FORMAT}. Pass another data_dir, where it can be prepared in "
            f"{FORMAT}, or delete that folder."
        )
    shards = [pathlib.Path(p) for s in builder.info.splits.values() for p in s.filepaths]
    missing = [shard.name for shard in shards if not shard.exists()]
    if missing or not shards:
        raise FileNotFoundError(
            f"{builder.name}: {folder} lacks {', '.join(missing) or 'its splits'}. Delete that "
            f"folder to have it prepared again, or pass another data_dir."
        )
    return True


def _check_description(builder: Any, folder: pathlib.Path) -> None:
    """Raises if a part of the description is missing or damaged, which TFDS would read later."""
    described = ["features.json"]
    if getattr(builder, "names_attributes", False):
        described.append("metadata.json")
    for name in described:
        try:
            content = json.loads((folder / name).read_bytes())
            if not isinstance(content, dict):
                raise ValueError(f"it holds a {type(content).__name__}")
            if name == "metadata.json" and not isinstance(content.get("attributes"), list):
                raise ValueError("it names no attributes")
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{builder.name}: {folder} lacks {name}. Delete that folder to have it prepared "
                f"again, or pass another data_dir."
            ) from error
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{builder.name}: {folder / name} is damaged ({one_line(error)}). Delete its "
                f"folder to have it prepared again."
            ) from error


def parse_split(builder: Any, split: str) -> list[tuple[str, range]]:
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
