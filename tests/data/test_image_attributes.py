"""A user's own folder of images with a CSV file of attributes."""

import hashlib
import shutil

import celeb_a_files
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image, ImageOps

from jmvae_jax.data import (
    attribute_tables,
    image_files,
    image_names,
    load,
    metadata,
    num_examples,
    pixel_statistics,
    prepare,
)

NAME = "image_attributes"
SPLITS = ("train", "validation", "test")
ATTRIBUTES = ["red", "round", "Old one"]


@pytest.fixture
def manual(tmp_path):
    """Sixty images of many sizes and formats, in subfolders too, without a CSV file."""
    folder = tmp_path / "manual"
    for inside in ("", "b", "b/c"):
        (folder / "images" / inside).mkdir(parents=True)
    for i, name in enumerate(names()):
        size = (20 + 7 * (i % 5), 20 + 11 * (i % 3))
        celeb_a_files.picture(i, size).save(folder / "images" / name)
    return folder


def names():
    folders, suffixes = ("", "b/", "b/c/"), ("jpg", "png", "bmp", "webp")
    return [f"{folders[i % 3]}image {i}.{suffixes[i % 4]}" for i in range(60)]


def signs(low=-1):
    return np.random.default_rng(0).choice([low, 1], (60, 3)).tolist()


def table(splits=None, low=-1):
    """The rows of a good CSV file."""
    columns = ["picture", *ATTRIBUTES]
    rows = [[name, *map(str, row)] for name, row in zip(names(), signs(low), strict=True)]
    if splits is not None:
        columns.insert(2, "split")
        for row, split in zip(rows, splits, strict=True):
            row.insert(2, split)
    return [columns, *rows]


def write(folder, rows, name="table.csv", end="\n", encoding="utf-8"):
    content = end.join([",".join(row) for row in rows] + [""]).encode(encoding)
    (folder / name).write_bytes(content)
    return hashlib.sha256(content).hexdigest()[:12]


def by_name(data_dir, key, split):
    """file name -> (image, attributes) of one split."""
    builder = tfds.builder_from_directory(data_dir / NAME / f"64_{key}" / "1.0.0")
    if split not in builder.info.splits:
        return {}
    return {
        e["file_name"].decode(): (e["image"], e["attributes"].tolist())
        for e in builder.as_data_source(split)
    }


def refused(manual_dir, tmp_path, error=ValueError, name=NAME, **options):
    """The one paragraph of the error, after which no data set is there, not even half of one."""
    data_dir = tmp_path / "data"
    with pytest.raises(error, match=f"^{NAME}: ") as info:
        prepare(name, data_dir=data_dir, manual_dir=manual_dir, **options)
    return celeb_a_files.one_paragraph_and_nothing_left(info.value, data_dir)


# Good folders


def test_images_attributes_and_splits(manual, tmp_path):
    key = write(manual, table())
    where = {"data_dir": tmp_path / "data", "manual_dir": manual}
    arrays = load(NAME, "train", **where)
    assert {name: (a.shape[1:], a.dtype.name) for name, a in arrays.items()} == {
        "image": ((64, 64, 3), "uint8"),
        "attributes": ((3,), "int8"),
        "index": ((), "int32"),
    }
    expected = dict(zip(names(), signs(), strict=True))
    found = {split: by_name(tmp_path / "data", key, split) for split in SPLITS}
    assert sum(map(len, found.values())) == 60
    for split, examples in found.items():
        for name, (image, attributes) in examples.items():
            tenth = int(hashlib.sha256(name.encode()).hexdigest()[:16], 16) % 10
            assert split == ("train" if tenth < 8 else SPLITS[tenth - 7])
            assert attributes == expected[name]
            opened = Image.open(manual / "images" / name).convert("RGB")
            side = min(opened.size)
            left, top = (opened.width - side) // 2, (opened.height - side) // 2
            square = opened.crop((left, top, left + side, top + side))
            square = square.resize((64, 64), Image.Resampling.LANCZOS)
            np.testing.assert_array_equal(image, np.asarray(square))
    assert metadata(NAME, **where)["attributes"] == ATTRIBUTES
    statistics = pixel_statistics(NAME, **where)
    mean = (arrays["image"] / 255).mean(0)
    np.testing.assert_allclose(statistics["mean"], mean, rtol=1e-6)


def _with_splits(folder):
    return write(folder, table([SPLITS[i % 3] for i in range(60)]))


def test_the_split_column(manual, tmp_path):
    key = _with_splits(manual)
    prepare(NAME, data_dir=tmp_path / "data", manual_dir=manual)
    expected = dict(zip(names(), signs(), strict=True))
    for i, split in enumerate(SPLITS):
        found = by_name(tmp_path / "data", key, split)
        assert {name: attributes for name, (_, attributes) in found.items()} == {
            name: expected[name] for name in names()[i::3]
        }


def test_a_split_that_is_empty_is_left_out(manual, tmp_path):
    write(manual, table(["train"] * 59 + ["test"]))
    builder = prepare(NAME, data_dir=tmp_path / "data", manual_dir=manual)
    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    assert sizes == {"train": 59, "test": 1}


@pytest.mark.parametrize("low", [-1, 0])
@pytest.mark.parametrize("where", ["beside", "images", "prefix", "subfolder"])
@pytest.mark.parametrize(("end", "encoding"), [("\n", "utf-8"), ("\r\n", "utf-8-sig")])
def test_layouts(manual, tmp_path, low, where, end, encoding):
    rows = table(low=low)
    folder = manual
    if where == "beside":
        shutil.copytree(manual / "images", manual, dirs_exist_ok=True)
        shutil.rmtree(manual / "images")
    elif where == "prefix":
        rows[1:] = [[f"images/{row[0]}", *row[1:]] for row in rows[1:]]
    elif where == "subfolder":
        folder = manual / NAME
        folder.mkdir()
        (manual / "images").rename(folder / "images")
    (folder / ".hidden.csv").write_text("no table")
    (folder / "read me.txt").write_text("no image")
    key = write(folder, [*rows, [""]], end=end, encoding=encoding)
    prepare(NAME, data_dir=tmp_path / "data", manual_dir=manual)
    found = {}
    for split in SPLITS:
        found |= by_name(tmp_path / "data", key, split)
    prefix = "images/" if where == "prefix" else ""
    expected = {prefix + name: row for name, row in zip(names(), signs(), strict=True)}
    assert {name: attributes for name, (_, attributes) in found.items()} == expected


def test_photographs_are_upright(tmp_path):
    folder = tmp_path / "manual"
    folder.mkdir()
    picture = np.zeros((30, 30, 3), np.uint8)
    picture[:15] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    image = Image.fromarray(picture)
    image.save(folder / "turned.jpg", exif=exif, quality=95)
    key = write(folder, [["name", "x"], ["turned.jpg", "1"]])
    if "train" not in prepare_all(folder, tmp_path):
        pytest.fail("turned.jpg belongs to train by its name")
    ((found, _),) = by_name(tmp_path / "data", key, "train").values()
    assert found[:, 40:].min() > 200
    assert found[:, :24].max() < 50


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation(form):
    picture = celeb_a_files.picture(0, (16, 24))
    for orientation in range(10):
        exif = Image.Exif()
        exif[0x0112] = orientation
        content = celeb_a_files.encode(picture, form, exif=exif)
        expected = ImageOps.exif_transpose(image_files.open_image(content))
        found = image_files.upright(image_files.open_image(content))
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def test_odd_exif_data_do_no_harm():
    picture = celeb_a_files.picture(0, (16, 24))
    exif = Image.Exif()
    exif[0x0112] = 6
    content = celeb_a_files.encode(picture, exif=exif)
    turned = image_files.upright(image_files.open_image(content))
    assert turned.size == (24, 16)
    # An ASCII tag with a rational in it: Pillow cannot write it again.
    image = image_files.open_image(content)
    rational = b"MM\0*\0\0\0\x08" + b"\0\x02"
    rational += b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"
    rational += b"\x01\x0e\0\x05\0\0\0\x01\0\0\0\x26" + bytes(4)
    rational += b"\0\0\0\x01\0\0\0\x02"
    image.info["exif"] = b"Exif\0\0" + rational
    with pytest.raises(AttributeError):
        ImageOps.exif_transpose(image.copy())
    assert image_files.upright(image.copy()).size == (24, 16)
    for broken in (b"Exif\0\0nonsense", b"Exif\0\0" + rational[:20], b"Exif\0\0MM\0*\0\0\0\xff"):
        image = image_files.open_image(content)
        image.info["exif"] = broken
        assert image_files.upright(image.copy()).size == (16, 24)


def prepare_all(folder, tmp_path):
    return prepare(NAME, data_dir=tmp_path / "data", manual_dir=folder).info.splits


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    folder = tmp_path / "manual"
    folder.mkdir()
    picture = Image.new("RGB", (30, 40), (255, 255, 255)).convert(mode)
    form = "tiff" if mode == "CMYK" else "png"
    options = {"transparency": bytes(range(256))} if mode == "P" else {}
    picture.save(folder / f"image.{form}", **options)
    key = write(folder, [["name", "x", "split"], [f"image.{form}", "0", "train"]])
    prepare_all(folder, tmp_path)
    ((found, attributes),) = by_name(tmp_path / "data", key, "train").values()
    assert found.min() == 255
    assert attributes == [-1]


# Keys


def test_the_csv_file_is_the_key(manual, tmp_path):
    data_dir = tmp_path / "data"
    key = _with_splits(manual)
    builder = prepare(f"{NAME}/16", data_dir=data_dir, manual_dir=manual)
    assert builder.builder_config.name == f"16_{key}"
    expected = load(f"{NAME}/16", "test", data_dir=data_dir, manual_dir=manual)
    rows = table([SPLITS[(i + 1) % 3] for i in range(60)])
    other = write(manual, rows)
    prepare(f"{NAME}/16", data_dir=data_dir, manual_dir=manual)
    assert {path.name for path in (data_dir / NAME).iterdir()} == {f"16_{key}", f"16_{other}"}
    for places in ({}, {"manual_dir": manual}, {"manual_dir": tmp_path / "nowhere"}):
        found = load(f"{NAME}/16_{key}", "test", data_dir=data_dir, **places)
        np.testing.assert_array_equal(found["image"], expected["image"])
        described = metadata(f"{NAME}/16_{key}", data_dir=data_dir, **places)
        assert described["attributes"] == ATTRIBUTES
        assert num_examples(f"{NAME}/16_{key}", "test", data_dir=data_dir, **places) == 20
    text = refused_where_prepared(f"{NAME}/16", data_dir)
    assert "manual_dir=None" in text
    assert "has no key" in text


def refused_where_prepared(name, data_dir):
    with pytest.raises(ValueError, match=f"^{NAME}: ") as info:
        load(name, "train", data_dir=data_dir)
    return str(info.value)


def test_a_key_prepares_only_its_own_csv_file(manual, tmp_path):
    key = write(manual, table())
    text = refused(manual, tmp_path, name=f"{NAME}/64_0123456789ab")
    assert f"{manual / 'table.csv'} has the key {key}; expected 0123456789ab" in text
    assert "manual_dir=None" in refused(None, tmp_path, FileNotFoundError, f"{NAME}/64_{key}")
    prepare(f"{NAME}/64_{key}", data_dir=tmp_path / "data", manual_dir=manual)
    assert metadata(f"{NAME}/64_{key}", data_dir=tmp_path / "data")["attributes"] == ATTRIBUTES


@pytest.mark.parametrize(
    "config", ["", "x", "64_abc", "64_0123456789AB", "064", "0", "5000", "9" * 5000]
)
def test_malformed_configurations(manual, tmp_path, config):
    write(manual, table())
    assert f"config {config!r}" in refused(manual, tmp_path, name=f"{NAME}/{config}")


def test_which_csv_file(manual, tmp_path):
    assert "holds no CSV file" in refused(manual, tmp_path, FileNotFoundError)
    assert "is no folder" in refused(tmp_path / "nowhere", tmp_path, FileNotFoundError)
    write(manual, [["nothing"]], "a.csv")
    write(manual, [["nothing"]], "b.CSV")
    assert "holds 2 CSV files: a.csv, b.CSV; expected one" in refused(manual, tmp_path)
    key = write(manual, table(), "attributes.csv")
    assert prepare_all(manual, tmp_path)["train"].num_examples > 40
    assert (tmp_path / "data" / NAME / f"64_{key}").is_dir()


# Bad input


def _set(row, column, value):
    def change(rows):
        rows[row][column] = value

    return change


BAD_ROWS = {
    "too short": (lambda rows: rows[4].pop(), "line 5 (image 3.webp) is too short: it has 3"),
    "too long": (lambda rows: rows[4].append("1"), "line 5 (image 3.webp) is too long: it has 5"),
    "another value": (_set(4, 2, "2"), "line 5 (image 3.webp): round is '2'; expected -1 or 0 or"),
    "no value": (_set(4, 3, ""), "line 5 (image 3.webp): Old one is ''"),
    "both kinds of values": (_set(4, 2, "0"), "has 0 in line 5 and -1 in line "),
    "a name twice": (_set(4, 0, "image 0.jpg"), "line 5: image 0.jpg stands in line 2 too"),
    "a name twice, spelt otherwise": (
        _set(4, 0, "./image 0.jpg"),
        "line 5: image 0.jpg stands in line 2 too",
    ),
    "an image twice": (
        _set(4, 0, "images/image 0.jpg"),
        "without a line in ",
    ),
    "commas alone": (
        lambda rows: rows.insert(4, ["", "", "", ""]),
        "line 5: no file name",
    ),
    "no name": (_set(4, 0, ""), "line 5: no file name"),
    "a path that leaves": (_set(4, 0, "../x.jpg"), "line 5: '../x.jpg' is a path that leaves"),
    "an inner path that leaves": (_set(4, 0, "b/../../x.jpg"), "line 5: 'b/../../x.jpg' is a path"),
    "an absolute path": (_set(4, 0, "/etc/x.jpg"), "line 5: '/etc/x.jpg' is a path that leaves"),
    "a drive": (_set(4, 0, "C:\\x.jpg"), "line 5: 'C:\\\\x.jpg' is a path that leaves"),
    "an attribute twice": (_set(0, 2, "red"), "line 1: the attribute 'red' stands there twice"),
    "an attribute without a name": (_set(0, 2, " "), "line 1: the attribute '' has no name"),
    "no attribute": (lambda rows: rows[0].__delitem__(slice(1, None)), "names no attribute"),
    "no lines": (lambda rows: rows.__delitem__(slice(1, None)), "names no image"),
    "nothing": (lambda rows: rows.clear(), "line 1: '' names no attribute"),
    "a name without an image": (
        lambda rows: rows.append(["nowhere.jpg", "1", "1", "1"]),
        "names nowhere.jpg without an image in ",
    ),
    "an image without a line": (lambda rows: rows.pop(), "without a line in "),
}


@pytest.mark.parametrize("bad", BAD_ROWS)
def test_bad_csv_files(manual, tmp_path, bad):
    rows = table()
    change, words = BAD_ROWS[bad]
    change(rows)
    write(manual, rows)
    text = refused(manual, tmp_path)
    assert words in text
    assert str(manual / "table.csv") in text
    assert not (tmp_path / "data").exists()


def test_lines_are_counted_as_editors_do(tmp_path):
    path = tmp_path / "table.txt"
    path.write_bytes("a\x0cb 1\r\n\r\nc\u2028 2\x0b3\r\n".encode())
    assert list(attribute_tables.read_rows(path)) == [
        (1, ["a", "b", "1"]),
        (3, ["c", "2", "3"]),
    ]
    path = tmp_path / "table.csv"
    path.write_text('a,b\n"c\nd",1\n\n  \n,\ne,2\n')
    rows = [(row.line, row.fields[0]) for row in attribute_tables.read_rows(path)]
    assert rows == [(1, "a"), (2, "c\nd"), (6, ""), (7, "e")]


def test_an_image_in_two_spellings(manual, tmp_path):
    (manual / "images" / names()[3]).unlink()
    rows = table()
    rows[4][0] = "images/image 0.jpg"
    write(manual, rows)
    assert "names image 0.jpg in two spellings" in refused(manual, tmp_path)


def test_an_unknown_split(manual, tmp_path):
    write(manual, table(["train"] * 59 + ["val"]))
    text = refused(manual, tmp_path)
    assert "line 61 (b/c/image 59.webp): split is 'val'; expected train, validation, test" in text


def test_bad_images(manual, tmp_path):
    write(manual, table())
    bad = manual / "images" / names()[7]
    bad.write_bytes(bad.read_bytes()[:50])
    assert f"{bad} does not decode" in refused(manual, tmp_path)
    with pytest.warns(UserWarning, match=f"left out 1 image that .*{names()[7]} does not"):
        prepare(NAME, data_dir=tmp_path / "data", manual_dir=manual, skip_bad_images=True)
    described = metadata(NAME, data_dir=tmp_path / "data", manual_dir=manual)
    assert list(described["skipped_images"]) == [names()[7]]


def test_suffixes_match_in_either_case_only_if_that_is_clear():
    paths = {"a.JPG": "1", "b.jpg": "2", "b.JPG": "3", "c.txt": "4"}
    found = image_names.match_names(["b.JPG", "a.jpg", "b.jpg"], paths, "list", "place")
    assert found == ["3", "1", "2"]
    with pytest.raises(ValueError, match=r"^place holds b\.JPG without a line in list"):
        image_names.match_names(["a.jpg", "b.jpg"], paths, "list", "place")
    with pytest.raises(ValueError, match=r"^list names a\.JPG in two spellings"):
        image_names.match_names(["a.Jpg", "a.jpg", "b.jpg", "b.JPG"], paths, "list", "place")
