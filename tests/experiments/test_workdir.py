import json
import os

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from experiments import inputs, runs, workdir
from experiments.configs import mnist, synthetic_faces


@pytest.fixture
def config():
    return mnist.get_config("jmvae_kl,smoke")


def test_a_configuration_comes_back(tmp_path, config):
    with workdir.opened(tmp_path / "run", config) as folder:
        workdir.write_config(folder, config)
    back = workdir.read_config(tmp_path / "run")
    assert workdir.differences(back, config) == []
    assert back.train.epochs == config.train.epochs


def test_another_run_is_refused_with_the_difference(tmp_path, config):
    workdir.write_config(tmp_path, config)
    other = mnist.get_config("jmvae_kl,smoke")
    other.train.epochs = 7
    with pytest.raises(ValueError, match=r"train\.epochs: 2 -> 7"), workdir.opened(tmp_path, other):
        pass
    assert json.loads((tmp_path / "config.json").read_text())["train"]["epochs"] == 2


def test_harmless_keys_may_differ(tmp_path, config):
    workdir.write_config(tmp_path, config)
    config.train.log_every = 17
    config.data.data_dir = "elsewhere"
    with workdir.opened(tmp_path, config) as folder:
        assert folder == tmp_path


@pytest.mark.parametrize(
    ("key", "value"),
    [("strategy", "pmap"), ("num_devices", 2), ("remat", True), ("accumulate", 2)],
)
def test_a_run_may_go_on_with_other_devices(config, key, value):
    other = mnist.get_config("jmvae_kl,smoke")
    other.train[key] = value
    assert workdir.differences(config, other) == []


def test_the_rows_of_parts_matter_to_batch_norm():
    """Which rows a part has depends on the number of devices."""
    for accumulate, expected in ((1, []), (2, ["train.num_devices: None -> 2"])):
        config, other = (synthetic_faces.get_config("jmvae_kl") for _ in range(2))
        config.train.accumulate = other.train.accumulate = accumulate
        other.train.num_devices = 2
        assert workdir.differences(config, other) == expected


def test_an_evaluation_that_cannot_be_written_leaves_the_one_before(tmp_path, config):
    workdir.write_config(tmp_path, config)
    values = {"log p(image)": np.arange(3.0)}
    workdir.write_evaluation(tmp_path, {"step": 1}, values)
    with pytest.raises(ValueError, match="not JSON compliant"):
        workdir.write_evaluation(tmp_path, {"step": float("nan")}, {"log p(image)": np.ones(1)})
    found = workdir.read_evaluation(tmp_path)
    assert found.results == {"step": 1}
    np.testing.assert_array_equal(found.values["log p(image)"], values["log p(image)"])
    workdir.write_evaluation(tmp_path, {"step": 2}, values)
    assert workdir.read_evaluation(tmp_path).results == {"step": 2}
    names = {workdir.CONFIG_FILE, workdir.RESULTS_FILE, workdir.VALUES_FILE}
    assert {path.name for path in tmp_path.iterdir()} == names


@pytest.mark.parametrize("name", [workdir.RESULTS_FILE, workdir.VALUES_FILE])
def test_a_damaged_evaluation_is_named(tmp_path, config, name):
    workdir.write_config(tmp_path, config)
    workdir.write_evaluation(tmp_path, {"step": 1}, {"log p(image)": np.arange(3.0)})
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"{name} cannot be read"):
        workdir.read_evaluation(tmp_path)


def test_parts_of_a_batch_matter_to_batch_norm():
    config, other = (synthetic_faces.get_config("jmvae_kl") for _ in range(2))
    other.train.accumulate = 2
    assert workdir.differences(config, other) == ["train.accumulate: 1 -> 2"]


def with_epochs(epochs, warmup_fraction, schedule="constant"):
    config = mnist.get_config("jmvae_kl")
    config.train.epochs = epochs
    config.train.warmup_fraction = warmup_fraction
    config.train.schedule = schedule
    return config


@pytest.mark.parametrize(
    ("warmup_fraction", "schedule", "harmless"),
    [
        (0.0, "constant", True),
        (0.05, "constant", True),  # half an epoch and one: beta is 1 throughout
        (0.4, "constant", False),
        (0.0, "cosine", False),
    ],
)
def test_epochs_may_change_where_no_schedule_depends_on_them(warmup_fraction, schedule, harmless):
    old, new = (with_epochs(epochs, warmup_fraction, schedule) for epochs in (10, 20))
    found = workdir.differences(old, new)
    assert found == ([] if harmless else ["train.epochs: 10 -> 20"])


def test_a_run_is_extended_by_the_fraction_that_leaves_betas_rise_as_it_was():
    old = with_epochs(20, 0.4)
    assert workdir.differences(old, with_epochs(50, 0.16)) == []
    assert workdir.differences(old, with_epochs(50, 0.2)) == [
        "train.epochs: 20 -> 50",
        "train.warmup_fraction: 0.4 -> 0.2",
    ]
    cosine = [with_epochs(*of, "cosine") for of in ((20, 0.4), (50, 0.16))]
    assert len(workdir.differences(*cosine)) == 2


def test_a_second_run_in_the_same_folder_is_refused(tmp_path, config):
    with (
        workdir.opened(tmp_path, config),
        pytest.raises(BlockingIOError, match="in use"),
        workdir.opened(tmp_path, config),
    ):
        pass
    with workdir.opened(tmp_path, config):
        pass  # the lock ended with its holder


def test_a_folder_that_cannot_be_made_is_named(tmp_path, config):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OSError, match="cannot be written"),
        workdir.opened(tmp_path / "file" / "run", config),
    ):
        pass


def test_checkpoints_without_a_configuration_are_refused(tmp_path, config):
    (tmp_path / "checkpoints").mkdir()
    with (
        pytest.raises(ValueError, match=r"without a config\.json"),
        workdir.opened(tmp_path, config),
    ):
        pass


@pytest.mark.parametrize("name", ["metrics.jsonl", "results.json"])
def test_somebody_elses_files_are_refused_and_left_alone(tmp_path, config, name):
    (tmp_path / name).write_text("mine\n")
    with pytest.raises(ValueError, match=name), workdir.opened(tmp_path, config):
        pass
    assert (tmp_path / name).read_text() == "mine\n"


def test_a_folder_that_cannot_be_written_is_found_at_once(tmp_path):
    with pytest.raises(OSError, match=r"out: .*cannot be written"):
        workdir.check_writable(tmp_path / "none", "out")


def test_no_run_and_a_damaged_run_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no run"):
        workdir.read_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        workdir.read_config(tmp_path)


def test_a_run_that_is_older_than_the_choice_of_alignments_goes_on(config):
    old = ConfigDict(config.to_dict())
    for key in ("alignment", "divergence", "num_samples"):
        del old.objective[key]
    assert workdir.differences(old, config) == []


def test_two_locks_of_a_folder_are_apart(tmp_path):
    with workdir.locked(tmp_path, "workdir"), workdir.locked(tmp_path, "workdir", ".other"):
        again = workdir.locked(tmp_path, "workdir", ".other")
        with pytest.raises(BlockingIOError, match="is in use by another process"), again:
            pass


def test_data_that_a_run_was_not_trained_on_are_refused(tmp_path):
    """The columns of a CSV file change places: all names are as before."""
    manual, config = tmp_path / "manual", synthetic_faces.get_config("jmvae_kl,smoke")
    manual.mkdir()
    config.data.update({"dataset": "image_attributes/64", "data_dir": os.fspath(tmp_path)})
    config.data.manual_dir = os.fspath(manual)

    def write(columns):
        rows = [f"{number}.png,train,-1,1" for number in range(2)]
        (manual / "attributes.csv").write_text("\n".join([f"file,split,{columns}", *rows]))

    for number in range(2):
        Image.new("RGB", (64, 64), (100 * number,) * 3).save(manual / f"{number}.png")
    write("Smiling,Male")
    statistics = inputs.load_statistics(config)
    inputs.check_dataset(config, statistics)
    inputs.check_dataset(config, {})  # a run of MNIST keeps nothing of it
    write("Male,Smiling")
    with pytest.raises(ValueError, match=r"data\.manual_dir=.*manual' is image_attr.*trained on"):
        inputs.check_dataset(config, statistics)


def test_a_run_does_not_go_on_over_other_data_of_the_same_name(tmp_path):
    config = synthetic_faces.get_config("jmvae_kl,smoke")
    kept = {"dataset": np.array("image_attributes/64_3f2a91c04b7d")}
    workdir.write_arrays(tmp_path / workdir.STATISTICS_FILE, kept)
    other = {"dataset": np.array("image_attributes/64_000000000000")}
    with pytest.raises(ValueError, match=r"data\.manual_dir=None is .*_0{12}, and the run"):
        runs.begin(tmp_path, config, other, 5)
    assert workdir.read_statistics(tmp_path) == kept
    assert not (tmp_path / workdir.CONFIG_FILE).exists()
    runs.begin(tmp_path, config, kept, 5).close()
