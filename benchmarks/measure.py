"""What a machine can do at best, measured beside whatever is compared with it; and tables."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jmvae_jax import parallel

SIZES = (512, 1024, 2048, 4096)
"""Of square matrices; an accelerator needs larger ones."""


def matrix_rate(dtype: Any = jnp.float32, sizes: Sequence[int] = SIZES) -> float:
    """Best rate of a product of square matrices over `sizes`, in FLOP a second."""
    product = parallel.jit(jnp.matmul)
    best = 0.0
    for size in sizes:
        values = jax.random.normal(jax.random.key(size), (size, size), dtype)
        best = max(best, 2 * size**3 / best_seconds(lambda values=values: product(values, values)))
    return best


def copy_rate(size: int = 1 << 30) -> float:
    """Bytes a second that a pass over an array of `size` bytes reads and writes."""
    values = jnp.zeros(size // 4, jnp.float32)
    add = parallel.jit(lambda x: x + 1)
    return 2 * size / best_seconds(lambda: add(values))


def best_seconds(function: Callable[[], Any], repeats: int = 5) -> float:
    """Shortest time from a call to its last value, after one that is not counted."""
    jax.block_until_ready(function())
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(function())
        found.append(time.perf_counter() - started)
    return min(found)


def grid(head: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    rows = [head, ["---"] + ["---:"] * (len(head) - 1), *lines]
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in rows)
