"""Every example in a docstring runs."""

import doctest
import importlib
import pkgutil

import pytest

import jmvae_jax

NAMES = sorted(m.name for m in pkgutil.walk_packages(jmvae_jax.__path__, "jmvae_jax."))


@pytest.mark.parametrize("name", NAMES)
def test_examples_run(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    examples = [
        example
        for name in NAMES
        for test in finder.find(importlib.import_module(name))
        for example in test.examples
    ]
    assert len(examples) > 30
