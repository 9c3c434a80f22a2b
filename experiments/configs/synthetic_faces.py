"""The systems of `celeb_a.py` on synthetic faces, sized for two CPU cores.

    python experiments/train.py --config=experiments/configs/synthetic_faces.py:VARIANT \\
        --workdir=DIR

The faces are drawings with CelebA's forty attributes, made by `jmvae_jax.data`: no photographs, no
files, no network. VARIANT is as in `celeb_a.py`: `vae`, `cvae`, `cmma`, `jmvae_zero`, `jmvae_kl`
(the default), `vae_gan`, `cvae_gan`, `cmma_gan`, `jmvae_gan`, and `,smoke`, `,latent_dim=64`.

Networks have an eighth of the paper's width.
"""

from ml_collections import ConfigDict

from experiments.configs import celeb_a, common

VARIANTS = celeb_a.VARIANTS
EPOCHS = 6
SIZES = {"latent_dim": 64, "image_size": 64}


def get_config(variant: str = "jmvae_kl") -> ConfigDict:
    """The configuration of a variant; see the module's docstring."""
    name, smoke, sizes = common.parse_variant(variant, VARIANTS, "jmvae_kl", SIZES)
    config = celeb_a.base_config(name, 1 / 16 if smoke else 1 / 8, sizes)
    config.data.dataset = f"synthetic_faces/{sizes['image_size']}"
    config.data.validation_split = "validation"
    config.modalities.image.likelihood = "normal"
    config.modalities.image.likelihood_options = {"scale": 1.0}
    if "attributes" in config.modalities:
        config.modalities.attributes.likelihood_options = {"scale": 0.2}
    config.train.epochs = EPOCHS
    config.train.learning_rate = 1e-3
    config.train.adam_b1 = 0.9
    if smoke:
        celeb_a.shrink(config)
        config.data.dataset += "_small"
    return config
