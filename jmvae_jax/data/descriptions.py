"""What a data set says of itself: names and counts, and the statistics of its pixels."""

from typing import Any

import numpy as np

from jmvae_jax.data.decoded import read_statistics
from jmvae_jax.data.loading import prepare


def metadata(name: str, **places: Any) -> dict[str, Any]:
    """Returns what a data set notes about itself, preparing it first if need be.

    Args:
      name: See `prepare`.
      **places: `data_dir`, `manual_dir` and `download` of `prepare`.

    Returns:
      For images with attributes: `"attributes"`, their names in the order of the columns, and,
      where the images come from files, `"image_size"`, `"crop"` (left, top, side; None: the square
      in the middle), `"num_skipped_images"` and `"skipped_images"` (file name -> what is wrong).
      For CelebA also `"source"`, the name of the file or folder that its images were read from.
      Empty for the MNIST family.

    Raises:
      ValueError: See `prepare`.
      FileNotFoundError: See `prepare`.
      OSError: See `prepare`.

    Example:
      metadata("celeb_a_aligned", data_dir="data")["attributes"][31]  # 'Smiling'
    """
    return dict(prepare(name, **places).info.metadata or {})


def pixel_statistics(name: str, **places: Any) -> dict[str, np.ndarray]:
    """Returns the mean and the deviation of each pixel of `image` over the train split.

    They are kept beside the prepared data, and computed when they are missing or stale.

    Args:
      name: See `prepare`.
      **places: `data_dir`, `manual_dir` and `download` of `prepare`.

    Returns:
      `"mean"` and `"deviation"`, float32, in the shape of an image, in units of pixel / 255. The
      deviation is that of the population (divided by N) and at least 1/255.

    Raises:
      ValueError: The data set has no uint8 `image` or no train split; and see `prepare`.
      FileNotFoundError: See `prepare`.
      OSError: See `prepare`.

    Example:
      statistics = pixel_statistics("celeb_a_aligned/64", data_dir="data")
      statistics["mean"].shape  # (64, 64, 3)
    """
    return read_statistics(prepare(name, **places))
