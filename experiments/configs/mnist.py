"""JMVAE and its rivals on MNIST images and labels: the paper's section 4.1 (arXiv:1611.01891).

    python experiments/train.py --config=experiments/configs/mnist.py:VARIANT --workdir=DIR

VARIANT is `vae`, `cvae`, `cmma`, `jmvae_zero` or `jmvae_kl` (the default), followed by any of

* `,smoke`: networks, data and epochs shrunk to seconds;
* `,latent_dim=2`, `,hidden=256`: values from which others are computed.

Cost: 500 epochs take about 75 minutes on two CPU cores. Expected on the 10,000 test examples
with K = 1000 after 500 epochs: log p(image, label) about -87, log p(image) the same, in nats.
`--config.data.dataset=fashion_mnist` (or `kmnist`) trains the same on those.
`--config.objective.name=elbo_toward_normal` gives CMMA the objective of the JMVAE authors' code.
"""

from ml_collections import ConfigDict, config_dict

VARIANTS = ("vae", "cvae", "cmma", "jmvae_zero", "jmvae_kl")

CONDITIONAL = {"cvae": 1, "cmma": 2}
"""Models of the image given the label, and the hidden layers over the label that condition it."""


def parse_variant(variant: str) -> tuple[str, bool, dict[str, int]]:
    """`"jmvae_zero,smoke,latent_dim=2"` -> name, whether it is shrunk, and sizes.

    Raises:
      ValueError: a word or a size that is not known, with those that are.
    """
    sizes = {"latent_dim": 64, "hidden": 512}
    name, smoke = "jmvae_kl", False
    for word in filter(None, variant.split(",")):
        size, _, value = word.partition("=")
        if word in VARIANTS:
            name = word
        elif word == "smoke":
            smoke = True
        elif size in sizes and value.isdigit() and int(value) > 0:
            sizes[size] = int(value)
        else:
            raise ValueError(
                f"variant {word!r} is not known: expected one of {list(VARIANTS)}, 'smoke', or "
                f"SIZE=NUMBER with SIZE one of {list(sizes)}, separated by commas"
            )
    return name, smoke, sizes


def modalities_config(name: str, hidden: int) -> ConfigDict:
    """Image and label, with the hidden layers of each network that the paper gives them.

    An empty tuple of layers leaves the inputs as they are.
    """
    networks = {"encoder": (hidden, hidden), "branch": (hidden,), "decoder": (hidden, hidden)}
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
    name, smoke, sizes = parse_variant(variant)
    hidden = 32 if smoke else sizes["hidden"]

    config = ConfigDict()
    config.variant = name
    config.seed = 0

    config.model = ConfigDict()
    config.model.name = name.partition("_")[0]
    config.model.latent_dim = sizes["latent_dim"]
    config.model.activation = "relu"
    if config.model.name == "jmvae":
        config.model.inference = name.removeprefix("jmvae_")
        config.model.product = "once"
    if name != "vae":
        config.model.trunk = (hidden,)
    if name in CONDITIONAL:
        config.model.conditions = ("label",)

    config.modalities = modalities_config(name, hidden)

    config.objective = ConfigDict()
    config.objective.name = "jmvae_kl" if name == "jmvae_kl" else "elbo"
    if name == "jmvae_kl":
        config.objective.alpha = 0.1

    config.data = ConfigDict()
    config.data.dataset = "mnist"
    config.data.train_split = "train[:1000]" if smoke else "train"
    config.data.validation_split = "test[:200]" if smoke else "test[:2000]"
    config.data.data_dir = config_dict.placeholder(str)
    config.data.manual_dir = config_dict.placeholder(str)
    config.data.download = False

    config.train = train_config(smoke)
    return config


def train_config(smoke: bool) -> ConfigDict:
    """The paper's recipe, or the same in seconds."""
    train = ConfigDict()
    train.epochs = 2 if smoke else 500
    train.batch_size = 100
    train.learning_rate = 1e-3
    train.schedule = "constant"  # or cosine, warmup_cosine
    train.schedule_warmup_fraction = 0.05  # of the steps, for warmup_cosine
    train.adam_b1 = 0.9
    train.adam_b2 = 0.999
    train.adam_eps = 1e-4
    train.clip_norm = 5.0  # of the whole gradient; 0: not limited
    train.clip_value = 1.0  # of each element, after the norm; 0: not limited
    train.warmup_fraction = 0.4  # share of the epochs in which beta rises from 0 to 1
    train.average_decay = 0.0  # of the weights' exponential average; 0: none
    train.strategy = "jit"  # or pmap
    train.steps_per_dispatch = 20  # that the device runs without a word from the host
    train.log_every = 5 if smoke else 100  # steps
    train.validate_every = 1  # epochs
    train.checkpoint_every = 1  # epochs
    train.keep_checkpoints = 3
    return train
