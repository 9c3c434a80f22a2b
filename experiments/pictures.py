"""Pictures of a model: what it makes of test examples, and what it draws from a part of them."""

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jmvae_jax as jm
from jmvae_jax import evaluation
from jmvae_jax.plotting import Grid

Showing = Mapping[str, Callable[[Any], Any]]
"""Modality -> function from what a model reads and draws to pixels in [0, 1]; others are pixels."""


def pixels(showing: Showing, name: str, values: Any) -> np.ndarray:
    """Values of an image modality as pixels in [0, 1]."""
    return np.asarray(showing[name](values) if name in showing else values)


def image_modalities(model: jm.MultimodalModel) -> list[str]:
    """Generated modalities that can be shown: `[H, W, 1 or 3]`."""
    return [
        name
        for name in model.generated
        if len(shape := model.modalities[name].shape) == 3 and shape[-1] in (1, 3)
    ]


def is_one_label(model: jm.MultimodalModel, given: Sequence[str]) -> bool:
    """Whether one label is given and nothing else, so that its classes are the conditions."""
    return len(given) == 1 and model.modalities[given[0]].is_label


def reconstructions(
    model: jm.MultimodalModel,
    variables: Any,
    batch: Mapping[str, Any],
    target: str,
    showing: Showing = types.MappingProxyType({}),
) -> Grid:
    """Examples above, and below the mean of p(target | z) at the posterior's mean."""
    predicted = jm.predict(model, variables, batch, targets=(target,))[target]
    images = [pixels(showing, target, values) for values in (batch[target], predicted)]
    return Grid(np.stack(images), ("example", "model"))


def drawn(
    model: jm.MultimodalModel,
    variables: Any,
    key: Any,
    batch: Mapping[str, Any],
    given: Sequence[str],
    target: str,
    num_samples: int,
    title: str = "",
    showing: Showing = types.MappingProxyType({}),
    **options: Any,
) -> Grid:
    """Means of p(target | z) at draws of z: one row for each thing that is given.

    Given one label: a row a class. Given anything else: a row an example of `batch`, beginning
    with what is given where that can be shown. Given nothing: rows of draws from the prior.
    `options` are those of `generate`.
    """
    if not given:
        count = num_samples * num_samples
        images = jm.generate(
            model, variables, key, {}, targets=(target,), num_samples=count, **options
        )[target]
        square = pixels(showing, target, images).reshape(
            num_samples, num_samples, *images.shape[1:]
        )
        return Grid(square, ("",) * num_samples, title=title)
    if is_one_label(model, given):
        classes = model.modalities[given[0]].shape[0]
        conditions = {given[0]: jnp.eye(classes)}
        names = [str(number) for number in range(classes)]
    else:
        conditions = {name: batch[name] for name in given}
        names = [""] * len(batch[given[0]])
    images = jm.generate(
        model, variables, key, conditions, targets=(target,), num_samples=num_samples, **options
    )[target]
    columns = [pixels(showing, target, images).swapaxes(0, 1)]
    shape = model.modalities[target].shape
    shown = [
        pixels(showing, n, conditions[n])[:, None]
        for n in given
        if model.modalities[n].shape == shape
    ]
    row_label = f"given {' and '.join(given)}"
    return Grid(np.concatenate(shown + columns, 1), names, title=title, row_label=row_label)


def interpolations(
    model: jm.MultimodalModel,
    variables: Any,
    batch: Mapping[str, Any],
    target: str,
    num_steps: int,
    title: str = "",
    showing: Showing = types.MappingProxyType({}),
) -> Grid:
    """From each even row of `batch` to the odd row after it: the line between posterior means.

    The first and the last column are the examples themselves.
    """
    first, second = ({name: v[start::2] for name, v in batch.items()} for start in (0, 1))
    images = evaluation.interpolate(
        model, variables, first, second, targets=(target,), num_steps=num_steps
    )[target]
    ends = [pixels(showing, target, end[target])[:, None] for end in (first, second)]
    between = pixels(showing, target, images).swapaxes(0, 1)
    row = np.concatenate([ends[0], between, ends[1]], axis=1)
    names = ("example", *(f"{share:.2g}" for share in np.linspace(0, 1, num_steps)), "example")
    return Grid(row, ("",) * len(row), names, title=title, column_label="share of the way")


def validation_grids(
    model: jm.MultimodalModel,
    variables: Any,
    batch: Mapping[str, Any],
    showing: Showing = types.MappingProxyType({}),
) -> dict[str, np.ndarray]:
    """Name -> images for TensorBoard: reconstructions, images from each label, from the prior."""
    grids = {}
    for target in image_modalities(model):
        rows = reconstructions(model, variables, batch, target, showing)
        grids[f"reconstruction/{target}"] = rows.images
        given: list[tuple[str, ...]] = [] if model.conditions else [()]
        for name in model.modalities:
            if is_one_label(model, (name,)) and model.conditions in ((), (name,)):
                given.append((name,))
        for names in given:
            key = jax.random.key(0)
            grid = drawn(model, variables, key, batch, names, target, 8, showing=showing)
            grids[f"{'_'.join(names) or 'prior'}_to_{target}"] = grid.images
    return grids
