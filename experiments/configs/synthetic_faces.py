"""The systems of `celeb_a.py` on synthetic faces, sized for two CPU cores.

    python experiments/train.py --config=experiments/configs/synthetic_faces.py:VARIANT \\
        --workdir=DIR

The faces are drawings with CelebA's forty attributes, made by `jmvae_jax.data`: no photographs, no
files, no network. VARIANT is as in `celeb_a.py`: `vae`, `cvae`, `cmma`, `jmvae_zero`, `jmvae_kl`
(the default), `jmvae_masked`, `vae_gan`, `cvae_gan`, `cmma_gan`, `jmvae_gan`, and `,smoke`,
`,latent_dim=64`.

Networks have a quarter of the paper's width (the discriminator an eighth), batches 16 rows: on two
cores the number of steps decides, and a smaller batch makes more of them. Attributes have a
deviation of 0.1 in their Gaussian where the paper has 1: a bit costs 0.7 nats of rate and explains
at most half a nat of a Gaussian of variance 1, so that few epochs would not encode it.

Cost on two CPU cores: three minutes for the five epochs of `jmvae_kl`, six to seven with a
discriminator. `experiments/results/README.md` has what they reach.
"""

from ml_collections import ConfigDict

from experiments.configs import celeb_a, common

VARIANTS = celeb_a.VARIANTS
EPOCHS = 5
SIZES = {"latent_dim": 64, "image_size": 64}


def get_config(variant: str = "jmvae_kl") -> ConfigDict:
    """The configuration of a variant; see the module's docstring."""
    name, smoke, sizes = common.parse_variant(variant, VARIANTS, "jmvae_kl", SIZES)
    config = celeb_a.base_config(name, 1 / 16 if smoke else 1 / 4, sizes)
    config.data.dataset = f"synthetic_faces/{sizes['image_size']}"
    config.data.validation_split = "validation"
    config.modalities.image.likelihood = "normal"
    if "attributes" in config.modalities:
        config.modalities.attributes.likelihood_options = {"scale": 0.1}
    config.train.epochs = EPOCHS
    config.train.batch_size = 16
    config.train.learning_rate = 2e-3
    config.train.schedule = "cosine"
    config.train.log_every = 250
    config.train.steps_per_dispatch = 50
    if "adversary" in config:
        config.adversary.width = config.model.width / 2
        config.adversary.reconstruction_weight = 0.1
        config.adversary.generator_learning_rate = 2e-3
        config.adversary.discriminator_learning_rate = 2e-4
    if smoke:
        celeb_a.shrink(config)
        config.data.dataset += "_small"
    return config.lock()
