"""Drawn faces: cartoon portraits with CelebA's attributes, from attributes and a seed.

These are synthetic drawings, no photographs. Everything that an attribute does not say (pose,
light, background, tones, clothes) comes from the seed alone, so two drawings of one seed differ by
what their attributes say and by nothing else. Other versions of Pillow may draw a pixel here and
there otherwise.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter

from jmvae_jax.data.faces import hair, parts
from jmvae_jax.data.faces.attributes import ATTRIBUTES, VISIBLE_ATTRIBUTES, sample_attributes
from jmvae_jax.data.faces.shapes import Layers
from jmvae_jax.data.faces.sitter import NUISANCES, Sitter, seat, wheel

__all__ = [
    "ATTRIBUTES",
    "SIZES",
    "VISIBLE_ATTRIBUTES",
    "draw_face",
    "draw_faces",
    "sample_attributes",
]

SIZES = (32, 64, 128, 256)

_SMOOTHING = 3  # pixels painted for a pixel's width, or more: small pictures shrink more
_CANVAS = 192  # least width that is painted
_CHUNK = 256  # pictures drawn at once; changes no picture
_BLUR = 1.15 / 64  # radius of the blur, in widths of a picture
_SEED_TAG = 64_206  # keeps these streams apart from others of the same seed

_PAINTERS = (
    hair.paint_back_hair,
    parts.paint_body,
    hair.paint_neckwear,
    parts.paint_head,
    parts.paint_skin,
    hair.paint_beard,
    hair.paint_moustache,
    parts.paint_mouth,
    parts.paint_eyes,
    parts.paint_nose,
    hair.paint_hair,
    parts.paint_brows,
    hair.paint_hat,
    hair.paint_glasses,
    hair.paint_jewels,
)


def draw_face(attributes: np.ndarray, seed: int, size: int = 64) -> np.ndarray:
    """Draws a face.

    Args:
      attributes: Integers `[40]` of -1 and 1, in the order of `ATTRIBUTES`.
      seed: Decides all that the attributes do not, 0 or more.
      size: Width of the picture in pixels, one of `SIZES`.

    Returns:
      uint8 `[size, size, 3]`.

    Raises:
      ValueError: An argument is not as above.

    Example:
      >>> import numpy as np
      >>> from jmvae_jax.data.faces import draw_face, sample_attributes
      >>> attributes = sample_attributes(np.random.default_rng(0), 1)[0]
      >>> draw_face(attributes, seed=0).shape
      (64, 64, 3)
    """
    attributes = np.asarray(attributes)
    if attributes.shape != (len(ATTRIBUTES),):
        raise ValueError(
            f"attributes of shape {attributes.shape} came; expected ({len(ATTRIBUTES)},)."
        )
    return draw_faces(attributes[None], [seed], size)[0]


def draw_faces(
    attributes: np.ndarray, seeds: np.ndarray | Sequence[int], size: int = 64
) -> np.ndarray:
    """Draws N faces; each is what `draw_face` gives.

    Args:
      attributes: Integers `[N, 40]` of -1 and 1, in the order of `ATTRIBUTES`.
      seeds: One for each face, `[N]`, 0 or more.
      size: Width of the pictures in pixels, one of `SIZES`.

    Returns:
      uint8 `[N, size, size, 3]`.

    Raises:
      ValueError: An argument is not as above.

    Example:
      >>> import numpy as np
      >>> from jmvae_jax.data.faces import draw_faces, sample_attributes
      >>> attributes = sample_attributes(np.random.default_rng(0), 10)
      >>> draw_faces(attributes, range(10), size=32).shape
      (10, 32, 32, 3)
    """
    attributes, seeds = np.asarray(attributes), np.asarray(seeds)
    _check(attributes, seeds, size)
    images = np.empty((len(seeds), size, size, 3), np.uint8)
    for start in range(0, len(seeds), _CHUNK):
        part = slice(start, start + _CHUNK)
        chances = [
            np.random.default_rng([int(seed), _SEED_TAG]).random(len(NUISANCES))
            for seed in seeds[part]
        ]
        _draw(seat(attributes[part], np.array(chances)), size, images[part])
    return images


def _check(attributes: np.ndarray, seeds: np.ndarray, size: int) -> None:
    count = len(ATTRIBUTES)
    if attributes.ndim != 2 or attributes.shape[1] != count:
        raise ValueError(f"attributes of shape {attributes.shape} came; expected (N, {count}).")
    if not np.isin(attributes, (-1, 1)).all():
        values = np.unique(attributes)[:5].tolist()
        raise ValueError(f"attributes with the values {values} came; expected -1 and 1 only.")
    if seeds.shape != attributes.shape[:1]:
        raise ValueError(
            f"seeds of shape {seeds.shape} came; expected ({len(attributes)},), one for each face."
        )
    if seeds.size and (seeds.dtype.kind not in "iu" or seeds.min() < 0):
        raise ValueError(f"seeds such as {seeds[0]} came; expected integers from 0 to 2**64 - 1.")
    if size not in SIZES:
        raise ValueError(f"size={size!r} came; expected one of {', '.join(map(str, SIZES))}.")


def _draw(sitter: Sitter, size: int, images: np.ndarray) -> None:
    """Draws into `images`, `[N, size, size, 3]`."""
    factor = max(_SMOOTHING, _CANVAS // size)
    layers = Layers(size * factor, sitter.pose())
    for paint in _PAINTERS:
        paint(layers, sitter)
    place = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    grounds, lights = _grounds(sitter), _lights(sitter)
    for n, canvas in enumerate(layers.paint()):
        figure = np.asarray(canvas.reduce(factor)).transpose(2, 0, 1).astype(np.float32)
        # The ground is empty, so the mean over a pixel is the figure's share of it.
        share = 1 - figure[3] / 255
        picture = (figure[:3] + share * _ramps(grounds[n], place)) * _ramps(lights[n], place)
        images[n] = np.clip(np.rint(picture), 0, 255).transpose(1, 2, 0)
        if sitter.has["Blurry"][n]:
            soft = Image.fromarray(images[n]).filter(ImageFilter.GaussianBlur(_BLUR * size))
            images[n] = np.asarray(soft)


def _ramps(weights: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Planes `[C, S, S]` over the picture, from constants and slopes `[C, 3]`."""
    constant, across, down = weights.T[..., None]
    return (constant + across * place)[:, None, :] + (down * place)[:, :, None]


def _grounds(s: Sitter) -> np.ndarray:
    """Backgrounds that go from one colour to another: planes `[N, 3, 3]`."""
    hue, value = s.chance["ground_hue"], s.between("ground_value", 0.35, 0.9)
    turn = s.between("ground_turn", -0.12, 0.12)
    angle = 2 * np.pi * s.chance["ground_angle"]
    first, last = wheel(hue, 0.34, value * 1.1), wheel((hue + turn) % 1, 0.34, value * 0.72)
    slope = (last - first) / 2
    planes = [(first + last) / 2, slope * np.cos(angle)[:, None], slope * np.sin(angle)[:, None]]
    return np.stack(planes, -1).astype(np.float32)


def _lights(s: Sitter) -> np.ndarray:
    """Factors of brightness, more on the side of the light: planes `[N, 1, 3]`."""
    angle = s.between("light_angle", -1.1, 0.2)
    strength = s.between("light_strength", 0.04, 0.16)
    planes = [
        s.between("brightness", 0.92, 1.04),
        strength * s.lit * np.cos(angle),
        strength * np.sin(angle),
    ]
    return np.stack(planes, -1).astype(np.float32)[:, None]
