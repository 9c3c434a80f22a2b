import numpy as np
import pytest

from jmvae_jax.training import schedules


def test_beta_follows_the_papers_formula():
    epochs, steps, share = 500, 600, 0.4
    beta = schedules.beta_warmup(epochs, steps, share)
    for step in (0, 599, 600, 60_000, 119_399, 119_400, 300_000):
        epoch = 1 + step // steps
        expected = min(1.0, (epoch - 1) / (200 - 1))
        np.testing.assert_allclose(beta(np.int32(step)), expected, rtol=1e-6)


@pytest.mark.parametrize(("epochs", "share"), [(2, 0.4), (1, 1.0), (100, 0.0)])
def test_a_warmup_of_one_epoch_or_less_is_none(epochs, share):
    assert schedules.beta_warmup(epochs, 10, share)(np.int32(0)) == 1.0


def test_warmup_keeps_its_share_of_the_run():
    beta = schedules.beta_warmup(20, 10, 0.4)  # N_t = 8
    assert beta(np.int32(0)) == 0.0
    np.testing.assert_allclose(beta(np.int32(35)), 3 / 7, rtol=1e-6)
    assert beta(np.int32(70)) == 1.0


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_outside_0_and_1_is_refused(share):
    with pytest.raises(ValueError, match="warmup_fraction"):
        schedules.beta_warmup(10, 10, share)


def test_learning_rates_equal_their_formulas():
    constant = schedules.learning_rate("constant", 1e-3, 1000)
    cosine = schedules.learning_rate("cosine", 1e-3, 1000)
    rising = schedules.learning_rate("warmup_cosine", 1e-3, 1000, 0.1)
    for step in (0, 50, 100, 550, 1000):
        np.testing.assert_allclose(constant(step), 1e-3, rtol=1e-6)
        half = 0.5e-3 * (1 + np.cos(np.pi * step / 1000))
        np.testing.assert_allclose(cosine(step), half, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(rising(50), 0.5e-3, rtol=1e-5)
    np.testing.assert_allclose(rising(100), 1e-3, rtol=1e-5)
    np.testing.assert_allclose(rising(550), 0.5e-3, rtol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_runs_have_a_rate(steps):
    rate = schedules.learning_rate("warmup_cosine", 1e-3, steps, 0.9)
    assert 0 <= float(rate(steps - 1)) <= 1.001e-3


def test_no_share_of_the_steps_is_no_rise():
    found = schedules.learning_rate("warmup_cosine", 0.1, 10, 0.0)
    cosine = schedules.learning_rate("cosine", 0.1, 10)
    assert [float(found(step)) for step in range(11)] == [float(cosine(s)) for s in range(11)]


def test_a_share_of_the_steps_outside_0_and_1_is_named():
    with pytest.raises(ValueError, match=r"schedule_warmup_fraction=1\.0"):
        schedules.learning_rate("warmup_cosine", 1e-3, 10, 1.0)


def test_an_unknown_schedule_is_named():
    with pytest.raises(ValueError, match="schedule='cosin'"):
        schedules.learning_rate("cosin", 1e-3, 10)
