"""The law of the tests: four devices, keys used once, no rank promotion where it is asked for."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
)

import jax
import pytest

jax.config.update("jax_debug_key_reuse", True)


@pytest.fixture
def no_rank_promotion():
    """Our own arithmetic broadcasts by explicit axes; numpyro's densities do not."""
    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture
def key():
    return jax.random.key(0)
