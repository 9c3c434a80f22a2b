"""Grids of parameters: a few stand for all in `make test`, `make test-all` runs every one."""

import pytest


def some_of(values, *chosen):
    """The values, those that are not chosen marked as slow.

    Raises:
      ValueError: a chosen one is none of the values.
    """
    values = list(values)
    if missing := [value for value in chosen if value not in values]:
        raise ValueError(f"chosen {missing}: expected some of {values}")
    return [v if v in chosen else pytest.param(v, marks=pytest.mark.slow) for v in values]
