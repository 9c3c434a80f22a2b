"""Images in a folder or in a zip file: which there are, and from their bytes to pixels.

Nothing is unpacked to disk. What cannot be used raises `BadImageError` with what is wrong with it;
who knows where the image came from puts that in front.
"""

import contextlib
import errno
import io
import os
import pathlib
import stat
import struct
import threading
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from jmvae_jax.data.image_names import is_hidden, relative_path
from jmvae_jax.data.words import one_line

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
    AttributeError,
    AssertionError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
# The others that zipfile knows (bzip2, LZMA) unpack without a limit.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

_TURNS = {  # by EXIF's Orientation
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_quiet = threading.Lock()


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
    """The files in a folder and in its subfolders, hidden ones left out.

    Symbolic links to files are followed; one to a folder is refused.

    Raises:
      ValueError: There is a symbolic link to a folder.
    """

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
            # Before it is opened: opening a pipe waits for its writer.
            if not stat.S_ISREG(os.stat(self.members[path]).st_mode):
                raise BadImageError("is no regular file; expected one, or a link to one")
            with open(self.members[path], "rb") as file:
                _check_length(os.fstat(file.fileno()).st_size)
                content = file.read(_MAX_BYTES + 1)
        except (FileNotFoundError, PermissionError) as error:
            raise BadImageError(f"cannot be read ({error.strerror})") from error
        except OSError as error:  # the disk, not this file: nothing to be skipped
            error.filename = error.filename or self.members[path]
            raise
        _check_length(len(content))
        return content


class ZipImages:
    """The files in a zip file, hidden ones left out.

    Raises:
      ValueError: It is no whole zip file, the path of a member leaves it, or it holds one twice.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self.where = str(path)
        self.members: dict[str, str] = {}
        with _open_zip(path) as archive:
            for info in archive.infolist():
                try:
                    name = relative_path(info.filename)
                except ValueError as error:
                    raise ValueError(
                        f"{path}, member {info.filename!r} {error}. Fetch the archive again from "
                        f"where you trust it."
                    ) from error
                if info.is_dir() or is_hidden(name):
                    continue
                if name in self.members:
                    raise ValueError(
                        f"{path} holds the member {name!r} twice; expected each once. Remove one "
                        f"of the two, or fetch the archive again."
                    )
                self.members[name] = info.filename

    def locate(self, path: str) -> str:
        return f"{self.where}, member {self.members[path]}"

    @contextlib.contextmanager
    def reader(self) -> Iterator[Callable[[str], bytes]]:
        with _open_zip(self._path) as archive:

            def read(path: str) -> bytes:
                try:
                    info = archive.getinfo(self.members[path])
                    _check_length(info.file_size)
                    if info.compress_type not in _METHODS:
                        raise BadImageError(
                            f"is packed by method {info.compress_type}; expected 0 (stored) or 8 "
                            f"(deflate)"
                        )
                    with archive.open(info) as member:
                        return member.read(info.file_size + 1)  # unpacks no more than that
                except BadImageError:
                    raise
                except _DAMAGE as error:
                    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                        raise  # the disk; a wrong place in the file is EINVAL
                    raise BadImageError(f"cannot be unpacked ({one_line(error)})") from error

            yield read


def open_image(data: bytes) -> Image.Image:
    """Reads an image's header and checks its size; the pixels are not decoded.

    Raises:
      BadImageError: It is no image of a format that is read here, or its size is absurd.
    """
    try:
        with _no_warnings():
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


def upright(image: Image.Image) -> Image.Image:
    """Returns an image turned as the orientation in its EXIF data says; any thread may call it.

    Without EXIF data, or with such as cannot be read, it is as it is.
    """
    image.load()  # outside the lock; and TIFF files turn themselves
    try:
        with _no_warnings():
            turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except _DAMAGE:
        return image
    return image if turn is None else image.transpose(turn)


def square_pixels(
    image: Image.Image, crop: Callable[[Image.Image], Image.Image], size: int
) -> np.ndarray:
    """Decodes, crops and resizes an image; Pillow lets other threads run meanwhile.

    The crop comes first, so that no pixel outside it has a share in the result; Lanczos' filter is
    widened by the scale (anti-aliasing).

    Args:
      image: What `open_image` returned.
      crop: Returns the part to keep, of an image with its pixels.
      size: Side of the result, in pixels.

    Returns:
      uint8 `[size, size, 3]`; grey and CMYK become RGB, transparency is dropped.

    Raises:
      BadImageError: It does not decode, or `crop` refuses it.
    """
    if image.mode not in _MODES:
        raise BadImageError(f"has pixels of mode {image.mode}; expected 8 bits a channel")
    with _decoding():
        image.load()
    part = crop(image)  # a mistake of the caller's is no bad image
    with _decoding():
        if "transparency" in part.info:
            part = part.convert("RGBA")  # Pillow warns if it is not asked to keep it at first
        return np.array(part.convert("RGB").resize((size, size), Image.Resampling.LANCZOS))


@contextlib.contextmanager
def _decoding() -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise BadImageError(f"does not decode ({one_line(error)})") from error


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    """One thread at a time: filters of warnings belong to the whole process."""
    with _quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


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
        for name in folders:
            path = os.path.join(root, name)
            if os.path.islink(path) and not is_hidden((inside / name).as_posix()):
                raise ValueError(
                    f"{path} is a symbolic link to a folder, which is not followed; expected the "
                    f"images themselves, or links to them. Replace it, or remove it."
                )
        paths = ((inside / name).as_posix() for name in sorted(files))
        yield from (path for path in paths if not is_hidden(path))


def _check_length(length: int) -> None:
    if length > _MAX_BYTES:
        raise BadImageError(f"has {length} bytes; expected at most {_MAX_BYTES}")


def _absurd(size: str) -> str:
    return (
        f"has absurd dimensions ({size}); expected 1 to {_MAX_SIDE:,} pixels a side, and at most "
        f"{_MAX_PIXELS:,} of them"
    )
