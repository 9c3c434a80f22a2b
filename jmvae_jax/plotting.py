"""Pictures from arrays; the only place that knows Matplotlib."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np


def tile(images: np.ndarray, gap: int = 1) -> np.ndarray:
    """Rows and columns of images as one picture.

    Args:
      images: `[rows, columns, H, W, channels]` in [0, 1], with 1 or 3 channels.
      gap: white pixels between neighbours.

    Returns:
      `uint8[rows * H + ..., columns * W + ..., 3]`.

    Raises:
      ValueError: another number of axes or channels, whole numbers above 1, or a value that is not
        finite.
    """
    images = np.asarray(images)
    _check_images(images)
    pixels = np.round(255 * np.clip(images, 0, 1)).astype(np.uint8)
    pixels = np.broadcast_to(pixels, (*pixels.shape[:-1], 3))
    edges = ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0))
    pixels = np.pad(pixels, edges, constant_values=255)
    rows, columns, height, width, _ = pixels.shape
    picture = pixels.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)
    return picture[: picture.shape[0] - gap, : picture.shape[1] - gap]


def _check_images(images: np.ndarray) -> None:
    images = np.asarray(images)
    if np.ndim(images) != 5 or np.shape(images)[-1] not in (1, 3):
        raise ValueError(
            f"images have shape {np.shape(images)}: expected [rows, columns, H, W, 1 or 3]"
        )
    if images.dtype.kind in "iu" and images.max(initial=0) > 1:
        raise ValueError(f"images are {images.dtype} above 1: expected values in [0, 1]")
    if not np.isfinite(images).all():
        raise ValueError("images: a value is not finite")


@dataclasses.dataclass(frozen=True)
class Grid:
    """Rows and columns of images with names at their edges.

    Attributes:
      images: `[rows, columns, H, W, channels]` in [0, 1], as in `tile`.
      row_names, column_names: one for each row and column; no columns' names: none are shown.
      title: stands above.
      row_label, column_label: what the rows and columns are.
    """

    images: np.ndarray
    row_names: Sequence[str]
    column_names: Sequence[str] = ()
    title: str = ""
    row_label: str = ""
    column_label: str = ""

    def __post_init__(self) -> None:
        _check_images(self.images)
        rows, columns = np.shape(self.images)[:2]
        if len(self.row_names) != rows or len(self.column_names) not in (0, columns):
            raise ValueError(
                f"row_names and column_names have {len(self.row_names)} and "
                f"{len(self.column_names)} names: expected {rows}, and {columns} or none"
            )


@dataclasses.dataclass(frozen=True)
class Cloud:
    """Points in the plane, coloured by their class.

    Attributes:
      points: `[N, 2]`.
      classes: `[N]`, numbers or names.
      title: stands above.
    """

    points: np.ndarray
    classes: np.ndarray
    title: str

    def __post_init__(self) -> None:
        if np.shape(self.points) != (len(self.classes), 2):
            raise ValueError(
                f"points have shape {np.shape(self.points)}: expected [{len(self.classes)}, 2]"
            )


def save_grids(path: str | os.PathLike[str], grids: Sequence[Grid], title: str = "") -> None:
    """Writes grids of images side by side; the file's ending decides the format.

    Raises:
      ValueError: no grid; OSError: the file cannot be written.
    """
    if not grids:
        raise ValueError("grids is empty: expected at least one")
    side = 0.55 if max(np.shape(grid.images)[2] for grid in grids) <= 32 else 0.85  # inches
    letters = [max(len(line) for name in g.row_names for line in name.split("\n")) for g in grids]
    widths = [
        0.6 + side * np.shape(grid.images)[1] + 0.08 * count
        for grid, count in zip(grids, letters, strict=True)
    ]
    height = 1.6 + side * max(len(grid.row_names) for grid in grids)
    figure, axes = _figure(widths, height, title)
    for panel, grid in zip(axes, grids, strict=True):
        picture, (rows, columns) = tile(grid.images), np.shape(grid.images)[:2]
        panel.imshow(picture, interpolation="nearest")
        panel.set_title(grid.title, fontsize=10)
        high, wide = (picture.shape[0] + 1) / rows, (picture.shape[1] + 1) / columns
        panel.set_yticks((np.arange(rows) + 0.5) * high - 1, grid.row_names)
        count = len(grid.column_names)
        panel.set_xticks((np.arange(count) + 0.5) * wide - 1, grid.column_names)
        panel.set_ylabel(grid.row_label)
        panel.set_xlabel(grid.column_label)
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
    _save(figure, path)


def save_clouds(
    path: str | os.PathLike[str],
    clouds: Sequence[Cloud],
    title: str,
    class_label: str,
    axis_labels: tuple[str, str] = ("first latent dimension", "second latent dimension"),
) -> None:
    """Writes clouds of points side by side, with one legend of the classes.

    Raises:
      ValueError: no cloud; OSError: the file cannot be written.
    """
    if not clouds:
        raise ValueError("clouds is empty: expected at least one")
    from matplotlib import colormaps

    figure, axes = _figure([4.6] * len(clouds), 4.9, title)
    numbers = np.unique(np.concatenate([cloud.classes for cloud in clouds]))
    colours = colormaps["tab10" if len(numbers) <= 10 else "tab20"]
    for panel, cloud in zip(axes, clouds, strict=True):
        for place, number in enumerate(numbers):
            points = np.asarray(cloud.points)[np.asarray(cloud.classes) == number]
            colour = colours(place % colours.N)
            panel.scatter(*points.T, s=4, linewidths=0, color=colour, label=str(number))
        panel.set_title(cloud.title, fontsize=10)
        panel.set_xlabel(axis_labels[0])
        panel.set_aspect("equal", "datalim")
    axes[0].set_ylabel(axis_labels[1])
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, title=class_label, loc="outside right center", markerscale=3)
    _save(figure, path)


def _figure(widths: Sequence[float], height: float, title: str) -> tuple[Any, Any]:
    """A figure with a panel of each width (inches), and its axes."""
    # Not pyplot: it picks a display and keeps figures alive.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(sum(widths), height), layout="constrained")
    axes = figure.subplots(1, len(widths), width_ratios=list(widths), squeeze=False)[0]
    if title:
        figure.suptitle(title, fontsize=11)
    return figure, axes


def _save(figure: Any, path: str | os.PathLike[str]) -> None:
    """Writes a picture whole or not at all."""
    whole = pathlib.Path(path)
    temporary = whole.with_name(f"{whole.name}.tmp{whole.suffix}")
    # Tight: cut where the drawing ends, so that no label is lost and no margin is left.
    figure.savefig(temporary, dpi=150, bbox_inches="tight")
    os.replace(temporary, whole)
