"""A folder in CelebA's layout, as people have it: JPEG files, attributes, partition."""

import csv
import dataclasses
import io
import pathlib
import zipfile

import numpy as np
from PIL import Image

from jmvae_jax.data.attributes import CELEB_A_ATTRIBUTES


def picture(seed, size=(178, 218)):
    """A smooth picture of its own for each seed, like a photograph to a JPEG encoder."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def encode(image, form="JPEG", **options):
    """The bytes of an image file."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@dataclasses.dataclass
class CelebA:
    """What the files hold: change it, then write it in one of the layouts.

    Attributes:
      images: name -> bytes of its file.
      values: name -> 40 of -1 and 1.
      partition: name -> 0, 1 or 2.
      attributes: The attributes' names, in the order of the columns.
    """

    images: dict
    values: dict
    partition: dict
    attributes: tuple = CELEB_A_ATTRIBUTES

    def write_zip(self, folder, prefix="img_align_celeba/", junk=True):
        path = pathlib.Path(folder) / "img_align_celeba.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            if junk and prefix:
                archive.writestr(prefix, b"")
                archive.writestr(f"{prefix}.DS_Store", b"junk")
            if junk:
                archive.writestr("__MACOSX/img_align_celeba/._000001.jpg", b"junk")
            for name, content in self.images.items():
                archive.writestr(prefix + name, content)
        return path

    def write_folder(self, folder, inside="img_align_celeba"):
        path = pathlib.Path(folder) / inside
        path.mkdir(parents=True)
        for name, content in self.images.items():
            (path / name).write_bytes(content)
        (path / ".DS_Store").write_bytes(b"junk")
        return path

    def write_txt(self, folder, end="\n"):
        names = self.attributes
        rows = [str(len(self.values)), " ".join(names) + " "]
        rows += [f"{n} " + " ".join(f"{v:2d}" for v in row) for n, row in self.values.items()]
        partition = [f"{name} {number}" for name, number in self.partition.items()]
        for stem, lines in (("list_attr_celeba", rows), ("list_eval_partition", partition)):
            text = end.join([*lines, ""])
            (pathlib.Path(folder) / f"{stem}.txt").write_bytes(text.encode())

    def write_csv(self, folder, encoding="utf-8"):
        tables = {
            "list_attr_celeba": [
                ["image_id", *self.attributes],
                *([name, *row] for name, row in self.values.items()),
            ],
            "list_eval_partition": [["image_id", "partition"], *self.partition.items()],
        }
        for stem, rows in tables.items():
            path = pathlib.Path(folder) / f"{stem}.csv"
            with path.open("w", newline="", encoding=encoding) as file:
                csv.writer(file).writerows(rows)


def make(count=60, seed=0):
    """CelebA with `count` images: two of three in train, one of six in validation and in test."""
    rng = np.random.default_rng(seed)
    names = [f"{i:06d}.jpg" for i in range(1, count + 1)]
    signs = rng.choice([-1, 1], (count, len(CELEB_A_ATTRIBUTES))).tolist()
    return CelebA(
        images={name: encode(picture(i)) for i, name in enumerate(names)},
        values=dict(zip(names, signs, strict=True)),
        partition={name: (0, 0, 0, 0, 1, 2)[i % 6] for i, name in enumerate(names)},
    )


def one_paragraph_and_nothing_left(error, data_dir):
    """The words of the error that ended a preparation, after which `data_dir` holds no data set."""
    left = [path.name for path in data_dir.rglob("*") if path.is_file()]
    assert left in ([], [".1.0.0.lock"])
    assert not list(data_dir.rglob("incomplete*"))
    text = str(error)
    assert "\n" not in text
    return text
