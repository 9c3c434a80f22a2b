import pytest

from experiments.accelerators import unused_accelerator


@pytest.fixture
def unforced(monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS")


def write(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_machine_without_accelerator_has_nothing_to_say(tmp_path, unforced):
    assert unused_accelerator(tmp_path) is None


@pytest.mark.parametrize(("driver", "extra"), [("580.65.06", "cuda13"), ("550.54.14", "cuda12")])
def test_a_gpu_that_is_not_used_names_the_extra_its_driver_serves(
    tmp_path, unforced, driver, extra
):
    write(tmp_path / "dev" / "nvidia0")
    version = f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {driver}  Release Build\n"
    write(tmp_path / "proc" / "driver" / "nvidia" / "version", version)
    assert f"NVIDIA GPU is visible, and JAX runs on the CPU: pip install -e '.[{extra}]'" in str(
        unused_accelerator(tmp_path)
    )


def test_a_gpu_that_is_kept_out_by_the_environment_is_told_so(tmp_path):
    write(tmp_path / "dev" / "nvidia0")
    assert "JAX_PLATFORMS=cpu says so" in str(unused_accelerator(tmp_path))


def test_a_tpu_is_told_from_a_network_card_of_the_same_vendor(tmp_path, unforced):
    device = tmp_path / "sys" / "bus" / "pci" / "devices" / "0000:00:04.0"
    write(device / "vendor", "0x1ae0\n")
    write(device / "device", "0x0042\n")
    assert unused_accelerator(tmp_path) is None
    write(device / "device", "0x0063\n")
    assert "a TPU is visible" in str(unused_accelerator(tmp_path))
    assert "'.[tpu]'" in str(unused_accelerator(tmp_path))
