"""Images in a folder or in a zip file: which there are, and from their bytes to pixels.

Nothing is unpacked to disk. What cannot be used raises `BadImageError` with what is wrong with it;
who knows where the image came from puts that in front.
"""

import contextlib
import io
import os
import pathlib
import struct
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"))

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
_MODES = frozenset(
    ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
)
# Far above any photograph; below what a file made to fill the memory claims to hold.
_MAX_SIDE = 10_000
_MAX_PIXELS = 64_000_000
_MAX_BYTES = 64 << 20

# What zipfile and Pillow raise for damaged content.
_DAMAGE = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    SyntaxError,
    OverflowError,
    RuntimeError,
    NotImplementedError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


class BadImageError(ValueError):
    """An image that cannot be used; the words say what is wrong with it, not which it is."""


class Images(Protocol):
    """Files in one place, most of them images.

    Attributes:
      where: The place, for errors.
      members: Path of each file in that place, with `/`, -> how its reader knows it.
    """

    where: str
    members: dict[str, str]

    def locate(self, path: str) -> str:
        """Names one file for errors."""

    def reader(self) -> contextlib.AbstractContextManager[Callable[[str], bytes]]:
        """Opens the place; what it gives reads the bytes of one file, by its path."""


class FolderImages:
    """The files in a folder and in its subfolders, hidden ones left out."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.where = str(folder)
        self.members = {path: os.path.join(folder, path) for path in _walk(folder)}

    def locate(self, path: str) -> str:
        return self.members[path]

    @contextlib.contextmanager
    def reader(self) -> Iterator[Callable[[str], bytes]]:
        yield self._read

    def _read(self, path: str) -> bytes:
        try:
            with open(self.members[path], "rb") as file:
                _check_length(os.fstat(file.fileno()).st_size)
                return file.read()
        except OSError as error:
            raise BadImageError(f"cannot be read ({error.strerror})") from error


class ZipImages:
    """The files in a zip file, hidden ones left out.

    Raises:
      ValueError: It is no whole zip file, or the path of a member leaves it.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self.where = str(path)
        self.members = {}
        with _open_zip(path) as archive:
            for info in archive.infolist():
                try:
                    name = relative_path(info.filename)
                except ValueError as error:
                    raise ValueError(
                        f"{path}, member {info.filename!r} {error}. Fetch the archive again from "
                        f"where you trust it."
                    ) from error
                if not info.is_dir() and not _is_hidden(name):
                    self.members[name] = info.filename

    def locate(self, path: str) -> str:
        return f"{self.where}, member {self.members[path]}"

    @contextlib.contextmanager
    def reader(self) -> Iterator[Callable[[str], bytes]]:
        with _open_zip(self._path) as archive:

            def read(path: str) -> bytes:
                try:
                    info = archive.getinfo(self.members[path])
                    _check_length(info.file_size)  # zipfile unpacks no more than that
                    return archive.read(info)
                except BadImageError:
                    raise
                except _DAMAGE as error:
                    raise BadImageError(f"cannot be unpacked ({one_line(error)})") from error

            yield read


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
    left_over = [called for called in paths if called not in used and _is_image(called)]
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


def open_image(data: bytes) -> Image.Image:
    """Reads an image's header and checks its size; the pixels are not decoded.

    Raises:
      BadImageError: It is no image of a format that is read here, or its size is absurd.
    """
    try:
        # Here, in the main thread: filters of warnings belong to the whole process.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise BadImageError(_absurd(one_line(error))) from error
    except UnidentifiedImageError as error:
        raise BadImageError(
            f"does not decode: its {len(data)} bytes, the first of them "
            f"{data[:4].hex(' ') or '(none)'}, are no whole {' or '.join(_FORMATS)} file"
        ) from error
    except _DAMAGE as error:
        raise BadImageError(f"does not decode ({one_line(error)})") from error
    width, height = image.size
    if not (1 <= width <= _MAX_SIDE and 1 <= height <= _MAX_SIDE and width * height <= _MAX_PIXELS):
        raise BadImageError(_absurd(f"{width}x{height}"))
    return image


def square_pixels(
    image: Image.Image, crop: Callable[[Image.Image], Image.Image], size: int
) -> np.ndarray:
    """Decodes, crops and resizes an image; Pillow lets other threads run meanwhile.

    The crop comes first, so that no pixel outside it has a share in the result; Lanczos' filter is
    widened by the scale (anti-aliasing).

    Args:
      image: What `open_image` returned.
      crop: Returns the part to keep.
      size: Side of the result, in pixels.

    Returns:
      uint8 `[size, size, 3]`; grey and CMYK become RGB, transparency is dropped.

    Raises:
      BadImageError: It does not decode, or `crop` refuses it.
    """
    if image.mode not in _MODES:
        raise BadImageError(f"has pixels of mode {image.mode}; expected 8 bits a channel")
    try:
        part = crop(image)
        if "transparency" in part.info:
            part = part.convert("RGBA")  # Pillow warns if it is not asked to keep it at first
        part = part.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)
        return np.array(part)
    except BadImageError:
        raise
    except _DAMAGE as error:
        raise BadImageError(f"does not decode ({one_line(error)})") from error


def some(names: Sequence[str], limit: int = 3) -> str:
    """The first few of many names, and how many there are."""
    few = ", ".join(names[:limit])
    return few if len(names) <= limit else f"{few} and {len(names) - limit} more"


def one_line(error: BaseException) -> str:
    """The first line of what an error says, or its kind."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


@contextlib.contextmanager
def _open_zip(path: pathlib.Path) -> Iterator[zipfile.ZipFile]:
    with open(path, "rb") as file:
        try:
            archive = zipfile.ZipFile(file)
        except _DAMAGE as error:
            raise ValueError(
                f"{path} is a truncated or damaged zip file of {path.stat().st_size} bytes "
                f"({one_line(error)}); expected a whole one. Fetch it again."
            ) from error
        with archive:
            yield archive


def _walk(folder: pathlib.Path) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        raise error

    for root, folders, files in os.walk(folder, onerror=refuse):
        folders.sort()
        inside = pathlib.PurePath(root).relative_to(folder)
        paths = ((inside / name).as_posix() for name in sorted(files))
        yield from (path for path in paths if not _is_hidden(path))


def _is_hidden(path: str) -> bool:
    """Whether it is what macOS and Windows leave behind."""
    parts = path.split("/")
    return any(part.startswith(".") or part == "__MACOSX" for part in parts) or (
        parts[-1].lower() in ("thumbs.db", "desktop.ini")
    )


def _is_image(path: str) -> bool:
    return pathlib.PurePosixPath(path).suffix.lower() in SUFFIXES


def _fold(path: str) -> str:
    stem, dot, suffix = path.rpartition(".")
    return f"{stem}{dot}{suffix.lower()}"


def _check_length(length: int) -> None:
    if length > _MAX_BYTES:
        raise BadImageError(f"has {length} bytes; expected at most {_MAX_BYTES}")


def _absurd(size: str) -> str:
    return (
        f"has absurd dimensions ({size}); expected 1 to {_MAX_SIDE:,} pixels a side, and at most "
        f"{_MAX_PIXELS:,} of them"
    )
