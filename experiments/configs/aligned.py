"""A JMVAE whose single encoders are fitted after training, when all else is frozen: `align.py`."""

from collections.abc import Mapping

from ml_collections import ConfigDict

from experiments.configs import common

FITTING = {"schedule": "cosine", "warmup_fraction": 0.0, "clip_norm": 0.0, "average_decay": 0.0}
"""How encoders are fitted, whatever the other run was trained by."""


def get_config(
    trained: ConfigDict,
    step: int,
    posteriors: Mapping[str, str],
    *,
    epochs: int,
    divergence: str = "forward",
    learning_rate: float = 1e-3,
) -> ConfigDict:
    """The configuration of the run that is made from another.

    Args:
      trained: configuration of the other run, which stays as it is.
      step: that it was trained to.
      posteriors: modality -> family of its single encoder; the others keep theirs.
      epochs: passes over the training split.
      divergence: "forward", "reverse" or "jeffreys".
      learning_rate: the highest; it falls to 0.

    Raises:
      ValueError: the other run is no JMVAE that can have single encoders, or lacks a modality.
    """
    config = ConfigDict(trained.to_dict())
    if config.model.get("inference") not in ("kl", "zero"):
        raise ValueError(
            f"workdir: the run is a {config.variant}: expected a JMVAE with single encoders, or of "
            "the kind zero"
        )
    config.model.inference = "kl"
    config.objective = common.objective_config("kl")
    config.objective.alpha = 1.0
    config.objective.alignment = "posthoc"
    config.objective.divergence = divergence
    if "adversary" in config:
        del config.adversary
    for name, family in posteriors.items():
        if name not in config.modalities:
            raise ValueError(f"posteriors: {name!r} is none of {list(config.modalities)}")
        config.modalities[name].posterior = family
    fitting = {"epochs": epochs, "learning_rate": learning_rate, **FITTING}
    config.train.update(fitting)
    # Another run, or another state of it, is another one to begin with: what is as it was above
    # stands here.
    config.source = {
        "variant": trained.variant,
        "step": step,
        "objective": trained.objective.to_dict(),
        "train": {name: trained.train[name] for name in fitting},
        "posteriors": {
            name: trained.modalities[name].get("posterior", "diagonal") for name in posteriors
        },
    }
    if "source" in trained:  # it was made from another itself
        config.source.source = trained.source.to_dict()
    if "adversary" in trained:
        config.source.adversary = trained.adversary.to_dict()
    return config.lock()
