"""JMVAE and its rivals on MNIST images and labels: the paper's section 4.1 (arXiv:1611.01891).

    python experiments/train.py --config=experiments/configs/mnist.py:VARIANT --workdir=DIR

VARIANT is `vae`, `cvae`, `cmma`, `jmvae_zero`, `jmvae_kl` (the default), `jmvae_masked` (past the
paper: one mask-conditioned encoder for every part of the modalities), `jmvae_kl_fast` or
`jmvae_masked_fast` (the same networks with a better recipe), or `jmvae_kl_flow` (q(z | label) a
flow, and a recipe for images that show their label), followed by any of

* `,smoke`: networks, data and epochs shrunk to seconds;
* `,latent_dim=2`, `,hidden=256`: values from which others are computed.

Cost: 500 epochs take about 75 minutes on two CPU cores. Expected on the 10,000 test examples
with K = 1000 after 500 epochs: log p(image, label) about -87, log p(image) the same, in nats.
`--config.data.dataset=fashion_mnist` (or `kmnist`) trains the same on those.
`--config.objective.name=elbo_toward_normal` gives CMMA the objective of the JMVAE authors' code.
"""

from ml_collections import ConfigDict

from experiments.configs import common

PAPERS = ("vae", "cvae", "cmma", "jmvae_zero", "jmvae_kl")
SIZES = {"latent_dim": 64, "hidden": 512}

CONDITIONAL = {"cvae": 1, "cmma": 2}
"""Models of the image given the label, and the hidden layers over the label that condition it."""


FAST = {
    "objective.num_samples": 5,
    "train.epochs": 100,
    "train.learning_rate": 2e-3,
    "train.schedule": "warmup_cosine",
    "train.warmup_fraction": 0.2,
    "train.clip_norm": 0.0,
}
"""What the fast variants train otherwise."""

FLOW = FAST | {
    "objective.num_samples": 2,
    "objective.alpha": 0.3,
    "train.learning_rate": 1e-3,
    "train.adam_eps": 1e-8,
    "modalities.label.posterior": "flow:16:mixture:10:diagonal",
}
"""Few draws keep the joint posterior narrow; a flow follows it closer than a Gaussian."""

PAST = {
    "jmvae_masked": {},
    "jmvae_kl_fast": FAST,
    "jmvae_masked_fast": FAST,
    "jmvae_kl_flow": FLOW,
}
"""Variants past the paper -> dotted keys that they change."""

VARIANTS = (*PAPERS, *PAST)


def modalities_config(name: str, hidden: int) -> ConfigDict:
    """Image and label, with the hidden layers of each network that the paper gives them.

    An empty tuple of layers leaves the inputs as they are.
    """
    networks = {
        "encoder": (hidden, hidden),
        "branch": (hidden,),
        "decoder": (hidden, hidden),
        "posterior": "diagonal",  # family of the single encoder, see experiments/models.py
    }
    image = {"shape": (28, 28, 1), "likelihood": "bernoulli", "transform": "binarize"}
    label = {"shape": (10,), "likelihood": "categorical", "transform": "one_hot"}
    if name == "vae":
        return ConfigDict({"image": image | networks})
    if name in CONDITIONAL:
        generated = {"branch": (hidden,), "decoder": (hidden, hidden)}
        given = {"branch": (hidden,), "conditioner": CONDITIONAL[name] * (hidden,)}
        return ConfigDict({"image": image | generated, "label": label | given})
    return ConfigDict({"image": image | networks, "label": label | networks})


def get_config(variant: str = "jmvae_kl") -> ConfigDict:
    """The configuration of a variant; see the module's docstring."""
    name, smoke, sizes = common.parse_variant(variant, VARIANTS, "jmvae_kl", SIZES)
    hidden = 32 if smoke else sizes["hidden"]

    config = ConfigDict()
    config.variant = name
    config.seed = 0

    config.model = ConfigDict()
    config.model.name = name.partition("_")[0]
    config.model.latent_dim = sizes["latent_dim"]
    config.model.activation = "relu"
    if config.model.name == "jmvae":
        config.model.inference = name.split("_")[1]
        config.model.product = "once"
        config.model.posterior = "diagonal"  # of the joint encoder
    if name != "vae":
        config.model.trunk = (hidden,)
    if name in CONDITIONAL:
        config.model.conditions = ("label",)

    config.modalities = modalities_config(name, hidden)

    config.objective = common.objective_config(config.model.get("inference"))

    config.data = common.data_config("mnist", "train", "test[:2000]")
    config.data.missing_rates.update(dict.fromkeys(config.modalities, 0.0))
    config.train = common.train_config()
    config.update_from_flattened_dict(PAST.get(name, {}))
    if smoke:
        config.data.train_split = "train[:1000]"
        config.data.validation_split = "test[:200]"
        config.train.epochs = 2
        config.train.log_every = 5
    return config.lock()
