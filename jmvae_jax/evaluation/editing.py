"""Changing attributes of an image, as in sections 4.2 and 5 of arXiv:1611.01891.

The average image of attributes w is the mean of p(x | z) at the mean of q(z | w). An image x is
edited by what a change of its attributes does to their average image:

(1) `x + average(w') - average(w)`

where w are the attributes that the model infers from x, and w' the same after the change. Values
beyond those of the data, 2 or -2, make the attribute more pronounced.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jmvae_jax import distributions
from jmvae_jax.evaluation.generation import predict
from jmvae_jax.models.base import MultimodalModel
from jmvae_jax.types import Array, Variables


class Edit(NamedTuple):
    """An edited image and what it was made from, `[B, ...]` each, as the model reads images.

    Attributes:
      inferred: mean of p(w | z) at the mean of q(z | x), `[B, A]`.
      before: the average image of the inferred attributes' signs.
      after: the average image of the same with the change.
      result: (1).
    """

    inferred: Array
    before: Array
    after: Array
    result: Array


def signs(inferred: Any) -> Array:
    """-1 where an inferred attribute is negative, else 1."""
    return jnp.where(jnp.asarray(inferred) < 0, -1.0, 1.0)


def average_image(
    model: MultimodalModel, variables: Variables, values: Any, *, image: str, attributes: str
) -> Array:
    """The mean of p(image | z) at the mean of q(z | attributes), `[B, *shape]`.

    Args:
      model: a model and `variables`, its parameters and state.
      values: attributes `[B, A]`; they may lie beyond those of the data.
      image, attributes: names of the modalities.

    Raises:
      ValueError: a name that the model lacks, or a bad batch.
    """
    given = {attributes: jnp.asarray(values, jnp.float32)}
    return predict(model, variables, given, targets=(image,))[image]


def edit(
    model: MultimodalModel,
    variables: Variables,
    images: Any,
    changes: Mapping[int, float],
    *,
    image: str,
    attributes: str,
) -> Edit:
    """Images with some attributes set to other values, (1).

    Args:
      model: a model that infers attributes from images and images from attributes, and
        `variables`, its parameters and state.
      images: `[B, *shape]`, as the model reads them.
      changes: number of an attribute -> its new value: 1 or -1, 2 or -2 for more.
      image, attributes: names of the modalities.

    Raises:
      ValueError: the model does not generate both, the attributes' likelihood knows no negative
        values, no such attribute, or a bad batch.

    Example:
      >>> import jax, jax.numpy as jnp, jmvae_jax as jm
      >>> from jmvae_jax.evaluation import edit
      >>> body = jm.MLP((16,))
      >>> model = jm.JMVAE(latent_dim=2, trunk=body, modalities={
      ...     "image": jm.Modality((8, 8, 3), "normal", body, encoder=body),
      ...     "attributes": jm.Modality((5,), "normal_tanh", body, encoder=body)})
      >>> batch = {"image": jnp.ones((1, 8, 8, 3)), "attributes": jnp.ones((1, 5))}
      >>> variables = model.init(jax.random.key(0), batch)
      >>> smiling = edit(
      ...     model, variables, batch["image"], {3: 2.0}, image="image", attributes="attributes")
      >>> smiling.result.shape
      (1, 8, 8, 3)
    """
    lacking = [name for name in (image, attributes) if name not in model.generated]
    if lacking:
        raise ValueError(
            f"a {type(model).__name__} that generates {list(model.generated)} cannot edit: it "
            f"does not generate {lacking}"
        )
    family = distributions.likelihood_family(model.modalities[attributes].likelihood)
    if family in (distributions.bernoulli, distributions.categorical):
        raise ValueError(
            f"attributes={attributes!r} has the likelihood {family.__name__}, whose means are "
            "never negative: expected one of values in {-1, 1}, normal_tanh say"
        )
    count = model.modalities[attributes].shape[0]
    numbers = [n for n in changes if isinstance(n, int | np.integer) and not isinstance(n, bool)]
    unknown = [n for n in changes if n not in numbers or not 0 <= n < count]
    if unknown:
        raise ValueError(f"changes names attributes {unknown}: the model has 0 to {count - 1}")
    images = jnp.asarray(images)
    inferred = predict(model, variables, {image: images}, targets=(attributes,))[attributes]
    base = signs(inferred)
    changed = base
    for number, value in changes.items():
        changed = changed.at[:, number].set(value)
    names = {"image": image, "attributes": attributes}
    before, after = (average_image(model, variables, w, **names) for w in (base, changed))
    return Edit(inferred, before, after, images + after - before)
