"""JMVAE-kl: the single encoders are drawn to the joint posterior.

(2) `L_JMkl(alpha) = L_JM - alpha sum_m KL(q(z | x_1, ..., x_M) || q(z | x_m))`

(equation of section 2.3 of arXiv:1611.01891, its sum over M modalities). The gradient reaches
both sides of each divergence. The warm-up's `beta` is on the rate alone.

Past the paper: with `alignment="detached"` the joint posterior is a constant of the divergence, so
that the joint bound is what it is at `alpha=0` and the single encoders are fitted to it (except in
a mask-conditioned model, where the divergence moves the one encoder that both share); with
"posthoc" nothing but them is trained, for a model that is already; and the divergence may be the
reverse one, `KL(q(z | x_m) || q(z | x_1, ..., x_M))`, or the sum of both (Jeffreys').

A mask-conditioned model, q(z | x_S, S), has one divergence instead of M, to a random part S of what
a row has, O, neither empty nor all of it:

(3) `L(x_O) - alpha E_S KL(q(z | x_O, O) || q(z | x_S, S))`

Rows that have a single modality have no such part; their term is 0.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jmvae_jax import distributions
from jmvae_jax.distributions import Distribution
from jmvae_jax.models.base import MultimodalModel
from jmvae_jax.objectives.elbo import Bound, posterior_bound, present_only
from jmvae_jax.types import Array, Batch, Key, Mask, Variables

ALIGNMENTS = ("joint", "detached", "posthoc")
DIVERGENCES = ("forward", "reverse", "jeffreys")


def _check_choice(argument: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{argument}={value!r}: expected one of {list(known)}")


def kl_alignment(
    joint: Distribution,
    singles: Mapping[str, Distribution],
    z: Array | None = None,
    mask: Mask | None = None,
    *,
    divergence: str = "forward",
    draws: Mapping[str, Array] | None = None,
) -> dict[str, Array]:
    """A divergence between the joint and each single encoder, from bare distributions.

    Args:
      joint: q(z | all), batch shape `[B]`.
      singles: modality -> q(z | x_m), batch shape `[B]`.
      z: a draw from the joint, `[B, D]`; needed only where `KL(joint || single)` is asked for and
        has no closed form.
      mask: modality -> `bool[B]`; 0 where the modality is absent.
      divergence: "forward", `KL(joint || single)`; "reverse", `KL(single || joint)`; or
        "jeffreys", their sum.
      draws: modality -> `distributions.component_draws` of its single encoder, `[B, D]` or, of a
        mixture, `[K, B, D]`; needed only where `KL(single || joint)` is asked for and has no closed
        form.

    Returns:
      modality -> `[B]`, in nats.

    Raises:
      ValueError: an unknown divergence, or one without closed form and without its draw.

    Example:
      >>> import jax.numpy as jnp, numpyro.distributions as dist, jmvae_jax as jm
      >>> q = dist.Normal(jnp.zeros((3, 2)), 1.0).to_event(1)
      >>> print(jm.objectives.kl_alignment(q, {"image": q})["image"])
      [0. 0. 0.]
    """
    _check_choice("divergence", divergence, DIVERGENCES)
    terms = {}
    for name, single in singles.items():
        directions = []
        if divergence != "reverse":
            directions.append(distributions.kl_divergence(joint, single, z))
        if divergence != "forward":
            draw = (draws or {}).get(name)
            directions.append(distributions.kl_divergence(single, joint, draw))
        terms[name] = sum(directions[1:], directions[0])
    return present_only(terms, mask)


def jmvae_kl(
    model: MultimodalModel,
    variables: Variables,
    key: Key,
    batch: Batch,
    *,
    alpha: float | Array = 0.1,
    beta: float | Array = 1.0,
    alignment: str = "joint",
    divergence: str = "forward",
    num_samples: int = 1,
    mask: Mask | None = None,
    train: bool = False,
    mutable: Any = False,
) -> Any:
    """Bound (2) of a model with single encoders, or (3).

    At `alpha=0` its loss is that of `elbo`; of "posthoc" it is 0.

    Args:
      alpha: weight of the alignment; 0.01, 0.1 and 1 in the paper.
      alignment: "joint", where both sides of a divergence learn (the paper); "detached", where
        the joint posterior is a constant of it; or "posthoc", where the loss is the alignment
        alone, of a joint posterior that is a constant, and its networks do not train either.
      divergence: "forward" (the paper), "reverse" or "jeffreys", see `kl_alignment`.
      model, variables, key, batch, beta, num_samples, mask, train, mutable: as in `elbo`.

    Returns:
      A `Bound`; with `mutable`, a pair of it and the updated collections.

    Raises:
      ValueError: as `elbo`; an unknown `alignment` or `divergence`; the model has no single
        encoders; or "posthoc" for a mask-conditioned model, which has one network for all.
    """
    _check_choice("alignment", alignment, ALIGNMENTS)
    posthoc = alignment == "posthoc"

    def aligned(module: MultimodalModel) -> Bound:
        joint_train = train and not posthoc
        bound, joint, z = posterior_bound(module, key, batch, beta, mask, joint_train, num_samples)
        if alignment != "joint":
            joint, z = jax.lax.stop_gradient((joint, z))
        keys = distributions.example_keys(key, jnp.arange(len(z)))
        partial, there = module.partial_posteriors(batch, keys, mask, train)
        if not partial:
            raise ValueError(
                "jmvae_kl aligns encoders of a part of the modalities and the model has none: use "
                "a JMVAE with inference='kl' or 'masked', or the objective elbo"
            )
        if posthoc and not module.single_parameters:
            raise ValueError(
                "alignment='posthoc' leaves the joint encoder as it is, and a mask-conditioned "
                "model has no other: use 'joint' or 'detached'"
            )
        draws = _draws(partial, keys) if divergence != "forward" else None
        terms = kl_alignment(joint, partial, z, there, divergence=divergence, draws=draws)
        loss = alpha * sum(terms.values())
        return bound.replace(loss=loss if posthoc else bound.loss + loss, alignment=terms)

    return model.apply(variables, method=aligned, mutable=mutable)


def _draws(partial: Mapping[str, Distribution], keys: Key) -> dict[str, Array]:
    """A draw from each encoder, with noise of its own."""
    fold = jax.vmap(jax.random.fold_in, (0, None))
    return {
        name: distributions.component_draws(
            q, fold(keys, distributions.name_number(f"z of {name}"))
        )
        for name, q in partial.items()
    }
