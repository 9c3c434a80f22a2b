"""Pictures of any size and kind to what a model of faces reads."""

import os
import pathlib
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from jmvae_jax.data.image_files import upright

ENLARGED = 1.3
"""Side of the crop over that of the detector's box, as in the paper."""

LARGEST = 20_000
"""Pixels of a side beyond which a picture is refused."""


class Crop(NamedTuple):
    """A square of a picture, in pixels, and how it was chosen."""

    left: int
    top: int
    side: int
    chosen: str


def read_picture(path: str | os.PathLike[str]) -> Image.Image:
    """A picture file as RGB, upright, over white where it is transparent.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no picture, damaged, or too large.
    """
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"image={os.fspath(path)!r}: there is no such file")
    try:
        with Image.open(path) as file:
            size = file.size
            if max(size) > LARGEST:
                raise ValueError(f"{size[0]} x {size[1]} pixels are too many")
            picture = upright(file)
            if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
                picture = _eight_bits(picture)
            transparent = picture.convert("RGBA")
    except UnidentifiedImageError as error:
        raise ValueError(
            f"image={os.fspath(path)!r} is no picture that can be read: expected a JPEG, a PNG or "
            "another format that Pillow knows"
        ) from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"image={os.fspath(path)!r} cannot be decoded: {error}") from error
    white = Image.new("RGBA", transparent.size, "white")
    return Image.alpha_composite(white, transparent).convert("RGB")


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Grey of more than eight bits, from its darkest to its lightest pixel."""
    values = np.asarray(picture, np.float64)
    low, high = values.min(), values.max()
    scaled = (values - low) / max(high - low, 1e-12)
    return Image.fromarray(np.round(255 * scaled).astype(np.uint8))


def choose_crop(picture: Image.Image, crop: str) -> Crop:
    """The square that `--crop` asks for: "auto", "center" or "x,y,side".

    Raises:
      ValueError: other words, or a square that leaves the picture.
    """
    if crop == "center":
        return _central(picture, "the central square")
    if crop == "auto":
        return _detected(picture)
    try:
        left, top, side = (int(word) for word in crop.split(","))
    except ValueError:
        raise ValueError(f"crop={crop!r}: expected auto, center, or x,y,side in pixels") from None
    inside = 0 <= left <= picture.width - side and 0 <= top <= picture.height - side
    if side < 1 or not inside:
        raise ValueError(
            f"crop={crop!r}: expected a square inside the {picture.width} x {picture.height} "
            "pixels of the picture"
        )
    return Crop(left, top, side, "the square that was asked for")


def cropped(picture: Image.Image, crop: Crop, size: int) -> np.ndarray:
    """The square as `uint8[size, size, 3]`, anti-aliased; nothing outside it has a share."""
    box = (crop.left, crop.top, crop.left + crop.side, crop.top + crop.side)
    return np.asarray(picture.crop(box).resize((size, size), Image.Resampling.LANCZOS))


def _central(picture: Image.Image, chosen: str) -> Crop:
    side = min(picture.size)
    return Crop((picture.width - side) // 2, (picture.height - side) // 2, side, chosen)


def _detected(picture: Image.Image) -> Crop:
    """Around the largest frontal face that OpenCV finds, if it is installed."""
    try:
        import cv2
    except ModuleNotFoundError:
        return _central(picture, "the central square (no face detector: install the extra 'faces')")
    detector = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    boxes = detector.detectMultiScale(np.asarray(picture.convert("L")), 1.1, 5)
    if not len(boxes):
        return _central(picture, "the central square (OpenCV finds no face)")
    x, y, width, height = max(boxes, key=lambda box: box[2] * box[3])
    side = min(round(ENLARGED * max(width, height)), *picture.size)
    left = int(np.clip(x + width / 2 - side / 2, 0, picture.width - side))
    top = int(np.clip(y + height / 2 - side / 2, 0, picture.height - side))
    return Crop(left, top, side, "the face that OpenCV finds")
