"""Networks over several modalities at once: joint encoders, and features of conditions."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jmvae_jax.models.base import Modality, call_network, fresh
from jmvae_jax.types import Array


class SideBySide(nn.Module):
    """A branch for each modality, their features side by side, and a trunk over them.

    A branch that is None passes the values on; without a trunk the features are what comes out.
    """

    branches: Mapping[str, nn.Module | None]
    trunk: nn.Module | None = None

    def __call__(self, inputs: Mapping[str, Array], train: bool = False) -> Any:
        features = []
        for name, branch in self.branches.items():
            values = inputs[name]
            if branch is not None:
                values = call_network(branch, values, train)
            features.append(values.reshape(values.shape[0], -1))
        together = jnp.concatenate(features, axis=-1)
        return together if self.trunk is None else call_network(self.trunk, together, train)


def joint_body(
    modalities: Mapping[str, Modality], trunk: nn.Module | None, joint_encoder: nn.Module | None
) -> nn.Module:
    """The body of q(z | all modalities): branches under a trunk, or a network over the dictionary.

    Raises:
      ValueError: both are given, or neither.
    """
    if joint_encoder is not None and trunk is None:
        return fresh(joint_encoder)
    if joint_encoder is None and trunk is not None:
        branches = {
            name: None if m.branch is None else fresh(m.branch) for name, m in modalities.items()
        }
        return SideBySide(branches, fresh(trunk))
    raise ValueError("trunk and joint_encoder: give one of them, and not both")
