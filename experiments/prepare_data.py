"""Prepares a data set from files that you have, without a network.

    python experiments/prepare_data.py --dataset=fashion_mnist --manual_dir=DIR [--data_dir=DIR]

What is prepared already is left as it is. `--download` allows a download instead.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from experiments import cli
from jmvae_jax import data

_DATASET = flags.DEFINE_string(
    "dataset", None, "Name: mnist, fashion_mnist, kmnist.", required=True
)
_MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "Folder with the data set's files.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of prepared data; TFDS's default.")
_DOWNLOAD = flags.DEFINE_bool("download", False, "Fetch missing files from the network.")


def main() -> None:
    builder = data.prepare(
        _DATASET.value,
        data_dir=_DATA_DIR.value,
        manual_dir=_MANUAL_DIR.value,
        download=_DOWNLOAD.value,
    )
    sizes = ", ".join(f"{name} {s.num_examples:,}" for name, s in builder.info.splits.items())
    print(f"{_DATASET.value} is prepared in {builder.data_path} ({sizes})")


if __name__ == "__main__":
    cli.launch(main)
