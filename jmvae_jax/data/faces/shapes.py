"""Shapes of many pictures at once: smooth outlines, the pose of a head, and layers of polygons.

Coordinates are those of a portrait: the origin lies between the eyes, x to the right, y downwards,
and the picture is 64 units wide. Arrays are `[N, K, 2]`, N pictures with K corners each; where N is
1 or a number stands for an array `[N]`, all the pictures share it.
"""

import functools
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw

UNITS = 64  # width of a picture
ORIGIN = (32.0, 28.5)  # of the portrait's coordinates, from the upper left corner

Number = float | np.ndarray
Pair = tuple[Number, Number]

# A head is drawn as an ellipsoid: turned by `yaw`, what is nearer moves farther.
_HEAD_RADII = (16.0, 24.0)
_HEAD_DEPTH = 2.6
_FORESHORTENING = 0.05


def points(*pairs: Pair) -> np.ndarray:
    """Corners `[N, K, 2]` from K pairs of numbers or arrays `[N]`."""
    flat = np.broadcast_arrays(*(np.asarray(value) for pair in pairs for value in pair))
    return np.stack([np.atleast_1d(value) for value in flat], -1).reshape(-1, len(pairs), 2)


def mirrored(*pairs: Pair) -> np.ndarray:
    """Corners of a symmetric outline: its right half from top to bottom, then its left half.

    Corners on the axis (x is the number 0) are not doubled.
    """
    left = [(-x, y) for x, y in reversed(pairs) if not (isinstance(x, int) and x == 0)]
    return points(*pairs, *left)


@functools.cache
def _spline(count: int, steps: int, closed: bool) -> np.ndarray:
    """Weights `[M, count]` of a Catmull-Rom curve through `count` corners."""
    t = np.arange(steps)[:, None] / steps
    powers = t ** np.arange(4)
    basis = powers @ np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]) / 2
    rows = []
    for start in range(count if closed else count - 1):
        near = start + np.arange(-1, 3)
        near = near % count if closed else np.clip(near, 0, count - 1)
        block = np.zeros((steps, count))
        for k, corner in enumerate(near):
            block[:, corner] += basis[:, k]
        rows.append(block)
    if not closed:
        rows.append(np.eye(count)[-1:])
    return np.concatenate(rows)


def smooth(corners: np.ndarray, steps: int = 2, closed: bool = True) -> np.ndarray:
    """A smooth curve through the corners, with `steps` corners for each of theirs."""
    return _spline(corners.shape[-2], steps, closed) @ corners


def ribbon(corners: np.ndarray, width: Number, steps: int = 2, ends: float = 1.0) -> np.ndarray:
    """A band along a smooth open curve.

    Args:
      corners: The curve, `[N, K, 2]`.
      width: Width of the band: a number or an array `[N]`.
      steps: Corners of the band for each corner of the curve.
      ends: Width at both ends, as a part of `width`.
    """
    line = smooth(corners, steps, closed=False)
    tangent = np.gradient(line, axis=-2)
    length = np.sqrt(np.sum(tangent**2, -1, keepdims=True)) + 1e-9
    normal = np.stack([-tangent[..., 1], tangent[..., 0]], -1) / length
    t = np.linspace(-1, 1, line.shape[-2])
    profile = (1 - (1 - ends) * t**4)[:, None]
    offset = normal * profile * (np.atleast_1d(width)[:, None, None] / 2)
    return np.concatenate([line + offset, (line - offset)[..., ::-1, :]], -2)


_ROUND = np.arange(16) * (2 * np.pi / 16)
_CIRCLE = np.stack([np.cos(_ROUND), np.sin(_ROUND)], -1)


def ellipse(x: Number, y: Number, width: Number, height: Number) -> np.ndarray:
    """An upright ellipse of the given centre and radii."""
    return points((x, y)) + points((width, height)) * _CIRCLE


def ring(x: Number, y: Number, width: Number, height: Number, thickness: float) -> np.ndarray:
    """The band between two ellipses, as one polygon that is cut open at its right."""
    outer = ellipse(x, y, width, height)
    inner = ellipse(x, y, width - thickness, height - thickness)
    return join(outer, outer[:, :1], inner[:, :1], inner[:, ::-1])


def join(*parts: np.ndarray) -> np.ndarray:
    """One outline from several, end to end."""
    count = max(len(part) for part in parts)
    return np.concatenate([np.broadcast_to(p, (count, *p.shape[1:])) for p in parts], 1)


class Layers:
    """Polygons of N pictures, in the order in which they are painted."""

    def __init__(self, side: int, pose: dict[str, np.ndarray]) -> None:
        """Starts with nothing painted.

        Args:
          side: Width of the pictures in pixels.
          pose: Arrays `[N]`: `shift_x`, `shift_y` in units, `rotation` in radians, `scale`, and
            `yaw` from -1 to 1.
        """
        self._side = side
        self._pose = {name: value[:, None] for name, value in pose.items()}
        self._everyone = np.arange(len(pose["yaw"]))
        self._polygons: list[list[tuple[np.ndarray, int]]] = [[] for _ in self._everyone]

    def add(
        self,
        corners: np.ndarray,
        colour: np.ndarray,
        where: np.ndarray | None = None,
        depth: float = 0.0,
        body: bool = False,
    ) -> None:
        """Paints a polygon over what is there.

        Args:
          corners: `[N, K, 2]`.
          colour: `[N, 3]` or `[3]`, from 0 to 255.
          where: Pictures that have it, bool `[N]`; all by default.
          depth: How far it lies in front of the face, or behind it.
          body: Whether it belongs to the body, which does not turn with the head.
        """
        rows = self._everyone if where is None else np.flatnonzero(where)
        pose = {name: value[rows] for name, value in self._pose.items()}
        x, y = np.moveaxis(corners if len(corners) == 1 else corners[rows], -1, 0)
        if not body:
            x, y = _turned(x, y, pose, depth)
        x = x * pose["scale"] + (pose["shift_x"] + ORIGIN[0])
        y = y * pose["scale"] + (pose["shift_y"] + ORIGIN[1])
        # Whole numbers, for Pillow would cut what follows the point.
        moved = np.rint(np.stack([x, y], -1) * (self._side / UNITS)).astype(np.float32)
        rgb = np.clip(np.rint(colour), 0, 255).astype(np.int64) @ [1, 1 << 8, 1 << 16]
        inks = np.broadcast_to(rgb + (255 << 24), len(self._everyone))[rows]
        for row, outline, ink in zip(rows.tolist(), moved, inks.tolist(), strict=True):
            self._polygons[row].append((outline, ink))

    def paint(self) -> Iterator[Image.Image]:
        """Paints the pictures, one after another on the same canvas.

        Yields:
          N times an image of four bands: red, green, blue, and 255 where anything is painted. All
          four are 0 elsewhere.
        """
        canvas = Image.new("RGBX", (self._side, self._side))
        polygon = ImageDraw.Draw(canvas).polygon
        for polygons in self._polygons:
            canvas.paste(0, (0, 0, *canvas.size))
            for outline, ink in polygons:
                polygon(outline, fill=ink)  # type: ignore[arg-type]  # any buffer of float32 does
            yield canvas


def _turned(
    x: np.ndarray, y: np.ndarray, pose: dict[str, np.ndarray], depth: float
) -> tuple[np.ndarray, np.ndarray]:
    """Corners of a head after yaw and rotation."""
    inside = 1 - (x / _HEAD_RADII[0]) ** 2 - (y / _HEAD_RADII[1]) ** 2
    bulge = _HEAD_DEPTH * np.sqrt(np.maximum(inside, 0)) + depth
    x = x * (1 - _FORESHORTENING * np.abs(pose["yaw"])) + pose["yaw"] * bulge
    cos, sin = np.cos(pose["rotation"]), np.sin(pose["rotation"])
    return x * cos - y * sin, x * sin + y * cos
