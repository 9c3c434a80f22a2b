"""From stored bytes to batches: TFDS builders, order and position, transforms.

Nothing here knows a model, and nothing imports TensorFlow.
"""

from jmvae_jax.data.descriptions import metadata, pixel_statistics
from jmvae_jax.data.loading import load, num_examples, prepare
from jmvae_jax.data.missing import remove_at_random
from jmvae_jax.data.pipeline import Epoch, num_steps, padded_batches
from jmvae_jax.data.stored import StoredRows
from jmvae_jax.data.transforms import apply_transforms, evaluation_batch

__all__ = [
    "Epoch",
    "StoredRows",
    "apply_transforms",
    "evaluation_batch",
    "load",
    "metadata",
    "num_examples",
    "num_steps",
    "padded_batches",
    "pixel_statistics",
    "prepare",
    "remove_at_random",
]
