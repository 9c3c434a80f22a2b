"""The law of the tests: eight devices, keys used once, no rank promotion where it is asked for."""

import os
import shutil
import socket
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import pytest

# Compiling is most of a test's time: little is optimised, and by the older emitters of loops.
FAST_COMPILATION = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + f" --xla_force_host_platform_device_count=8 {FAST_COMPILATION}"
)

jax.config.update("jax_debug_key_reuse", True)


def pytest_configure(config):
    """Many tests compile the same programs: each is compiled once for a session's processes."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = tempfile.mkdtemp()
        config.add_cleanup(lambda: shutil.rmtree(folder))
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        # What is compiled in this process, whose JAX has read its environment already.
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


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
def free_port():
    """A function that finds a port of this machine that nobody listens on."""

    def find():
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            return listener.getsockname()[1]

    return find


@pytest.fixture(scope="session")
def mnist_dir(tmp_path_factory, no_network):
    """A data_dir with MNIST prepared in it, shared by the tests: copy it to change it."""
    from jmvae_jax.data import load

    base = tmp_path_factory.getbasetemp()
    # The processes of one session prepare it once: who comes later waits.
    prepared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "prepared"
    prepared.mkdir(exist_ok=True)
    for split in ("train", "test"):
        load("mnist", split, data_dir=prepared)
    return shutil.copytree(prepared, tmp_path_factory.mktemp("data") / "own")


@pytest.fixture
def environment(mnist_dir):
    """Of a command as a person runs it: one device, and data that are prepared."""
    return {**os.environ, "TFDS_DATA_DIR": str(mnist_dir), "XLA_FLAGS": FAST_COMPILATION}
