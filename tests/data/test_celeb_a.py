"""CelebA from a folder of files: layouts, pixels, splits, and what is wrong with bad input."""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import types
import warnings
import zipfile
import zlib

import celeb_a_files
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jmvae_jax.data import (
    attribute_images,
    celeb_a,
    celeb_a_stock,
    decoded,
    descriptions,
    image_files,
    load,
    loading,
    metadata,
    mnist,
    num_examples,
    pixel_statistics,
    prepare,
)
from jmvae_jax.data.attributes import CELEB_A_ATTRIBUTES

NAME = "celeb_a_aligned"
SPLITS = ("train", "validation", "test")
ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def original():
    return celeb_a_files.make(60)


@pytest.fixture
def files(original):
    """A copy of the files, to be changed."""
    return dataclasses.replace(
        original,
        images=dict(original.images),
        values={name: list(row) for name, row in original.values.items()},
        partition=dict(original.partition),
    )


@pytest.fixture(scope="module")
def prepared(original, tmp_path_factory):
    """A data_dir with the sixty images prepared: copy it to change it."""
    folder = tmp_path_factory.mktemp("celeb_a")
    original.write_zip(folder)
    original.write_txt(folder)
    prepare(NAME, data_dir=folder / "data", manual_dir=folder)
    return folder / "data"


@pytest.fixture
def manual(tmp_path):
    folder = tmp_path / "manual"
    folder.mkdir()
    return folder


def contents(data_dir):
    """Relative path -> bytes of every file, but for the metadata's source."""
    paths = [path for path in pathlib.Path(data_dir).rglob("*") if path.is_file()]
    found = {path.relative_to(data_dir): path.read_bytes() for path in paths}
    for path in found:
        if path.name == "metadata.json":
            noted = json.loads(found[path])
            noted.pop("source")
            found[path] = json.dumps(noted).encode()
    return found


def described(data_dir, name=NAME):
    """What is prepared, but for copies made later."""
    return {path: data for path, data in contents(data_dir / name).items() if path.suffix != ".npz"}


def refused(manual_dir, tmp_path, error=ValueError, **options):
    """The one paragraph of the error, after which no data set is there, not even half of one."""
    data_dir = tmp_path / "data"
    with pytest.raises(error, match=f"^{NAME}: ") as info:
        prepare(NAME, data_dir=data_dir, manual_dir=manual_dir, **options)
    return celeb_a_files.one_paragraph_and_nothing_left(info.value, data_dir)


# Sources


def test_zip_with_txt_and_folder_with_csv_are_identical_data_sets(tmp_path):
    files = celeb_a_files.make(500)
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    files.write_zip(first)
    files.write_txt(first)
    files.write_folder(second, "img_align_celeba/img_align_celeba")
    files.write_csv(second)
    for folder in (first, second):
        prepare(NAME, data_dir=folder / "data", manual_dir=folder)
    assert contents(first / "data") == contents(second / "data")
    sources = [metadata(NAME, data_dir=folder / "data")["source"] for folder in (first, second)]
    assert sources == ["img_align_celeba.zip", "img_align_celeba"]
    builder = prepare(NAME, data_dir=first / "data")
    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    assert sizes == {"train": 334, "validation": 83, "test": 83}


def _official_folders(files, folder):
    for inside in ("Img", "Anno", "Eval"):
        (folder / inside).mkdir()
    files.write_zip(folder / "Img")
    files.write_txt(folder / "Anno")
    (folder / "Anno" / "list_eval_partition.txt").rename(
        folder / "Eval" / "list_eval_partition.txt"
    )


def _inside(name):
    def write(files, folder):
        (folder / name).mkdir()
        files.write_zip(folder / name)
        files.write_csv(folder / name)

    return write


def _blank_lines(files, folder):
    files.write_folder(folder)
    files.write_txt(folder, end="\r\n")
    for path in folder.glob("*.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"\r\n\r\n")


def _upper_case(files, folder):
    images = {name.replace(".jpg", ".JPG"): data for name, data in files.images.items()}
    dataclasses.replace(files, images=images).write_folder(folder)
    files.write_txt(folder)


def _mixed(files, folder):
    files.write_zip(folder, prefix="")
    files.write_txt(folder)
    (folder / "list_eval_partition.txt").unlink()
    files.write_csv(folder)
    (folder / "list_attr_celeba.csv").write_text("never read: .txt goes first")


def _both(files, folder):
    files.write_zip(folder)
    files.write_txt(folder)
    (folder / "img_align_celeba").mkdir()  # the zip file goes first


def _order(files, folder):
    order = np.random.default_rng(3).permutation(40)
    shuffled = dataclasses.replace(
        files,
        attributes=[CELEB_A_ATTRIBUTES[i] for i in order],
        values={
            name: [row[i] for i in order] for name, row in reversed(list(files.values.items()))
        },
    )
    shuffled.write_zip(folder)
    shuffled.write_csv(folder)


LAYOUTS = {
    "nested zip": lambda files, folder: (
        files.write_zip(folder, "img_align_celeba/img_align_celeba/"),
        files.write_csv(folder, encoding="utf-8-sig"),
    ),
    "Windows zip": lambda files, folder: (
        files.write_zip(folder, "img_align_celeba\\", junk=False),
        files.write_txt(folder),
    ),
    "official folders": _official_folders,
    "subfolder of its name": _inside("celeb_a_aligned"),
    "subfolder of the stock name": _inside("celeb_a"),
    "mark of byte order, CRLF and blank lines": _blank_lines,
    "upper-case suffix": _upper_case,
    "flat zip, txt and csv": _mixed,
    "zip and folder": _both,
    "columns and lines in another order": _order,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_one_data_set(files, prepared, manual, tmp_path, layout):
    LAYOUTS[layout](files, manual)
    prepare(NAME, data_dir=tmp_path / "data", manual_dir=manual)
    assert described(tmp_path / "data") == described(prepared)


class StockCelebA(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """What TFDS prepares under the name celeb_a, small."""

    name = "celeb_a"
    VERSION = tfds.core.Version("2.1.0")
    files = None
    named = False

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(218, 178, 3), encoding_format="jpeg"),
            "landmarks": {"lefteye_x": np.int64, "lefteye_y": np.int64},
            "attributes": dict.fromkeys(CELEB_A_ATTRIBUTES, np.bool_),
            "identity": {"Identity_No": np.int64},
        }
        if self.named:
            features["file_name"] = tfds.features.Text()
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(number) for number, split in enumerate(SPLITS)}

    def _generate_examples(self, number):
        for name, content in self.files.images.items():
            if self.files.partition[name] == number:
                signs = zip(CELEB_A_ATTRIBUTES, self.files.values[name], strict=True)
                example = {
                    "image": io.BytesIO(content),
                    "landmarks": {"lefteye_x": 69, "lefteye_y": 111},
                    "attributes": {attribute: sign > 0 for attribute, sign in signs},
                    "identity": {"Identity_No": 1},
                }
                yield name, example | ({"file_name": name} if self.named else {})


def write_stock(files, folder, monkeypatch, named=False, form="array_record"):
    monkeypatch.setattr(StockCelebA, "files", files)
    monkeypatch.setattr(StockCelebA, "named", named)
    with contextlib.redirect_stdout(io.StringIO()):
        builder = StockCelebA(data_dir=folder, file_format=form)
        builder.download_and_prepare()
    shutil.rmtree(folder / "downloads", ignore_errors=True)
    return pathlib.Path(builder.data_dir)


@pytest.mark.parametrize("place", ["data_dir", "manual_dir"])
def test_a_stock_data_set_is_a_source(files, prepared, manual, tmp_path, monkeypatch, place):
    data_dir = tmp_path / "data"
    write_stock(files, data_dir if place == "data_dir" else manual, monkeypatch)
    where = {"data_dir": data_dir, "manual_dir": None if place == "data_dir" else manual}
    for split in SPLITS:
        found, expected = (load(NAME, split, **w) for w in (where, {"data_dir": prepared}))
        # Names, hence the order, are others; the examples are the same.
        for key in ("image", "attributes"):
            rows = [sorted(a.tobytes() for a in arrays[key]) for arrays in (found, expected)]
            assert rows[0] == rows[1]
    source = prepare(NAME, **where).as_data_source("validation")
    assert {source[i]["file_name"] for i in range(10)} == {
        f"validation_{i:06d}".encode() for i in range(10)
    }


def test_names_in_a_stock_data_set_are_kept(files, prepared, tmp_path, monkeypatch):
    write_stock(files, tmp_path / "data", monkeypatch, named=True)
    prepare(NAME, data_dir=tmp_path / "data")
    assert described(tmp_path / "data") == described(prepared)
    assert metadata(NAME, data_dir=tmp_path / "data")["source"] == "celeb_a"


def test_a_manual_dir_hides_the_stock_data_set_in_data_dir(files, manual, tmp_path, monkeypatch):
    write_stock(files, tmp_path / "data", monkeypatch)
    with pytest.raises(FileNotFoundError, match=f"TFDS's own celeb_a.* from {manual}/celeb_a"):
        prepare(NAME, data_dir=tmp_path / "data", manual_dir=manual)


STOCK_DAMAGE = {
    "a list": ("dataset_info.json", lambda text: "[]"),
    "null": ("dataset_info.json", lambda text: "null"),
    "nested": ("dataset_info.json", lambda text: "[" * 100_000),
    "no UTF-8": ("dataset_info.json", lambda text: b"\xff{}"),
    "an unknown field": ("dataset_info.json", lambda text: text.replace('"splits"', '"splits?"')),
    "truncated features": ("features.json", lambda text: text[: len(text) // 2]),
    "features as a list": ("features.json", lambda text: "[]"),
    "no features": ("features.json", None),
}


def test_damaged_stock_data_sets(files, manual, tmp_path, monkeypatch):
    folder = write_stock(files, manual, monkeypatch)
    for name, change in STOCK_DAMAGE.values():
        path = folder / name
        text = path.read_text()
        damaged = change and change(text)
        if damaged is None:
            path.unlink()
        else:
            path.write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode())
        words = refused(manual, tmp_path)
        assert f"the description of the data set in {folder} is damaged (" in words
        assert "pass a manual_dir with the original files" in words
        path.write_text(text)
    # A usable one in a later folder goes before complaints of an earlier one.
    other = shutil.copytree(manual, tmp_path / "other")
    path.with_name("dataset_info.json").write_text("[]")
    assert celeb_a_stock.find([manual, other]).sizes["test"] == 10


def test_a_stock_data_set_with_attributes_in_a_row(files, manual, tmp_path, monkeypatch):
    folder = write_stock(files, manual, monkeypatch)
    tensor = tfds.features.Tensor(shape=(40,), dtype=np.int8)
    row = tfds.features.FeaturesDict({"attributes": tensor}).to_json()["content"]["features"]
    path = folder / "features.json"
    features = json.loads(path.read_text())
    features["featuresDict"]["features"]["attributes"] = row["attributes"]
    path.write_text(json.dumps(features))
    assert f"{folder} has other features than TFDS's celeb_a" in refused(manual, tmp_path)


def test_stock_data_sets_that_cannot_be_used(files, tmp_path, manual, monkeypatch):
    folder = write_stock(files, manual, monkeypatch)
    info, features = folder / "dataset_info.json", folder / "features.json"
    good = info.read_text(), features.read_text()
    info.write_text(good[0].replace('"array_record"', '"tfrecord"'))
    assert f"{folder} was prepared in the format tfrecord" in refused(manual, tmp_path)
    info.write_text("{")
    assert f"{folder} is damaged" in refused(manual, tmp_path)
    info.write_text(good[0])
    features.write_text(good[1].replace("Smiling", "Grinning"))
    assert "(Grinning, Smiling)" in refused(manual, tmp_path)
    features.write_text(good[1])
    shard = next(folder.glob("celeb_a-test*"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    assert f"the test split in {folder} is damaged" in refused(manual, tmp_path)
    shard.unlink()
    assert f"{folder} lacks {shard.name}" in refused(manual, tmp_path, FileNotFoundError)


# What is stored


def test_splits_attributes_names_and_order(original, prepared):
    for number, split in enumerate(SPLITS):
        arrays = load(NAME, split, data_dir=prepared)
        names = [name for name, belongs in original.partition.items() if belongs == number]
        # TFDS sorts by the MD5 of the split's name and the example's name.
        names.sort(key=lambda name: hashlib.md5(f"{split}{name}".encode()).digest())
        assert {key: (a.shape[1:], a.dtype.name) for key, a in arrays.items()} == {
            "image": ((64, 64, 3), "uint8"),
            "attributes": ((40,), "int8"),
            "index": ((), "int32"),
        }
        assert arrays["attributes"].tolist() == [original.values[name] for name in names]
        source = prepare(NAME, data_dir=prepared).as_data_source(split)
        found = [source[i]["file_name"].decode() for i in range(len(source))]
        assert found == names
        assert num_examples(f"{NAME}/64", split, data_dir=prepared) == len(names)


@pytest.mark.parametrize(
    ("config", "size", "box"),
    [
        ("64", 64, (15, 40, 163, 188)),
        ("32_crop_19_39_140", 32, (19, 39, 159, 179)),
        ("178_crop_0_40_178", 178, (0, 40, 178, 218)),
    ],
)
def test_the_crop_comes_first_and_is_resized(files, manual, tmp_path, config, size, box):
    files.write_zip(manual)
    files.write_txt(manual)
    where = {"data_dir": tmp_path / "data", "manual_dir": manual}
    arrays = load(f"{NAME}/{config}", "test", **where)
    folder = tmp_path / "data" / NAME / config / "1.0.0"
    source = tfds.builder_from_directory(folder).as_data_source("test")
    assert len(source) == 10
    for i, image in enumerate(arrays["image"]):
        name = source[i]["file_name"].decode()
        cropped = Image.open(io.BytesIO(files.images[name])).crop(box)
        expected = np.asarray(cropped.resize((size, size), Image.Resampling.LANCZOS))
        np.testing.assert_array_equal(image, expected)
    crop = [box[0], box[1], box[2] - box[0]]
    assert metadata(f"{NAME}/{config}", **where)["crop"] == crop


def test_what_is_outside_the_crop_has_no_share(files, manual, tmp_path):
    picture = np.full((218, 178, 3), 255, np.uint8)
    picture[40:188, 15:163] = 0
    content = celeb_a_files.encode(Image.fromarray(picture), "PNG")  # without JPEG's blocks
    files.images = dict.fromkeys(files.images, content)
    files.write_zip(manual)
    files.write_txt(manual)
    arrays = load(NAME, "test", data_dir=tmp_path / "data", manual_dir=manual)
    assert not arrays["image"].any()


def test_grey_and_cmyk_become_rgb(files, manual, tmp_path):
    picture = celeb_a_files.picture(0)
    files.images["000006.jpg"] = celeb_a_files.encode(picture.convert("L"), quality=95)
    files.images["000012.jpg"] = celeb_a_files.encode(picture.convert("CMYK"), quality=95)
    files.write_zip(manual)
    files.write_txt(manual)
    builder = prepare(NAME, data_dir=tmp_path / "data", manual_dir=manual)
    source = builder.as_data_source("test")
    images = {e["file_name"].decode(): e["image"].astype(int) for e in source}
    assert np.ptp(images["000006.jpg"], axis=-1).max() == 0
    expected = celeb_a_files.picture(0).crop((15, 40, 163, 188)).resize((64, 64))
    assert np.abs(images["000012.jpg"] - np.asarray(expected)).mean() < 4


def test_it_needs_no_tensorflow(prepared):
    load(NAME, "test", data_dir=prepared)
    assert "tensorflow" not in sys.modules


def test_what_is_prepared_needs_no_sources(prepared, monkeypatch):
    monkeypatch.setattr(celeb_a.CelebAAligned, "collect_sources", None)
    before = contents(prepared)
    for name in (NAME, f"{NAME}/64", f"{NAME}/64_crop_15_40_148"):
        prepare(name, data_dir=prepared)
    assert contents(prepared) == before


# Names with a configuration


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("", "malformed"),
        ("big", "malformed"),
        ("64x64", "malformed"),
        ("64_crop_1_2", "malformed"),
        ("64_crop_-1_2_3", "malformed"),
        ("64/1.0.0", "malformed"),
        ("\uff16\uff14", "malformed"),
        ("064", "image size 064"),
        ("0", "image size 0"),
        ("9999", "image size 9999"),
        ("9" * 5000, "malformed"),
        ("64_crop_0_0_" + "9" * 5000, "malformed"),
        ("64_crop_31_0_148", "leaves the image"),
        ("64_crop_0_71_148", "leaves the image"),
        ("64_crop_0_0_0", "leaves the image"),
    ],
)
def test_malformed_configurations(tmp_path, config, words):
    with pytest.raises(ValueError, match=f"^{NAME}: config {config!r}.*{words}.*expected"):
        prepare(f"{NAME}/{config}", data_dir=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["mnist/64", "mnist/", "synthetic_faces/65"])
def test_configurations_that_are_not_there(tmp_path, name):
    base, _, config = name.partition("/")
    with pytest.raises(ValueError, match=f"{base} has no configuration {config!r}; expected"):
        prepare(name, data_dir=tmp_path)
    with pytest.raises(ValueError, match=rf"Did you mean '{NAME}'"):
        prepare("celeba_aligned/64", data_dir=tmp_path)


def test_builders_take_configurations_by_name(tmp_path):
    builder = celeb_a.CelebAAligned(data_dir=tmp_path, config="32_crop_19_39_140")
    assert builder.info.features["image"].shape == (32, 32, 3)
    assert celeb_a.CelebAAligned(data_dir=tmp_path).builder_config.name == "64"


def test_a_configuration_is_what_its_name_says(tmp_path):
    good = celeb_a.CelebAAligned.find_config("32")
    assert celeb_a.CelebAAligned(data_dir=tmp_path, config=good).builder_config is good
    wrong = {"image_size": 64}, {"crop": (0, 0, 178)}, {"name": "32_crop_15_40_148"}
    for change in (*wrong, {"attributes": ("Smiling",)}):
        config = dataclasses.replace(good, **change)
        with pytest.raises(ValueError, match=f"^{NAME}: config=ImageConfig.*expected"):
            celeb_a.CelebAAligned(data_dir=tmp_path, config=config)


# Bad input: text


def _edit(name, old, new):
    """Replaces text in one file, which must have it."""

    def change(folder):
        path = folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


def _edit_line(name, number, edit):
    def change(folder):
        lines = (folder / name).read_text().splitlines()
        lines[number - 1] = edit(lines[number - 1])
        (folder / name).write_text("\n".join(lines) + "\n")

    return change


ATTR, PART = "list_attr_celeba", "list_eval_partition"
BAD_TXT = {
    "a line too short": (
        _edit_line(f"{ATTR}.txt", 5, lambda line: line[:-3]),
        (f"{ATTR}.txt, line 5 (000003.jpg) is too short: it has 40 fields; expected 41",),
    ),
    "a line too long": (
        _edit_line(f"{ATTR}.txt", 5, lambda line: line + " 1"),
        (f"{ATTR}.txt, line 5 (000003.jpg) is too long: it has 42 fields; expected 41",),
    ),
    "another value": (
        _edit_line(f"{ATTR}.txt", 62, lambda line: line[:-2] + " 0"),
        (f"{ATTR}.txt, line 62 (000060.jpg): Young is '0'; expected -1 or 1",),
    ),
    "no number": (
        _edit_line(f"{ATTR}.txt", 3, lambda line: line[:-2] + " x"),
        ("line 3", "'x'"),
    ),
    "a name twice": (
        _edit_line(f"{ATTR}.txt", 9, lambda line: line.replace("000007", "000002")),
        (f"{ATTR}.txt, line 9: 000002.jpg stands in line 4 too",),
    ),
    "another count": (
        _edit(f"{ATTR}.txt", "60\n", "61\n"),
        (f"{ATTR}.txt has 60 lines of attributes; expected the 61",),
    ),
    "a count without end": (
        _edit_line(f"{ATTR}.txt", 1, lambda line: "9" * 5000),
        (f"{ATTR}.txt, line 1: '9999", "expected the number of images"),
    ),
    "no count": (
        _edit(f"{ATTR}.txt", "60\n", ""),
        (f"{ATTR}.txt, line 1: '5_o_Clock", "expected the number of images"),
    ),
    "an unknown attribute": (
        _edit(f"{ATTR}.txt", "Smiling", "Grinning"),
        (f"{ATTR}.txt, line 2: Grinning: unknown; Smiling: absent",),
    ),
    "an attribute twice": (
        _edit(f"{ATTR}.txt", "Smiling", "Young"),
        (f"{ATTR}.txt, line 2: the attribute 'Young' stands there twice",),
    ),
    "an attribute too few": (
        _edit(f"{ATTR}.txt", "Young", ""),
        (f"{ATTR}.txt, line 2: Young: absent",),
    ),
    "an empty file": (
        lambda folder: (folder / f"{ATTR}.txt").write_text(""),
        (f"{ATTR}.txt, line 1: ''",),
    ),
    "no lines": (
        _edit_line(f"{ATTR}.txt", 1, lambda line: "0"),
        (f"{ATTR}.txt has 60 lines of attributes; expected the 0",),
    ),
    "no text": (
        lambda folder: (folder / f"{ATTR}.txt").write_bytes(b"60\n\xff\xd8"),
        (f"{ATTR}.txt, line 2: byte 0xff is no UTF-8",),
    ),
    "a path that leaves": (
        _edit(f"{ATTR}.txt", "000004.jpg", "../04.jpg"),
        (f"{ATTR}.txt, line 6: '../04.jpg' is no name of a file in the folder",),
    ),
    "a partition of 3": (
        _edit(f"{PART}.txt", "000003.jpg 0", "000003.jpg 3"),
        (f"{PART}.txt, line 3 (000003.jpg): partition is '3'; expected 0 or 1 or 2",),
    ),
    "a partition too short": (
        _edit(f"{PART}.txt", "000003.jpg 0", "000003.jpg"),
        (f"{PART}.txt, line 3 (000003.jpg) is too short",),
    ),
    "a name twice in the partition": (
        _edit(f"{PART}.txt", "000003.jpg 0", "000002.jpg 0"),
        (f"{PART}.txt, line 3: 000002.jpg stands in line 2 too",),
    ),
    "a name that the partition lacks": (
        _edit(f"{PART}.txt", "000003.jpg 0\n", ""),
        (f"{ATTR}.txt names 000003.jpg without a line in ", f"{PART}.txt;"),
    ),
    "a name that the attributes lack": (
        _edit(f"{PART}.txt", "000001.jpg 0\n", "000001.jpg 0\n999999.jpg 0\n"),
        (f"{PART}.txt names 999999.jpg without a line in ", f"{ATTR}.txt;"),
    ),
    "no train split": (
        lambda folder: (folder / f"{PART}.txt").write_text(
            (folder / f"{PART}.txt").read_text().replace(" 0\n", " 2\n")
        ),
        ("no image belongs to the train split",),
    ),
}
BAD_CSV = {
    "a line too short": (
        _edit_line(f"{ATTR}.csv", 4, lambda line: line.rpartition(",")[0]),
        (f"{ATTR}.csv, line 4 (000003.jpg) is too short: it has 40 fields; expected 41",),
    ),
    "another value": (
        _edit_line(f"{ATTR}.csv", 61, lambda line: line.rpartition(",")[0] + ",0"),
        (f"{ATTR}.csv, line 61 (000060.jpg): Young is '0'",),
    ),
    "no header": (
        _edit_line(f"{ATTR}.csv", 1, lambda line: ""),
        (f"{ATTR}.csv, line 2: the attribute",),
    ),
    "a stray quote": (
        _edit_line(f"{ATTR}.csv", 4, lambda line: '"000003.jpg"x' + line[10:]),
        (f"{ATTR}.csv, line 4: no line of a CSV file",),
    ),
    "a quote without end": (
        _edit_line(f"{ATTR}.csv", 4, lambda line: '"' + line),
        (f"{ATTR}.csv, line 4: no line of a CSV file",),
    ),
    "commas alone": (
        _edit_line(f"{ATTR}.csv", 4, lambda line: "," * 40),
        (f"{ATTR}.csv, line 4: '' is no name of a file",),
    ),
    "an unknown attribute": (
        _edit(f"{ATTR}.csv", "Smiling", "Grinning"),
        (f"{ATTR}.csv, line 1: Grinning: unknown; Smiling: absent",),
    ),
    "no header in the partition": (
        _edit(f"{PART}.csv", "image_id,partition", ""),
        (f"{PART}.csv, line 2: '000001.jpg,0'; expected the header",),
    ),
    "a partition of 3": (
        _edit(f"{PART}.csv", "000003.jpg,0", "000003.jpg,3"),
        (f"{PART}.csv, line 4 (000003.jpg): partition is '3'",),
    ),
}


@pytest.mark.parametrize("bad", BAD_TXT)
def test_bad_txt_files(files, manual, tmp_path, bad):
    change, parts = BAD_TXT[bad]
    files.write_zip(manual)
    files.write_txt(manual)
    change(manual)
    text = refused(manual, tmp_path)
    for part in parts:
        assert part in text
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("bad", BAD_CSV)
def test_bad_csv_files(files, manual, tmp_path, bad):
    change, parts = BAD_CSV[bad]
    files.write_folder(manual)
    files.write_csv(manual)
    change(manual)
    text = refused(manual, tmp_path)
    for part in parts:
        assert part in text
    assert not (tmp_path / "data").exists()


# Bad input: files


@pytest.mark.parametrize("missing", ["img_align_celeba.zip", f"{ATTR}.txt", f"{PART}.txt"])
@pytest.mark.parametrize("download", [False, True])
def test_missing_files(files, manual, tmp_path, missing, download):
    files.write_zip(manual)
    files.write_txt(manual)
    (manual / missing).unlink()
    text = refused(manual, tmp_path, FileNotFoundError, download=download)
    assert text.startswith(f"{NAME}: {missing} (or ")
    assert f"manual_dir={str(manual)!r}" in text
    assert "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html" in text


def test_missing_folders(tmp_path):
    text = refused(None, tmp_path, FileNotFoundError)
    for part in ("img_align_celeba.zip", f"{ATTR}.txt", f"{PART}.txt", "manual_dir=None"):
        assert part in text
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "nowhere", tmp_path / "file"):
        assert "is no folder" in refused(path, tmp_path, FileNotFoundError)


@pytest.mark.parametrize("length", [0, 10, 0.5, -1])
def test_a_truncated_zip(files, manual, tmp_path, length):
    files.write_txt(manual)
    path = files.write_zip(manual)
    whole = path.read_bytes()
    length = int(length * len(whole)) if length == 0.5 else length
    path.write_bytes(whole[:length])
    if length == -1:  # the last byte is the length of a comment: nothing is lost
        path.write_bytes(whole[:-22])
    text = refused(manual, tmp_path)
    assert f"{path} is a truncated or damaged zip file of " in text
    assert not (tmp_path / "data").exists()


def test_a_zip_that_lost_its_start(files, manual, tmp_path):
    files.write_txt(manual)
    path = files.write_zip(manual)
    path.write_bytes(path.read_bytes()[5000:])
    assert str(path) in refused(manual, tmp_path)


@pytest.mark.parametrize(
    "member", ["../000001.jpg", "/000001.jpg", "img_align_celeba/../../x.jpg", "..\\x.jpg", "C:\\x"]
)
def test_a_member_that_leaves_the_folder(files, manual, tmp_path, member):
    files.write_txt(manual)
    path = files.write_zip(manual)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, files.images["000001.jpg"])
    text = refused(manual, tmp_path)
    assert f"{path}, member {member!r} is a path that leaves the folder" in text


@pytest.mark.parametrize("as_zip", [True, False])
def test_names_without_images_and_images_without_lines(files, manual, tmp_path, as_zip):
    files.write_txt(manual)
    removed = [files.images.pop(f"00000{i}.jpg") for i in range(1, 6)]
    place = files.write_zip(manual) if as_zip else files.write_folder(manual)
    text = refused(manual, tmp_path)
    few = "000001.jpg, 000002.jpg, 000003.jpg and 2 more"
    assert f"{ATTR}.txt names {few} without an image in {place};" in text
    shutil.rmtree(place, ignore_errors=True)
    place.unlink(missing_ok=True)
    files.images |= {f"00000{i}.jpg": data for i, data in enumerate(removed, 1)}
    files.images["777777.jpg"] = removed[0]
    place = files.write_zip(manual) if as_zip else files.write_folder(manual)
    text = refused(manual, tmp_path)
    assert f"{place} holds 777777.jpg without a line in {manual / ATTR}.txt;" in text


def test_an_image_twice(files, manual, tmp_path):
    files.write_txt(manual)
    path = files.write_zip(manual)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/000001.jpg", files.images["000001.jpg"])
    text = refused(manual, tmp_path)
    assert f"{path} holds 000001.jpg twice, as img_align_celeba/000001.jpg and as other/" in text


def test_other_files_of_one_name_do_no_harm(files, prepared, manual, tmp_path):
    place = files.write_folder(manual)
    files.write_txt(manual)
    for inside in ("a", "b"):
        (place / inside).mkdir()
        (place / inside / "readme.txt").write_text(inside)
    builder = celeb_a.CelebAAligned(data_dir=tmp_path / "data")
    builder.collect_sources(manual)
    assert builder._source.sizes == {"train": 40, "validation": 10, "test": 10}


def test_a_member_twice(files, manual, tmp_path):
    files.write_txt(manual)
    path = files.write_zip(manual)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("img_align_celeba//./000001.jpg", files.images["000002.jpg"])
    text = refused(manual, tmp_path)
    assert f"{path} holds the member 'img_align_celeba/000001.jpg' twice" in text


def test_a_link_to_a_folder_is_refused(files, manual, tmp_path):
    files.write_txt(manual)
    place = files.write_folder(manual)
    (tmp_path / "elsewhere").mkdir()
    (place / "more").symlink_to(tmp_path / "elsewhere")
    assert f"{place / 'more'} is a symbolic link to a folder" in refused(manual, tmp_path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_packed_otherwise_are_not_read(files, manual, tmp_path, method):
    files.write_txt(manual)
    path = files.write_zip(manual)
    content = files.images.pop("000017.jpg")
    path = files.write_zip(manual)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("000017.jpg", content, method)
    text = refused(manual, tmp_path)
    assert f"{path}, member 000017.jpg is packed by method {method}; expected 0 " in text


def test_deflate_unpacks_no_more_than_the_directory_says(tmp_path, monkeypatch):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(1_000_000))
    path.write_bytes(path.read_bytes().replace((1_000_000).to_bytes(4, "little"), b"d\0\0\0"))
    make, asked = zipfile._get_decompressor, []

    class Spy:
        def __init__(self, method):
            self._inner = make(method)

        def decompress(self, data, limit):
            asked.append(limit)
            return self._inner.decompress(data, limit)

        def __getattr__(self, name):
            return getattr(self._inner, name)

    monkeypatch.setattr(zipfile, "_get_decompressor", Spy)
    with (
        image_files.ZipImages(path).reader() as read,
        pytest.raises(image_files.BadImageError, match="cannot be unpacked"),
    ):
        read("bomb")
    assert max(asked) <= 4096


def test_only_regular_files_are_read(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    (tmp_path / "nothing.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file.jpg").write_bytes(b"content")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "file.jpg")
    monkeypatch.setattr(image_files, "_MAX_BYTES", 7)
    with image_files.FolderImages(tmp_path).reader() as read:
        assert read("link.jpg") == read("file.jpg") == b"content"
        for name in ("pipe.jpg", "device.jpg"):
            with pytest.raises(image_files.BadImageError, match="is no regular file"):
                read(name)
        with pytest.raises(image_files.BadImageError, match="cannot be read"):
            read("nothing.jpg")
        (tmp_path / "file.jpg").write_bytes(b"contents")
        small = os.stat_result((0,) * 10)  # it grew after it was measured
        monkeypatch.setattr(image_files.os, "fstat", lambda _: small)
        with pytest.raises(image_files.BadImageError, match="has 8 bytes; expected at most 7"):
            read("file.jpg")


def test_a_broken_disk_is_no_bad_image(files, manual, tmp_path, monkeypatch):
    files.write_txt(manual)
    place = files.write_folder(manual)
    stat = os.stat

    def broken(path, *args, **options):
        if str(path).endswith("000017.jpg"):
            raise OSError(5, "Input/output error")
        return stat(path, *args, **options)

    monkeypatch.setattr(image_files.os, "stat", broken)
    with pytest.raises(OSError, match=f"Input/output error: '{place}/000017.jpg'"):
        prepare(NAME, data_dir=tmp_path / "data", manual_dir=manual, skip_bad_images=True)


def test_own_mistakes_are_no_bad_images():
    def mistaken(image):
        raise TypeError("a mistake")

    with pytest.raises(TypeError, match="a mistake"):
        image_files.square_pixels(celeb_a_files.picture(0), mistaken, 8)


def absurd_jpeg(content):
    """A JPEG whose header says 65,000 pixels a side."""
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + (65_000).to_bytes(2, "big") * 2 + content[at + 4 :]


def long_png(width, height=1):
    """A PNG file whose header says that size."""
    content = celeb_a_files.encode(Image.new("L", (8, 1)), "PNG")
    header = content[12:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big")
    header += content[24:29]
    return content[:12] + header + zlib.crc32(header).to_bytes(4, "big") + content[33:]


BAD_IMAGES = {
    "truncated": (lambda content: content[:-100], "does not decode (image file is truncated"),
    "half": (lambda content: content[:300], "does not decode ("),
    "empty": (lambda content: b"", "does not decode: its 0 bytes"),
    "a page": (
        lambda content: b"<!DOCTYPE html>",
        "does not decode: its 15 bytes, the first of them 3c 21 44 4f,",
    ),
    "absurd": (absurd_jpeg, "has absurd dimensions ("),
    "long": (lambda _: long_png(10_001), "has absurd dimensions (10001x1)"),
    "large": (lambda _: long_png(10_000, 10_000), "has absurd dimensions (10000x10000)"),
    "another size": (
        lambda _: celeb_a_files.encode(celeb_a_files.picture(0, (178, 217))),
        "is 178x217; expected 178x218",
    ),
    "16 bits": (
        lambda _: celeb_a_files.encode(Image.new("I;16", (178, 218)), "PNG"),
        "has pixels of mode I;16",
    ),
}


@pytest.mark.parametrize("as_zip", [True, False])
@pytest.mark.parametrize("bad", BAD_IMAGES)
def test_bad_images_end_the_preparation(files, manual, tmp_path, bad, as_zip):
    damage, words = BAD_IMAGES[bad]
    files.images["000017.jpg"] = damage(files.images["000017.jpg"])
    files.write_txt(manual)
    place = files.write_zip(manual) if as_zip else files.write_folder(manual)
    text = refused(manual, tmp_path)
    where = f"{place}, member img_align_celeba/" if as_zip else f"{place}/"
    assert f"{where}000017.jpg {words}" in text
    assert "pass skip_bad_images=True to prepare (--skip_bad_images)" in text


def store(files, manual):
    """Writes the images uncompressed."""
    path = manual / "img_align_celeba.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.images.items():
            archive.writestr(name, content)
    return path


def test_a_wrong_sum_in_the_zip(files, manual, tmp_path):
    files.write_txt(manual)
    path = store(files, manual)
    at = path.read_bytes().index(files.images["000017.jpg"]) + 1000
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    assert f"{path}, member 000017.jpg cannot be unpacked (Bad CRC-32" in refused(manual, tmp_path)


@pytest.mark.parametrize("as_zip", [True, False])
def test_a_file_of_absurd_length_is_not_read(files, manual, tmp_path, monkeypatch, as_zip):
    files.images["000017.jpg"] += bytes(100_000)
    files.write_txt(manual)
    if as_zip:
        files.write_zip(manual)
    else:
        files.write_folder(manual)
    monkeypatch.setattr(image_files, "_MAX_BYTES", 100_000)
    length = len(files.images["000017.jpg"])
    assert f"000017.jpg has {length} bytes; expected at most 100000" in refused(manual, tmp_path)


def test_bad_images_are_skipped_and_counted(files, original, prepared, manual, tmp_path):
    bad = ["000002.jpg", "000006.jpg", "000008.jpg", "000013.jpg", "000017.jpg"]
    for name, kind in zip(bad, ("truncated", "a page", "absurd", "long", "16 bits"), strict=True):
        files.images[name] = BAD_IMAGES[kind][0](files.images[name])
    files.write_folder(manual)
    files.write_csv(manual)
    where = {"data_dir": tmp_path / "data", "manual_dir": manual}
    with pytest.warns(
        UserWarning, match=f"{NAME}: left out 5 images that cannot be used: "
    ) as caught:
        builder = prepare(NAME, skip_bad_images=True, **where)
    assert len(caught) == 1
    assert "000002.jpg does not decode (image file is truncated" in str(caught[0].message)
    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    numbers = [original.partition[name] for name in original.images if name not in bad]
    assert sizes == {split: numbers.count(number) for number, split in enumerate(SPLITS)}
    described = metadata(NAME, data_dir=tmp_path / "data")
    assert described["num_skipped_images"] == 5
    assert sorted(described["skipped_images"]) == bad
    kept = load(NAME, "validation", **where)["image"]
    whole = load(NAME, "validation", data_dir=prepared)["image"]
    rows = {image.tobytes() for image in whole}
    assert all(image.tobytes() in rows for image in kept)
    with warnings.catch_warnings(action="error"):
        load(NAME, "test", data_dir=tmp_path / "data")


def test_a_split_without_a_good_image(files, manual, tmp_path):
    for name, number in files.partition.items():
        if number == 1:
            files.images[name] = b""
    files.write_zip(manual)
    files.write_txt(manual)
    text = refused(manual, tmp_path, skip_bad_images=True)
    assert "not one of the 10 images of the validation split can be used" in text


# Interruptions


def test_an_interrupted_preparation_leaves_nothing(files, prepared, manual, tmp_path, monkeypatch):
    files.write_zip(manual)
    files.write_txt(manual)
    where = {"data_dir": tmp_path / "data", "manual_dir": manual}

    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(image_files, "square_pixels", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(NAME, **where)
    assert [path.name for path in contents(tmp_path / "data")] == [".1.0.0.lock"]
    prepare(NAME, **where)
    assert described(tmp_path / "data") == described(prepared)


def test_what_a_killed_preparation_left_is_removed(files, prepared, manual, tmp_path):
    files.write_zip(manual)
    files.write_txt(manual)
    folder = tmp_path / "data" / NAME / "64"
    left, other = folder / "incomplete.ABC123_1.0.0", folder / "incomplete.ABC123_9.9.9"
    for path in (left, other):
        path.mkdir(parents=True)
        (path / "half.array_record").write_bytes(b"half")
    prepare(NAME, data_dir=tmp_path / "data", manual_dir=manual)
    assert not left.exists()
    assert other.exists()


def test_the_progress_bars_know_their_ends(files, manual, tmp_path, capfd):
    files.write_zip(manual)
    files.write_txt(manual)
    prepare(NAME, data_dir=tmp_path / "data", manual_dir=manual)
    captured = capfd.readouterr()
    for split, size in (("train", 40), ("validation", 10), ("test", 10)):
        assert re.search(rf"Generating {split} examples\.\.\..*0/{size} ", captured.err)
    assert captured.out == ""


def test_few_images_wait_for_the_writer(original, monkeypatch, tmp_path):
    """However many there are, decoding runs only a window ahead."""
    builder = celeb_a.CelebAAligned(data_dir=tmp_path)
    read = []

    def examples():
        for name, content in list(original.images.items()) * 20:
            read.append(name)
            yield attribute_images.RawExample(name, np.zeros(40, np.int8), content, name)

    monkeypatch.setattr(attribute_images, "_MAX_THREADS", 2)
    results = builder._decoded(examples())
    for used in range(1, 101):
        next(results)
        assert len(read) - used < 2 * attribute_images._IN_FLIGHT
    results.close()


def test_errors_close_what_was_opened(original, monkeypatch, tmp_path):
    builder = celeb_a.CelebAAligned(data_dir=tmp_path)
    closed = []

    def examples():
        try:
            for _ in range(100):
                yield attribute_images.RawExample("a", np.zeros(40, np.int8), b"", "a")
        finally:
            closed.append("examples")

    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    opened = examples()
    source = types.SimpleNamespace(sizes={"train": 100}, examples=lambda split: opened)
    with pytest.raises(ValueError, match="a does not decode"):
        list(builder._generate_examples(source, "train"))
    assert closed == ["examples"]


# Metadata and statistics


@pytest.fixture
def garments(tmp_path, monkeypatch):
    """Where a Fashion-MNIST of thirty black images with a noisy corner is prepared."""
    folder = tmp_path / "garments"
    folder.mkdir()
    images, labels = np.zeros((30, 28, 28), np.uint8), np.zeros(30, np.uint8)
    images[:, :14, :14] = np.random.default_rng(0).integers(0, 256, (30, 14, 14))
    sums = []
    for stem in mnist._STEMS:
        array = images if "images" in stem else labels
        header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
        (folder / stem).write_bytes(header + array.tobytes())
        sums.append(hashlib.sha256(header + array.tobytes()).hexdigest())
    monkeypatch.setitem(mnist._SHA256, "fashion_mnist", tuple(sums))
    return {"data_dir": tmp_path / "data", "manual_dir": folder}


def test_metadata(prepared, garments):
    assert metadata(NAME, data_dir=prepared) == {
        "attributes": list(CELEB_A_ATTRIBUTES),
        "image_size": 64,
        "crop": [15, 40, 148],
        "num_skipped_images": 0,
        "skipped_images": {},
        "source": "img_align_celeba.zip",
    }
    assert metadata("fashion_mnist", **garments) == {}


def test_statistics_are_those_of_the_train_split(prepared, tmp_path, monkeypatch):
    images = load(NAME, "train", data_dir=prepared)["image"] / 255
    monkeypatch.setattr(decoded, "decoded", None)  # they were computed when it was prepared
    statistics = pixel_statistics(NAME, data_dir=prepared)
    assert {key: (a.shape, a.dtype.name) for key, a in statistics.items()} == {
        "mean": ((64, 64, 3), "float32"),
        "deviation": ((64, 64, 3), "float32"),
    }
    np.testing.assert_allclose(statistics["mean"], images.mean(0), rtol=1e-6)
    expected = np.maximum(images.std(0), 1 / 255)
    np.testing.assert_allclose(statistics["deviation"], expected, rtol=1e-6)


def test_statistics_of_grey_images_and_their_floor(garments):
    statistics = pixel_statistics("fashion_mnist", **garments)
    images = load("fashion_mnist", "train", **garments)["image"] / 255
    np.testing.assert_allclose(statistics["mean"], images.mean(0), rtol=1e-6)
    assert (statistics["mean"][:14, :14] > 0.1).all()
    corner, rest = statistics["deviation"][:14, :14], statistics["deviation"][14:]
    np.testing.assert_allclose(corner, images.std(0)[:14, :14], rtol=1e-6)
    assert (rest == np.float32(1 / 255)).all()


def test_statistics_do_not_cancel():
    images = np.full((3000, 2, 2, 3), 255, np.uint8)
    images[0, 0, 0] = 0
    statistics = decoded._measure([images[:7], images[7:]], images.shape[1:])
    assert statistics["deviation"][0, 0, 0] == np.float32(images[:, 0, 0, 0].std() / 255)
    assert (statistics["deviation"][1] == np.float32(1 / 255)).all()
    assert (statistics["mean"][1] == 1).all()


@pytest.mark.parametrize("damage", ["missing", "truncated", "stale"])
def test_bad_statistics_are_computed_again(prepared, tmp_path, damage):
    data_dir = shutil.copytree(prepared, tmp_path / "own")
    expected = pixel_statistics(NAME, data_dir=data_dir)
    path = data_dir / NAME / "64" / "1.0.0" / "train.pixel_statistics.npz"
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    else:
        wrong = {key: array + 1 for key, array in expected.items()}
        decoded._keep_copy(path, "of other files", wrong)
    found = pixel_statistics(NAME, data_dir=data_dir)
    for key in ("mean", "deviation"):
        np.testing.assert_array_equal(found[key], expected[key])
    builder = prepare(NAME, data_dir=data_dir)
    specs = {key: (array.shape, array.dtype) for key, array in expected.items()}
    assert decoded._read_copy(path, decoded._fingerprint(builder, "train"), specs) is not None


def test_abandoned_copies_are_removed(prepared, tmp_path):
    old, new = (tmp_path / f".test.decoded.npz.{name}" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    day = 86_400
    os.utime(old, (old.stat().st_mtime - 1.1 * day,) * 2)
    os.utime(new, (new.stat().st_mtime - 0.9 * day,) * 2)
    decoded._keep_copy(tmp_path / "test.decoded.npz", "x", {"a": np.zeros(1)})
    assert sorted(path.name for path in tmp_path.iterdir()) == [new.name, "test.decoded.npz"]


OTHER_VERSION = '{"name": "celeb_a_aligned", "version": "9.9.9"}'
OWN_DAMAGE = [
    ("dataset_info.json", "[]"),
    ("dataset_info.json", OTHER_VERSION),
    ("dataset_info.json", b"\xff{}"),
    ("features.json", None),
    ("features.json", "{"),
    ("features.json", "[]"),
    ("metadata.json", None),
    ("metadata.json", '{"attributes": ['),
    ("metadata.json", "{}"),
]


def test_damaged_descriptions_are_named(prepared, tmp_path):
    data_dir = shutil.copytree(prepared, tmp_path / "own")
    folder = data_dir / NAME / "64" / "1.0.0"
    for name, damage in OWN_DAMAGE:
        path = folder / name
        good = path.read_bytes()
        path.unlink()
        if damage is not None:
            path.write_bytes(damage if isinstance(damage, bytes) else damage.encode())
        error, words = (ValueError, " is damaged") if damage else (FileNotFoundError, " lacks ")
        with pytest.raises(error, match=f"{NAME}.* {folder}.*{words}.*prepared again") as info:
            load(NAME, "test", data_dir=data_dir)
        assert "\n" not in str(info.value)
        path.write_bytes(good)
    assert len(load(NAME, "test", data_dir=data_dir)["index"]) == 10


def test_what_has_no_statistics(tmp_path, prepared, monkeypatch):
    builder = prepare(NAME, data_dir=prepared)
    splits = [info for name, info in builder.info.splits.items() if name != "train"]
    builder.info.set_splits(tfds.core.SplitDict(splits))
    monkeypatch.setattr(descriptions, "prepare", lambda name: builder)
    with pytest.raises(ValueError, match=f"{NAME} has no statistics.*train split.*uint8"):
        pixel_statistics(NAME)


# The command


def test_the_command_skips_bad_images(files, manual, tmp_path):
    files.images["000017.jpg"] = b""
    files.write_zip(manual)
    files.write_txt(manual)
    command = [
        sys.executable,
        str(ROOT / "experiments" / "prepare_data.py"),
        f"--dataset={NAME}/32",
        f"--manual_dir={manual}",
        f"--data_dir={tmp_path / 'data'}",
        "--skip_bad_images",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert f"{NAME}/32 is prepared in " in done.stdout
    assert "(train 40, validation 9, test 10)" in done.stdout
    assert "left out, because they cannot be used: 1 (000017.jpg does not" in done.stdout


def test_every_name_is_known():
    assert {NAME, "image_attributes", "synthetic_faces"} <= set(loading._BUILDERS)
