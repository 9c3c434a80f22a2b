"""Names of images: paths in a place, and which image is whose.

What cannot be used raises an error, with the path or the names in it.
"""

import pathlib
from collections import Counter
from collections.abc import Mapping, Sequence

from jmvae_jax.data.words import some

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"))


def relative_path(path: str) -> str:
    """Returns a path in its shortest form, with `/`.

    Raises:
      ValueError: The path leaves the folder that it is relative to.
    """
    parts = path.replace("\\", "/").split("/")
    if ".." in parts or parts[0] == "" or pathlib.PureWindowsPath(path).drive:
        raise ValueError("is a path that leaves the folder; expected one that stays inside")
    return "/".join(part for part in parts if part not in ("", "."))


def match_names(
    names: Sequence[str], paths: Mapping[str, str], listed: str, where: str
) -> list[str]:
    """Finds the image of every name, and a name for every image.

    Args:
      names: Names of images, each once.
      paths: What an image may be called -> its path.
      listed: The file that the names come from, for errors.
      where: The place of the images, for errors.

    Returns:
      The path of each name; `.JPG` and `.jpg` are the same if only one of them is there.

    Raises:
      ValueError: A name has no image, or an image has no name.
    """
    folded: dict[str, str] = {}
    for called in paths:
        folded.setdefault(_fold(called), called)
    found = [name if name in paths else folded.get(_fold(name)) for name in names]
    missing = [name for name, called in zip(names, found, strict=True) if called is None]
    if missing:
        raise ValueError(
            f"{listed} names {some(missing)} without an image in {where}; expected an image for "
            f"each line. Complete the images, or remove those lines."
        )
    used = set(found)
    left_over = [called for called in paths if called not in used and is_image(called)]
    if left_over or len(used) < len(found):
        twice = [called for called, count in Counter(found).items() if called and count > 1]
        raise ValueError(
            f"{where} holds {some(left_over)} without a line in {listed}; expected a line for "
            f"each image. Remove those images, or add their lines."
            if left_over
            else f"{listed} names {some(twice)} in two spellings; expected "
            f"each image once. Remove one of the lines."
        )
    return [paths[called] for called in found if called is not None]


def is_image(path: str) -> bool:
    """Whether its suffix is an image's."""
    return pathlib.PurePosixPath(path).suffix.lower() in SUFFIXES


def is_hidden(path: str) -> bool:
    """Whether it is what macOS and Windows leave behind."""
    parts = path.split("/")
    return any(part.startswith(".") or part == "__MACOSX" for part in parts) or (
        parts[-1].lower() in ("thumbs.db", "desktop.ini")
    )


def _fold(path: str) -> str:
    stem, dot, suffix = path.rpartition(".")
    return f"{stem}{dot}{suffix.lower()}"
