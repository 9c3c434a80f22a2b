"""Names for what travels through the library.

A modality is a dictionary key: batches, masks and everything made from them are dictionaries
from the modality's name to an array whose first axis counts the examples.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax

Array = jax.Array
Key = jax.Array
"""One typed PRNG key (`jax.random.key`), or an array of them."""

Batch = Mapping[str, Array]
"""Modality name -> `[B, *shape]`, as the likelihood of that modality reads it."""

Mask = Mapping[str, Array]
"""Modality name -> `bool[B]`, true where the row has the modality."""

Variables = Mapping[str, Any]
"""What `model.init` returns: `{"params": ..., **model_state}`."""

Objective = Callable[..., Any]
"""`objective(model, variables, key, batch, *, mask, train, mutable, **weights) -> Bound`."""
