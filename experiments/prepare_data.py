"""Prepares a data set from files that you have, without a network.

    python experiments/prepare_data.py --dataset=fashion_mnist --manual_dir=DIR [--data_dir=DIR]
    python experiments/prepare_data.py --dataset=celeb_a_aligned/64 --manual_dir=DIR
    python experiments/prepare_data.py --dataset=image_attributes/64 --manual_dir=DIR

What is prepared already is left as it is. `--download` allows a download instead (of the MNIST
family: nobody serves CelebA to programs). An image that cannot be used ends the preparation;
`--skip_bad_images` leaves such images out and says which.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from experiments import cli
from jmvae_jax import data

_SHOWN = 10  # bad images that are named

_DATASET = flags.DEFINE_string(
    "dataset",
    None,
    "Name: mnist, fashion_mnist, kmnist, celeb_a_aligned[/SIZE], image_attributes[/SIZE], "
    "synthetic_faces[/CONFIG].",
    required=True,
)
_MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "Folder with the data set's files.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of prepared data; TFDS's default.")
_DOWNLOAD = flags.DEFINE_bool("download", False, "Fetch missing files from the network.")
_SKIP_BAD_IMAGES = flags.DEFINE_bool(
    "skip_bad_images", False, "Leave out images that cannot be used."
)


def main() -> None:
    builder = data.prepare(
        _DATASET.value,
        data_dir=_DATA_DIR.value,
        manual_dir=_MANUAL_DIR.value,
        download=_DOWNLOAD.value,
        skip_bad_images=_SKIP_BAD_IMAGES.value,
    )
    sizes = ", ".join(f"{name} {s.num_examples:,}" for name, s in builder.info.splits.items())
    config = builder.builder_config
    name = builder.name if config is None else f"{builder.name}/{config.name}"
    print(f"{name} is prepared in {builder.data_path} ({sizes})")
    skipped = (builder.info.metadata or {}).get("skipped_images", {})
    if skipped:
        few = "; ".join(f"{file} {why}" for file, why in list(skipped.items())[:_SHOWN])
        print(f"left out, because they cannot be used: {len(skipped)} ({few})")


if __name__ == "__main__":
    cli.launch(main)
