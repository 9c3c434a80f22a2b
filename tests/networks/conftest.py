import jax
import numpy as np
import pytest


@pytest.fixture
def filled():
    """Makes variables of a network without compiling its `init`."""

    def fill(network, inputs):
        noise = np.random.default_rng(0)

        def values(leaf):
            drawn = noise.normal(size=leaf.shape).astype(leaf.dtype)
            return drawn / leaf.shape[0] ** 0.5 if leaf.ndim > 1 else 1 + drawn / 10

        shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), *inputs))
        return jax.tree.map(values, shapes)

    return fill
