"""JMVAE, JMVAE-GAN and their rivals on CelebA: the paper's section 4.2 (arXiv:1611.01891).

    python experiments/train.py --config=experiments/configs/celeb_a.py:VARIANT --workdir=DIR \\
        --config.data.manual_dir=FOLDER

FOLDER holds CelebA as it is distributed, see `experiments/prepare_data.py`. VARIANT is `vae`,
`cvae`, `cmma`, `jmvae_zero` or `jmvae_kl` (the default), or `vae_gan`, `cvae_gan`, `cmma_gan`,
`jmvae_gan`, or `jmvae_masked` (past the paper: one mask-conditioned encoder), followed by any of

* `,smoke`: networks, data and epochs shrunk to seconds;
* `,image_size=128`, `,latent_dim=64`: sizes from which others are computed.

Pixels are standardised; p(x | z) is a Gaussian of variance 1 whose log-density is the mean over
the three channels, as in the authors' code (`--config.modalities.image.likelihood=normal`: the
sum). Attributes are in {-1, 1} under a Gaussian of variance 1 around a tanh.

Cost, an estimate: 100 epochs of 162,770 images at width 1. By the sizes of the products a step of
JMVAE-kl takes 1.6 GFLOP an image, of JMVAE-GAN 5.4: 2.7e16 and 8.8e16 FLOP in all, half an hour and
an hour and a half on an accelerator that keeps up 20 TFLOP/s in float32, days and weeks on two CPU
cores (`synthetic_faces.py` is for those). The paper's table 2 has log p(x) = -4141 for JMVAE-GAN,
in nats by that convention.

Other images with attributes: `--config.data.dataset=image_attributes/64
--config.data.manual_dir=FOLDER "--config.modalities.attributes.shape=(12,)"`.
"""

from typing import Any

from ml_collections import ConfigDict

from experiments.configs import common

PLAIN = ("vae", "cvae", "cmma", "jmvae_zero", "jmvae_kl", "jmvae_masked")
ADVERSARIAL = {"vae_gan": "vae", "cvae_gan": "cvae", "cmma_gan": "cmma", "jmvae_gan": "jmvae_kl"}
VARIANTS = (*PLAIN, *ADVERSARIAL)
CONDITIONAL = ("cvae", "cmma")
SIZES = {"latent_dim": 128, "image_size": 64}


def scaled(width: float, *layers: int) -> tuple[int, ...]:
    """Hidden layers of the paper's sizes at a width."""
    return tuple(max(1, round(width * size)) for size in layers)


def modalities_config(plain: str, width: float, image_size: int) -> ConfigDict:
    """Image and attributes, with the networks that the paper gives them."""
    image: dict[str, Any] = {
        "shape": (image_size, image_size, 3),
        "likelihood": "normal_channel_mean",
        "transform": "standardize",
    }
    attributes: dict[str, Any] = {
        "shape": (40,),
        "likelihood": "normal_tanh",
        "transform": "as_floats",
    }
    words = scaled(width, 512, 512)
    if plain == "vae":
        return ConfigDict({"image": image | {"encoder": "conv", "decoder": "conv"}})
    shared = {"posterior": "diagonal"}  # family of the single encoder, see experiments/models.py
    if plain in CONDITIONAL:
        image |= {"branch": "conv", "decoder": "conv"}
        attributes |= {"branch": words, "conditioner": words}
    else:
        image |= shared | {"encoder": "conv", "branch": "conv", "decoder": "conv"}
        attributes |= shared | {
            "encoder": words,
            "branch": words,
            "decoder": scaled(width, 4096, 512),
        }
    return ConfigDict({"image": image, "attributes": attributes})


def model_config(plain: str, width: float, latent_dim: int) -> ConfigDict:
    """Which model, of which size."""
    model = ConfigDict()
    model.name = plain.partition("_")[0]
    model.latent_dim = latent_dim
    model.activation = "relu"
    model.norm = "batch"  # or group
    model.width = width  # factor on the convolutions' channels and on `hidden`
    model.hidden = 1024
    if model.name == "jmvae":
        model.inference = plain.removeprefix("jmvae_")
        model.product = "once"
        model.posterior = "diagonal"  # of the joint encoder
    if plain != "vae":
        model.trunk = scaled(width, 1024)
    if plain in CONDITIONAL:
        model.conditions = ("attributes",)
    return model


def adversary_config(plain: str, width: float, learning_rate: float) -> ConfigDict:
    """The discriminator beside the model, and how the generator is trained against it."""
    adversary = ConfigDict()
    adversary.image = "image"
    adversary.conditions = ("attributes",) if plain == "cvae" else ()
    adversary.width = width  # of the discriminator
    adversary.latent = "prior"  # of the fake draws; or uniform, as in the authors' code
    adversary.reconstruction_weight = 1.0
    adversary.generator_learning_rate = learning_rate
    adversary.discriminator_learning_rate = learning_rate
    return adversary


def base_config(name: str, width: float, sizes: dict[str, int]) -> ConfigDict:
    """A variant at a width; data and training are the paper's."""
    plain = ADVERSARIAL.get(name, name)
    config = ConfigDict()
    config.variant = name
    config.seed = 0
    config.model = model_config(plain, width, sizes["latent_dim"])
    config.modalities = modalities_config(plain, width, sizes["image_size"])
    config.objective = common.objective_config(config.model.get("inference"))
    config.data = common.data_config(
        f"celeb_a_aligned/{sizes['image_size']}", "train", "validation[:10%]"
    )
    config.data.missing_rates.update(dict.fromkeys(config.modalities, 0.0))
    config.train = common.train_config()
    config.train.epochs = 100
    config.train.learning_rate = 1e-4
    config.train.adam_b1 = 0.5
    config.train.adam_eps = 1e-8
    config.train.clip_norm = 0.0
    config.train.clip_value = 0.0
    config.train.warmup_fraction = 0.2
    if name in ADVERSARIAL:
        config.adversary = adversary_config(plain, width, config.train.learning_rate)
    return config


def get_config(variant: str = "jmvae_kl") -> ConfigDict:
    """The configuration of a variant; see the module's docstring."""
    name, smoke, sizes = common.parse_variant(variant, VARIANTS, "jmvae_kl", SIZES)
    config = base_config(name, 1 / 16 if smoke else 1.0, sizes)
    if smoke:
        shrink(config)
    return config.lock()


def shrink(config: ConfigDict) -> None:
    """Two epochs of a hundred rows."""
    config.data.train_split = "train[:100]"
    config.data.validation_split = "validation[:10]"
    config.train.epochs = 2
    config.train.batch_size = 25
    config.train.log_every = 2
