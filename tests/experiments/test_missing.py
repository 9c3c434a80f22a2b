"""Runs whose training rows have lost modalities at random."""

import json

import jax
import numpy as np
import pytest
from grids import some_of

from experiments import build, inputs, workdir
from experiments.configs import mnist, synthetic_faces
from jmvae_jax import data, parallel, training
from jmvae_jax.training.checkpoints import Checkpoints
from jmvae_jax.training.metrics import NoLog

HALF = {"image": 0.5, "label": 0.5}


@pytest.fixture
def config(mnist_dir):
    return config_of(mnist_dir)


def config_of(mnist_dir, variant="jmvae_kl", rates=HALF, rows="keep", streamed=False):
    config = mnist.get_config(f"{variant},smoke")
    config.data.data_dir = str(mnist_dir)
    config.data.missing_rates.update(rates)
    config.data.missing_rows, config.data.streamed = rows, streamed
    return config


def train(config, folder, stop=lambda: False, rows=None):
    """The run of a configuration, from the newest checkpoint in `folder` if there is one."""
    rows = rows or inputs.TrainingRows(config)
    experiment = build.build(config, len(rows))
    plan = build.build_plan(config, experiment)
    devices = parallel.DataParallel((jax.devices()[0],))
    checkpoints = Checkpoints(workdir.checkpoints_path(folder))
    state = build.initial_state(config, experiment)
    restored = checkpoints.restore(state)
    state = state if restored is None else restored[1]
    order_key, step_key = (jax.random.fold_in(jax.random.key(config.seed), i) for i in (1, 2))
    dispatch = build.compile_dispatch(config, experiment, devices, step_key, rows.streamed)
    with inputs.open_feed(config, rows, plan, order_key, devices) as feed:
        return training.train(
            state,
            plan=plan,
            dispatch=dispatch,
            feed=feed,
            tally=experiment.start_tally(state, rows[[0]]),
            devices=devices,
            log=NoLog(),
            checkpoints=checkpoints,
            stop=stop,
            progress=False,
        )


def same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def differ(a, b):
    return any(
        (np.asarray(x) != y).any() for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)
    )


class Spoiled(inputs.TrainingRows):
    """Training rows with something else wherever a modality was removed."""

    def __getitem__(self, rows):
        return self._spoiled(super().__getitem__(rows), rows)

    def load(self):
        return self._spoiled(super().load(), slice(None))

    def _spoiled(self, arrays, rows):
        other = {"image": 255 - arrays["image"], "label": 9 - arrays["label"]}
        masks = {name: kept[rows] for name, kept in self.mask.items()}
        return {
            name: np.where(masks[name].reshape(-1, *[1] * (values.ndim - 1)), values, other[name])
            for name, values in arrays.items()
        }


@pytest.fixture(scope="module")
def unbroken(mnist_dir, tmp_path_factory):
    """The last state of the run in memory that keeps its rows."""
    return train(config_of(mnist_dir), tmp_path_factory.mktemp("unbroken"))


def test_a_streamed_run_is_the_one_in_memory_to_the_last_bit(unbroken, mnist_dir, tmp_path):
    assert int(unbroken.step) == 20
    same(train(config_of(mnist_dir, streamed=True), tmp_path), unbroken)


@pytest.mark.slow
def test_a_streamed_run_of_complete_rows_is_the_one_in_memory(mnist_dir, tmp_path):
    resident = train(config_of(mnist_dir, rows="drop"), tmp_path / "resident")
    assert int(resident.step) == 6  # two epochs of a third of the rows
    same(train(config_of(mnist_dir, rows="drop", streamed=True), tmp_path / "streamed"), resident)


@pytest.mark.parametrize("streamed", some_of([False, True], True))
def test_what_was_removed_changes_nothing(streamed, unbroken, mnist_dir, tmp_path):
    config = config_of(mnist_dir, streamed=streamed)
    spoiled = Spoiled(config)
    assert differ(spoiled[range(20)], inputs.TrainingRows(config)[range(20)])
    same(train(config, tmp_path, rows=spoiled), unbroken)


def test_a_run_that_was_stopped_ends_as_the_unbroken_one(config, unbroken, tmp_path):
    calls = iter([False, True])
    part = train(config, tmp_path, stop=lambda: next(calls))
    assert 0 < int(part.step) < 20
    workdir.write_config(tmp_path, config)
    same(train(workdir.read_config(tmp_path), tmp_path), unbroken)


def test_the_rows_that_are_left_are_those_that_lose_nothing(mnist_dir):
    config = config_of(mnist_dir, rows="drop")
    stored = inputs.load_split(config, config.data.train_split)
    kept = data.remove_at_random(HALF, 1000, seed=0)
    complete = np.flatnonzero(kept["image"] & kept["label"])
    rows = inputs.TrainingRows(config)
    assert len(rows) == rows.num_complete == len(complete)
    assert rows.num_stored == 1000
    assert rows.mask == {}
    assert build.build(config, len(rows)).steps_per_epoch == len(complete) // 100
    some = np.array([5, 0, len(complete) - 1])
    for name, values in rows.load().items():
        np.testing.assert_array_equal(values, stored[name][complete])
        np.testing.assert_array_equal(rows[some][name], stored[name][complete[some]])
    with pytest.raises(IndexError):
        rows[[len(complete)]]


def test_the_mask_says_what_each_row_has_kept(mnist_dir):
    config = config_of(mnist_dir, rates={"image": 0.5})
    rows = inputs.TrainingRows(config)
    assert len(rows) == 1000
    assert set(rows.mask) == {"image"}  # nothing else is ever masked
    expected = data.remove_at_random({"image": 0.5, "label": 0.0}, 1000, seed=0)["image"]
    np.testing.assert_array_equal(rows.mask["image"], expected)
    assert rows.num_complete == expected.sum()
    config.data.missing_seed = 1
    assert (inputs.TrainingRows(config).mask["image"] != expected).any()


@pytest.mark.parametrize("rows", ["keep", "drop"])
def test_without_rates_there_is_no_mask(rows, mnist_dir):
    found = inputs.TrainingRows(config_of(mnist_dir, rates={}, rows=rows))
    assert found.mask == {}
    assert len(found) == found.num_complete == found.num_stored == 1000


def test_no_other_split_loses_anything(config):
    assert len(inputs.load_split(config, config.data.validation_split)["index"]) == 200
    rows = inputs.ModalityRows(config, config.data.validation_split)
    assert (len(rows), rows.mask) == (200, {})


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["cvae", "cmma", "jmvae_zero"])
def test_every_model_of_two_modalities_trains(variant, mnist_dir, tmp_path):
    state = train(config_of(mnist_dir, variant), tmp_path)
    assert int(state.step) == 20
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("missing_rates", {"image": 1.0}, r"missing_rates\.image=1\.0: expected \[0, 1\)"),
        ("missing_rates", {"label": -0.5}, r"missing_rates\.label=-0\.5: expected \[0, 1\)"),
        (
            "missing_rates",
            {"sound": 0.5},
            r"missing_rates\.sound=0\.5: expected a modality, one of",
        ),
        ("missing_rows", "leave", "missing_rows='leave': expected 'keep' or 'drop'"),
        ("missing_seed", -1, "missing_seed=-1: expected at least 0"),
    ],
)
def test_a_bad_value_is_named(config, key, value, words):
    config.data[key] = value
    with pytest.raises(ValueError, match=words):
        build.build(config, 1000)
    with pytest.raises(ValueError, match=words):
        inputs.TrainingRows(config)


def test_a_modality_that_is_the_only_one_cannot_be_removed():
    config = mnist.get_config("vae,smoke")
    config.data.missing_rates.image = 0.5
    with pytest.raises(ValueError, match=r"image=0\.5: no row can lose its only modality"):
        build.build(config, 1000)


def test_a_discriminator_needs_complete_rows():
    config = synthetic_faces.get_config("jmvae_gan,smoke,image_size=32")
    config.data.missing_rates.attributes = 0.5
    moments = {f"image/{name}": np.ones((32, 32, 3)) for name in ("mean", "deviation")}
    with pytest.raises(ValueError, match=r"attributes=0\.5: an adversarial step .*rows=drop"):
        build.build(config, 1000, moments)
    config.data.missing_rows = "drop"
    assert build.build(config, 1000, moments).adversary is not None


def test_no_row_that_is_complete_is_an_error(mnist_dir):
    config = config_of(mnist_dir, rates=dict.fromkeys(HALF, 0.999), rows="drop")
    config.data.train_split = "train[:100]"
    with pytest.raises(ValueError, match=r"rows='drop': none of the 100 rows of 'train\[:100\]'"):
        inputs.TrainingRows(config)


def older(folder, config):
    """Writes the run's configuration as it was before modalities could be removed."""
    entries = json.loads(json.dumps(config.to_dict()))
    for key in ("missing_rates", "missing_seed", "missing_rows"):
        del entries["data"][key]
    (folder / workdir.CONFIG_FILE).write_text(json.dumps(entries))


def test_an_older_run_loads_and_goes_on(unbroken, mnist_dir, tmp_path):
    config = config_of(mnist_dir, rates={})
    calls = iter([True])
    part = train(config, tmp_path, stop=lambda: next(calls))
    assert 0 < int(part.step) < 20
    older(tmp_path, config)
    run = build.load_run(tmp_path)
    same(run.state, part)
    rows = inputs.TrainingRows(run.config)
    assert (len(rows), rows.mask) == (1000, {})
    with workdir.opened(tmp_path, config) as folder:
        last = train(config, folder)
    assert int(last.step) == 20
    assert differ(last.params, unbroken.params)  # a run that loses something is another one


def test_an_older_run_does_not_go_on_with_rows_that_lose_something(config, tmp_path):
    older(tmp_path, config)
    with (
        pytest.raises(
            ValueError, match=r"data\.missing_rates\.image: 0\.0 -> 0\.5; data\.m"
        ) as error,
        workdir.opened(tmp_path, config),
    ):
        pass
    assert "missing_seed" not in str(error.value)
    config.data.missing_rates.update({"image": 0.0, "label": 0.0})
    config.data.missing_rows = "drop"
    found = workdir.differences(workdir.read_config(tmp_path), config)
    assert found == ["data.missing_rows: 'keep' -> 'drop'"]


@pytest.mark.slow
def test_the_command_line_sets_the_rates(command, tmp_path):
    smoke = ("--config=" + mnist.__file__ + ":jmvae_kl,smoke", f"--workdir={tmp_path / 'run'}")
    rates = "--config.data.missing_rates"
    trained = command("train", *smoke, f"{rates}.image=0.5", f"{rates}.label=0.5")
    assert trained.returncode == 0, trained.stderr
    complete = np.all(list(data.remove_at_random(HALF, 1000, seed=0).values()), axis=0).sum()
    assert f"held on the devices, {complete} of 1,000 rows complete\n" in trained.stdout
    kept = workdir.read_config(tmp_path / "run").data
    assert dict(kept.missing_rates) == HALF
    assert (kept.missing_seed, kept.missing_rows) == (0, "keep")
    # The same folder with other rates is another run.
    other = command("train", *smoke, f"{rates}.image=0.5")
    assert "data.missing_rates.label: 0.5 -> 0.0" in " ".join(other.stderr.split())
    assert other.returncode == 1


@pytest.mark.parametrize(
    ("flag", "status", "words"),
    [
        pytest.param(
            "missing_rates.image=1.0",
            1,
            "data.missing_rates.image=1.0: expected [0, 1)",
            marks=pytest.mark.slow,
        ),
        ("missing_rates.sound=0.5", 2, "nearest is --config.data.missing_rates."),
    ],
)
def test_the_command_line_refuses_what_cannot_be(command, tmp_path, flag, status, words):
    smoke = ("--config=" + mnist.__file__ + ":jmvae_kl,smoke", f"--workdir={tmp_path / 'run'}")
    process = command("train", *smoke, f"--config.data.{flag}")
    assert process.returncode == status
    assert "Traceback" not in process.stderr
    assert words in " ".join(process.stderr.split())
    assert not (tmp_path / "run" / "config.json").exists()
