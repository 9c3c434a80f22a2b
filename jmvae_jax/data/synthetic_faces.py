"""The data set of drawn faces, as a TFDS builder that needs no files and no TensorFlow.

CelebA may not be passed on, so this set stands in for it wherever nothing is to be fetched. Its
pictures are synthetic drawings, no photographs; `faces` says how they are drawn.

One process draws: it is faster than threads, which Pillow's drawing keeps waiting for each other,
and worker processes would import JAX first and need a script that guards its main module. Some
24,000 faces take less than half a minute.
"""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from jmvae_jax.data.attribute_images import features
from jmvae_jax.data.attribute_sources import SPLITS
from jmvae_jax.data.faces import ATTRIBUTES, VISIBLE_ATTRIBUTES, draw_faces, sample_attributes

_DESCRIPTION = """\
Synthetic faces: cartoon portraits drawn by a program, no photographs, and of no living person. Each
has CelebA's 40 attributes; those listed as visible in the metadata are drawn where one would look
for them. Pose, light, background and tones vary and follow from no attribute.
"""

_BATCH = 256  # faces drawn between two steps of the progress bar


@dataclasses.dataclass
class SyntheticFacesConfig(tfds.core.BuilderConfig):
    """What is drawn.

    Attributes:
      image_size: Width of the pictures in pixels.
      num_train: Number of faces in `train`; `num_validation` and `num_test` likewise.
      seed: Decides all faces; the splits draw from seeds of their own.
    """

    image_size: int = 64
    num_train: int = 20_000
    num_validation: int = 2_000
    num_test: int = 2_000
    seed: int = 0


def _config(name: str, size: int, counts: tuple[int, int, int], words: str) -> SyntheticFacesConfig:
    return SyntheticFacesConfig(
        name=name,
        description=words,
        image_size=size,
        num_train=counts[0],
        num_validation=counts[1],
        num_test=counts[2],
    )


class SyntheticFaces(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Synthetic faces: drawings, no photographs, with CelebA's 40 attributes."""

    names_attributes = True
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[SyntheticFacesConfig]] = [
        _config("64", 64, (20_000, 2_000, 2_000), "24,000 drawings, 64 pixels wide."),
        _config("64_small", 64, (1_000, 200, 200), "1,400 drawings, 64 pixels wide."),
        _config("32_small", 32, (1_000, 200, 200), "1,400 drawings, 32 pixels wide."),
        _config("128", 128, (20_000, 2_000, 2_000), "24,000 drawings, 128 pixels wide."),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            features=features(self.builder_config.image_size, len(ATTRIBUTES)),
            metadata=tfds.core.MetadataDict(
                {
                    "attributes": list(ATTRIBUTES),
                    "visible": list(VISIBLE_ATTRIBUTES),
                    "synthetic": True,
                    "seed": self.builder_config.seed,
                }
            ),
        )

    def collect_sources(
        self, manual_dir: pathlib.Path | None = None, download: bool = False
    ) -> None:
        """Does nothing: drawings need no source files."""

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        config = self.builder_config
        count = getattr(config, f"num_{split}")
        root = np.random.SeedSequence([config.seed, SPLITS.index(split)])
        people, faces = root.spawn(2)
        attributes = sample_attributes(np.random.default_rng(people), count)
        seeds = np.random.default_rng(faces).integers(2**62, size=count)
        with tqdm(total=count, desc=f"{split} faces", disable=None, leave=False) as bar:
            for start in range(0, count, _BATCH):
                part = slice(start, start + _BATCH)
                images = draw_faces(attributes[part], seeds[part], config.image_size)
                for k, image in enumerate(images, start):
                    name = f"{split}_{k:05d}"
                    yield k, {"image": image, "attributes": attributes[k], "file_name": name}
                bar.update(len(images))
