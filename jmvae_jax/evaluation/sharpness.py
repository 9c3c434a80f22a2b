"""How sharp images are: the variance of the Laplacian."""

import numpy as np

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the brightness (ITU-R BT.601)."""


def sharpness(images: np.ndarray) -> np.ndarray:
    """Variance of the Laplacian of each image's brightness, in squared levels of 0 ... 255.

    The Laplacian is the sum of four neighbours minus four times the pixel; the outermost pixels,
    which lack neighbours, are left out. A blurred image has little of it, noise much: compare with
    real images, nearer is better.

    Args:
      images: `[N, H, W, 1 or 3]` in [0, 1], H and W at least 3.

    Returns:
      `float64[N]`.

    Raises:
      ValueError: another shape, or integers.

    Example:
      >>> import numpy as np
      >>> from jmvae_jax.evaluation import sharpness
      >>> sharpness(np.full((2, 8, 8, 3), 0.5))
      array([0., 0.])
    """
    from scipy import ndimage  # slow to import

    if not np.issubdtype(np.asarray(images).dtype, np.floating):
        raise ValueError(f"images are {np.asarray(images).dtype}: expected floats in [0, 1]")
    images = np.asarray(images, np.float64)
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or min(images.shape[1:3]) < 3:
        raise ValueError(f"images have shape {images.shape}: expected [N, H, W, 1 or 3]")
    weights = LUMA if images.shape[-1] == 3 else (1.0,)
    levels = 255 * (images @ np.asarray(weights))
    found = [np.var(ndimage.laplace(image)[1:-1, 1:-1]) for image in levels]
    return np.asarray(found)
