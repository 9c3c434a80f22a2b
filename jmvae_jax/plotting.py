"""Pictures from arrays; the only place that knows Matplotlib."""

import os
from collections.abc import Sequence

import numpy as np


def tile(images: np.ndarray, gap: int = 1) -> np.ndarray:
    """Rows and columns of images as one picture.

    Args:
      images: `[rows, columns, H, W, channels]` in [0, 1], with 1 or 3 channels.
      gap: white pixels between neighbours.

    Returns:
      `uint8[rows * H + ..., columns * W + ..., 3]`.

    Raises:
      ValueError: another number of axes or channels.
    """
    images = np.asarray(images)
    if images.ndim != 5 or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"images have shape {images.shape}: expected [rows, columns, H, W, 1 or 3]"
        )
    pixels = np.round(255 * np.clip(images, 0, 1)).astype(np.uint8)
    pixels = np.broadcast_to(pixels, (*pixels.shape[:-1], 3))
    edges = ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0))
    pixels = np.pad(pixels, edges, constant_values=255)
    rows, columns, height, width, _ = pixels.shape
    picture = pixels.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)
    return picture[: picture.shape[0] - gap, : picture.shape[1] - gap]


def save_grid(
    path: str | os.PathLike[str],
    images: np.ndarray,
    *,
    title: str,
    row_names: Sequence[str],
    column_names: Sequence[str] = (),
    row_label: str = "",
    column_label: str = "",
) -> None:
    """Writes rows and columns of images with names at their edges.

    Args:
      path: of the file; its ending decides the format.
      images: as in `tile`.
      title: stands above.
      row_names, column_names: one for each row and column; no columns' names: none are shown.
      row_label, column_label: what the rows and columns are.

    Raises:
      ValueError: as `tile`, or names of another number; OSError: the file cannot be written.
    """
    # Not pyplot: it picks a display and keeps figures alive.
    from matplotlib.figure import Figure

    picture = tile(images)
    rows, columns = images.shape[:2]
    if len(row_names) != rows or len(column_names) not in (0, columns):
        raise ValueError(
            f"row_names and column_names have {len(row_names)} and {len(column_names)} names: "
            f"expected {rows}, and {columns} or none"
        )
    figure = Figure(figsize=(1.2 + 0.55 * columns, 1.2 + 0.55 * rows), layout="constrained")
    axes = figure.subplots()
    axes.imshow(picture, interpolation="nearest")
    axes.set_title(title, fontsize=10)
    height, width = (picture.shape[0] + 1) / rows, (picture.shape[1] + 1) / columns
    axes.set_yticks((np.arange(rows) + 0.5) * height - 1, row_names)
    axes.set_xticks((np.arange(len(column_names)) + 0.5) * width - 1, column_names)
    axes.set_ylabel(row_label)
    axes.set_xlabel(column_label)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.savefig(path, dpi=150)
