"""Networks over several modalities at once: joint encoders, and features of conditions."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jmvae_jax.models.base import call_network, fresh
from jmvae_jax.models.modality import Modality
from jmvae_jax.types import Array


class SideBySide(nn.Module):
    """A branch for each modality, their features side by side, and a trunk over them.

    A branch that is None passes the values on; without a trunk the features are what comes out.
    """

    branches: Mapping[str, nn.Module | None]
    trunk: nn.Module | None = None

    def __call__(self, inputs: Mapping[str, Array], train: bool = False) -> Any:
        together = jnp.concatenate(_features(self.branches, inputs, train), axis=-1)
        return together if self.trunk is None else call_network(self.trunk, together, train)


class MaskConditioned(nn.Module):
    """Of values and the bits that say which of them a row has, `(x_S, S)`: branches and a trunk."""

    branches: Mapping[str, nn.Module | None]
    trunk: nn.Module

    def __call__(
        self, inputs: tuple[Mapping[str, Array], Mapping[str, Array]], train: bool = False
    ) -> Any:
        values, present = inputs
        features = _features(self.branches, values, train)
        bits = jnp.stack([present[name] for name in self.branches], axis=-1)
        together = jnp.concatenate([*features, bits.astype(features[0].dtype)], axis=-1)
        return call_network(self.trunk, together, train)


def _features(
    branches: Mapping[str, nn.Module | None], inputs: Mapping[str, Array], train: bool
) -> list[Array]:
    """`[N, F]` of each modality."""
    found = []
    for name, branch in branches.items():
        values = inputs[name] if branch is None else call_network(branch, inputs[name], train)
        found.append(values.reshape(values.shape[0], -1))
    return found


def joint_body(
    modalities: Mapping[str, Modality],
    trunk: nn.Module | None,
    joint_encoder: nn.Module | None,
    masked: bool = False,
) -> nn.Module:
    """The body of q(z | all modalities): branches under a trunk, or a network over the dictionary.

    With `masked` it reads the mask's bits as well, see `MaskConditioned`.

    Raises:
      ValueError: both are given, or neither, or `masked` without a trunk.
    """
    if masked and trunk is None:
        raise ValueError("inference='masked' needs a trunk, which reads the bits of the mask")
    if joint_encoder is not None and trunk is None:
        return fresh(joint_encoder)
    if joint_encoder is None and trunk is not None:
        branches = {
            name: None if m.branch is None else fresh(m.branch) for name, m in modalities.items()
        }
        return (MaskConditioned if masked else SideBySide)(branches, fresh(trunk))
    raise ValueError("trunk and joint_encoder: give one of them, and not both")
