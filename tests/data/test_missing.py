"""Modalities leave rows completely at random, and no row loses everything."""

import itertools
import math

import numpy as np
import pytest

from jmvae_jax.data import remove_at_random

ROWS = 60_000
RATES = [
    {"image": 0.5, "label": 0.5},
    {"image": 0.9, "label": 0.2},
    {"image": 0.3, "label": 0.0},
    {"image": 0.7, "label": 0.6, "sound": 0.4},
    {"image": 0.99, "label": 0.99, "sound": 0.99},
    {"image": 0.5, "label": 0.5, "sound": 0.0},
]


def ids(rates):
    return "-".join(map(str, rates.values()))


@pytest.mark.parametrize("rates", RATES, ids=ids)
def test_every_combination_has_the_share_of_independent_removals_that_leave_something(rates):
    kept = remove_at_random(rates, ROWS, seed=0)
    anything = 1 - math.prod(rates.values())
    for pattern in itertools.product([False, True], repeat=len(rates)):
        here = np.all([kept[n] == there for n, there in zip(rates, pattern, strict=True)], axis=0)
        factors = [1 - r if t else r for r, t in zip(rates.values(), pattern, strict=True)]
        expected = math.prod(factors) / anything if any(pattern) else 0.0
        tolerance = 4 * math.sqrt(expected * (1 - expected) / ROWS)  # standard deviations
        assert abs(here.mean() - expected) <= tolerance


def test_at_a_half_each_a_third_is_complete_and_a_third_has_each_alone():
    kept = remove_at_random({"image": 0.5, "label": 0.5}, ROWS, seed=1)
    image, label = kept["image"], kept["label"]
    shares = [(image & label).mean(), (image & ~label).mean(), (~image & label).mean()]
    np.testing.assert_allclose(shares, 1 / 3, atol=0.01)


def test_rows_and_seeds_do_not_know_of_each_other():
    rates = {"image": 0.5, "label": 0.5}
    first, second = (remove_at_random(rates, ROWS, seed)["image"] for seed in (0, 1))
    share = 2 / 3
    both = [(first & second).mean(), (first[1:] & first[:-1]).mean()]
    np.testing.assert_allclose(both, share**2, atol=0.01)


def test_the_same_arguments_give_the_same_rows_today_and_tomorrow():
    rates = {"image": 0.5, "label": 0.5}
    kept, again = (remove_at_random(rates, 12, seed=3) for _ in range(2))
    for name in rates:
        assert kept[name].dtype == bool
        assert kept[name].shape == (12,)
        np.testing.assert_array_equal(kept[name], again[name])
    # Runs go on with other versions of NumPy: these may not change.
    assert "".join(map(str, kept["image"].astype(int))) == "001110110111"
    assert "".join(map(str, kept["label"].astype(int))) == "111011011010"


def test_the_order_of_the_names_does_not_matter():
    rates = {"image": 0.6, "label": 0.3, "sound": 0.5}
    turned = dict(reversed(rates.items()))
    kept, other = remove_at_random(rates, 1000, seed=0), remove_at_random(turned, 1000, seed=0)
    assert list(kept) == list(rates)
    assert list(other) == list(turned)
    for name in rates:
        np.testing.assert_array_equal(kept[name], other[name])


def test_modalities_of_equal_rates_lose_other_rows():
    kept = remove_at_random({"image": 0.5, "label": 0.5, "sound": 0.0}, 1000, seed=0)
    assert 0.4 < (kept["image"] == kept["label"]).mean() < 0.6


def test_a_row_is_the_same_however_many_follow():
    few, many = (remove_at_random({"image": 0.5, "label": 0.4}, n, seed=0) for n in (100, 1000))
    for name in few:
        np.testing.assert_array_equal(few[name], many[name][:100])


@pytest.mark.parametrize("rates", [{"image": 0.0, "label": 0.0}, {"image": 0.9}])
def test_what_has_no_rate_or_no_other_beside_it_stays(rates):
    assert all(kept.all() for kept in remove_at_random(rates, 1000, seed=0).values())


def test_rates_next_to_one_leave_one_modality_to_every_row():
    rates = dict.fromkeys(("image", "label"), math.nextafter(1, 0))
    kept = remove_at_random(rates, 1000, seed=0)
    np.testing.assert_array_equal(kept["image"], ~kept["label"])
    assert 0.4 < kept["image"].mean() < 0.6


@pytest.mark.parametrize("rate", [1.0, -0.1, 2, math.nan])
def test_a_rate_that_is_no_probability_below_one_is_named(rate):
    with pytest.raises(ValueError, match=rf"rates\['label'\]={rate}: expected \[0, 1\)"):
        remove_at_random({"image": 0.5, "label": rate}, 10, seed=0)


def test_no_rows_and_a_negative_seed_are_named():
    with pytest.raises(ValueError, match="num_rows=0: expected at least 1"):
        remove_at_random({"image": 0.5}, 0, seed=0)
    with pytest.raises(ValueError, match="seed=-1: expected at least 0"):
        remove_at_random({"image": 0.5}, 10, seed=-1)
