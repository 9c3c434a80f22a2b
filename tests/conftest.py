"""The law of the tests: four devices, keys used once, no rank promotion where it is asked for."""

import os
import socket

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


@pytest.fixture(scope="session", autouse=True)
def no_network():
    """No test, and nothing that a test calls, may try the network."""

    def refuse(*args, **kwargs):
        raise OSError("the network was tried")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield


@pytest.fixture(scope="session")
def mnist_dir(tmp_path_factory, no_network):
    """A data_dir with MNIST prepared in it, shared by the tests: copy it to change it."""
    from jmvae_jax.data import load

    data_dir = tmp_path_factory.mktemp("data")
    for split in ("train", "test"):
        load("mnist", split, data_dir=data_dir)
    return data_dir
