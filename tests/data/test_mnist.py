"""The MNIST family: preparing without TensorFlow and network, and loading as arrays."""

import fcntl
import gzip
import hashlib
import importlib.resources
import json
import pathlib
import re
import shutil
import sys
import urllib.request
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core import shuffle

from jmvae_jax.data import decoded, load, loading, mnist, prepare

STEMS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
PACKAGED = importlib.resources.files("jmvae_jax.data") / "files" / "mnist"


@pytest.fixture
def own_mnist_dir(mnist_dir, tmp_path):
    return shutil.copytree(mnist_dir, tmp_path / "own")


def idx(array):
    """The bytes of an IDX file of a uint8 array."""
    header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def raw(stem):
    """The array in one of the packaged files, read without the library."""
    payload = gzip.decompress((PACKAGED / f"{stem}.gz").read_bytes())
    ndim = payload[3]
    shape = np.frombuffer(payload, ">u4", ndim, offset=4)
    return np.frombuffer(payload, np.uint8, offset=4 + 4 * ndim).reshape(shape)


@pytest.fixture
def small_fashion(monkeypatch, tmp_path):
    """A manual_dir with 30 + 20 synthetic garments whose sums are the registered ones."""
    rng = np.random.default_rng(0)
    payloads = [
        idx(rng.integers(0, 256, (30, 28, 28))),
        idx(rng.integers(0, 10, 30)),
        idx(rng.integers(0, 256, (20, 28, 28))),
        idx(rng.integers(0, 10, 20)),
    ]
    sums = tuple(hashlib.sha256(payload).hexdigest() for payload in payloads)
    monkeypatch.setitem(mnist._SHA256, "fashion_mnist", sums)
    folder = tmp_path / "manual"
    folder.mkdir()
    for stem, payload in zip(STEMS, payloads, strict=True):
        (folder / f"{stem}.gz").write_bytes(gzip.compress(payload))
    return folder


def snapshot(folder):
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in pathlib.Path(folder).rglob("*")}


def message(info):
    """The text of a caught error, which must be one paragraph."""
    text = str(info.value)
    assert "\n" not in text
    return text


# MNIST as it ships


def test_packaged_files_are_the_canonical_ones():
    registered = {i.filename: i.checksum for i in mnist.stock.MNIST.url_infos.values()}
    for stem in STEMS:
        packed = (PACKAGED / f"{stem}.gz").read_bytes()
        assert hashlib.sha256(packed).hexdigest() == registered[f"{stem}.gz"]


@pytest.mark.parametrize(("split", "prefix"), [("train", "train"), ("test", "t10k")])
def test_every_example_is_there_in_the_order_of_tfds(mnist_dir, split, prefix):
    arrays = load("mnist", split, data_dir=mnist_dir)
    images, labels = raw(f"{prefix}-images-idx3-ubyte"), raw(f"{prefix}-labels-idx1-ubyte")
    count = len(labels)
    assert count == {"train": 60_000, "test": 10_000}[split]
    # TFDS sorts by the MD5 of the split's name and the example's number.
    order = sorted(range(count), key=lambda i: hashlib.md5(f"{split}{i}".encode()).digest())
    np.testing.assert_array_equal(arrays["image"][..., 0], images[order])
    np.testing.assert_array_equal(arrays["label"], labels[order])
    np.testing.assert_array_equal(arrays["index"], np.arange(count))


def test_shapes_dtypes_and_label_histogram(mnist_dir):
    arrays = load("mnist", "test", data_dir=mnist_dir)
    assert {key: (a.shape, a.dtype.name) for key, a in arrays.items()} == {
        "image": ((10_000, 28, 28, 1), "uint8"),
        "label": ((10_000,), "int32"),
        "index": ((10_000,), "int32"),
    }
    histogram = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(arrays["label"]).tolist() == histogram
    assert np.bincount(raw("t10k-labels-idx1-ubyte")).tolist() == histogram


def test_layout_on_disk_is_the_stock_one(mnist_dir):
    folder = mnist_dir / "mnist" / "3.0.1"
    names = {p.name for p in folder.iterdir() if not p.name.endswith(".npz")}
    assert names == {
        "dataset_info.json",
        "features.json",
        "mnist-test.array_record-00000-of-00001",
        "mnist-train.array_record-00000-of-00001",
    }
    assert [p.name for p in mnist_dir.iterdir()] == ["mnist"]
    stock = tfds.builder("mnist", data_dir=mnist_dir)
    assert stock.is_prepared()
    assert stock.info.supervised_keys == ("image", "label")
    ours = load("mnist", "test[:20]", data_dir=mnist_dir)
    for builder in (stock, tfds.builder_from_directory(folder)):
        source = builder.as_data_source("test")
        examples = [source[i] for i in range(20)]
        np.testing.assert_array_equal([e["image"] for e in examples], ours["image"])
        np.testing.assert_array_equal([e["label"] for e in examples], ours["label"])


def test_prepared_data_are_used_as_they_are(mnist_dir, monkeypatch):
    monkeypatch.setattr(mnist.Mnist, "collect_sources", None)
    load("mnist", "test", data_dir=mnist_dir)
    before = snapshot(mnist_dir)
    builder = prepare("mnist", data_dir=str(mnist_dir))
    load("mnist", "test", data_dir=mnist_dir)
    assert builder.info.splits["train"].num_examples == 60_000
    assert snapshot(mnist_dir) == before


def test_no_tensorflow(mnist_dir):
    load("mnist", "test[:1]", data_dir=mnist_dir)
    assert "tensorflow" not in sys.modules


# Splits


@pytest.mark.parametrize(
    ("split", "terms"),
    [
        ("test[2000:]", [("test", 2000, 10_000)]),
        ("test[-10:]", [("test", 9990, 10_000)]),
        ("train[:50000]", [("train", 0, 50_000)]),
        ("train[10%:]", [("train", 6000, 60_000)]),
        ("train+test", [("train", 0, 60_000), ("test", 0, 10_000)]),
        ("test[5:8]+train[:2]+test[:1]", [("test", 5, 8), ("train", 0, 2), ("test", 0, 1)]),
    ],
)
def test_parts_of_splits(mnist_dir, split, terms):
    part = load("mnist", split, data_dir=mnist_dir)
    whole = {base: load("mnist", base, data_dir=mnist_dir) for base, _, _ in terms}
    for key in ("image", "label", "index"):
        expected = np.concatenate([whole[base][key][start:stop] for base, start, stop in terms])
        np.testing.assert_array_equal(part[key], expected)
        assert part[key].dtype == expected.dtype


@pytest.mark.parametrize(
    "split",
    ["validation", "test[:0]", "test[8:5]", "test[:10001]", "test[7]", "test[", "", "all[:3]"],
)
def test_unknown_malformed_and_empty_splits(mnist_dir, split):
    with pytest.raises(ValueError, match=re.escape(f"split={split!r}")) as info:
        load("mnist", split, data_dir=mnist_dir)
    assert "train (60000 examples), test (10000 examples)" in str(info.value)


# The decoded copy


@pytest.mark.parametrize("damage", ["truncated", "flipped byte", "empty", "pickle", "stale"])
def test_a_bad_copy_is_rebuilt(small_fashion, tmp_path, damage):
    where = {"data_dir": tmp_path / "data", "manual_dir": small_fashion}
    before = load("fashion_mnist", "test", **where)
    copy = tmp_path / "data" / "fashion_mnist" / "3.0.1" / "test.decoded.npz"
    good = copy.read_bytes()
    if damage == "truncated":
        copy.write_bytes(good[: len(good) // 2])
    elif damage == "flipped byte":
        position = len(good) // 2
        copy.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
    elif damage == "empty":
        copy.write_bytes(b"")
    elif damage == "pickle":
        np.savez(copy, fingerprint=np.array([{}], object))
    else:
        np.savez(copy, fingerprint=np.array("0"), image=before["image"] * 0, label=before["label"])
    after = load("fashion_mnist", "test", **where)
    for key, array in before.items():
        np.testing.assert_array_equal(after[key], array)
    assert copy.read_bytes() == good


def test_every_flipped_byte_of_a_copy_is_noticed_or_harmless(small_fashion, tmp_path):
    where = {"data_dir": tmp_path / "data", "manual_dir": small_fashion}
    before = load("fashion_mnist", "test[:2]", **where)
    builder = prepare("fashion_mnist", **where)
    specs = decoded.array_specs(builder, "test")
    fingerprint = decoded._fingerprint(builder, "test")
    copy = tmp_path / "data" / "fashion_mnist" / "3.0.1" / "test.decoded.npz"
    good = copy.read_bytes()
    for position in np.random.default_rng(1).choice(len(good), 200, replace=False):
        bad = bytearray(good)
        bad[position] ^= 1 << int(position) % 8
        copy.write_bytes(bad)
        arrays = decoded._read_copy(copy, fingerprint, specs)
        if arrays is not None:
            np.testing.assert_array_equal(arrays["image"][:2], before["image"])
            np.testing.assert_array_equal(arrays["label"][:2], before["label"])


def test_the_copy_is_read_instead_of_decoding(small_fashion, tmp_path, monkeypatch):
    where = {"data_dir": tmp_path / "data", "manual_dir": small_fashion}
    load("fashion_mnist", "test", **where)
    monkeypatch.setattr(decoded, "_decode", None)
    assert len(load("fashion_mnist", "test[5:]", **where)["image"]) == 15


def test_copy_of_other_shards_is_rebuilt(own_mnist_dir, monkeypatch):
    fingerprint = decoded._fingerprint(prepare("mnist", data_dir=own_mnist_dir), "test")
    shard = own_mnist_dir / "mnist" / "3.0.1" / "mnist-test.array_record-00000-of-00001"
    shard.write_bytes(shard.read_bytes() + b"\0")
    builder = prepare("mnist", data_dir=own_mnist_dir)
    assert decoded._fingerprint(builder, "test") != fingerprint


def test_a_copy_that_cannot_be_kept_is_announced(small_fashion, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    where = {"data_dir": tmp_path / "data", "manual_dir": small_fashion}
    prepare("fashion_mnist", **where)
    monkeypatch.setattr(decoded.os, "replace", refuse)
    with pytest.warns(UserWarning, match="decoded again"):
        assert len(load("fashion_mnist", "test", **where)["label"]) == 20
    assert not [p for p in (tmp_path / "data").rglob("*") if "decoded" in p.name]


# Source files


@pytest.mark.parametrize("form", ["gz", "packed again", "unpacked", "unpacked .gz", "dots"])
@pytest.mark.parametrize("subfolder", ["", "fashion_mnist"])
def test_forms_of_source_files(small_fashion, tmp_path, form, subfolder):
    folder = tmp_path / "other" / subfolder
    folder.mkdir(parents=True)
    for stem in STEMS:
        payload = gzip.decompress((small_fashion / f"{stem}.gz").read_bytes())
        name, content = {
            "gz": (f"{stem}.gz", gzip.compress(payload)),
            "packed again": (f"{stem}.gz", gzip.compress(payload, 1, mtime=1)),
            "unpacked": (stem, payload),
            "unpacked .gz": (f"{stem}.gz", payload),
            "dots": (stem.replace("-idx", ".idx"), payload),
        }[form]
        (folder / name).write_bytes(content)
    builder = mnist.FashionMnist(data_dir=tmp_path / "data")
    builder.collect_sources(tmp_path / "other")
    assert [len(labels) for _, labels in builder._sources.values()] == [30, 20]


def test_fashion_mnist_from_manual_dir(small_fashion, tmp_path):
    where = {"data_dir": tmp_path / "data", "manual_dir": small_fashion}
    arrays = load("fashion_mnist", "train", **where)
    payload = gzip.decompress((small_fashion / f"{STEMS[0]}.gz").read_bytes())
    images = np.frombuffer(payload, np.uint8, offset=16).reshape(30, 28, 28)
    assert {a.tobytes() for a in images} == {a.tobytes() for a in arrays["image"]}
    folder = tmp_path / "data" / "fashion_mnist" / "3.0.1"
    assert (folder / "label.labels.txt").read_text().split("\n")[:2] == ["T-shirt/top", "Trouser"]
    assert prepare("fashion_mnist", data_dir=tmp_path / "data").info.full_name == (
        "fashion_mnist/3.0.1"
    )


def test_mnist_prefers_manual_dir(tmp_path):
    (tmp_path / f"{STEMS[3]}.gz").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="mnist") as info:
        mnist.Mnist(data_dir=tmp_path / "data").collect_sources(tmp_path)
    assert str(tmp_path / STEMS[3]) in message(info)


@pytest.mark.parametrize("name", ["fashion_mnist", "kmnist"])
def test_missing_files(tmp_path, name):
    manual_dir = tmp_path / "manual"
    manual_dir.mkdir()
    for folder in (None, manual_dir):
        with pytest.raises(FileNotFoundError, match=name) as info:
            prepare(name, data_dir=tmp_path / "data", manual_dir=folder)
        for part in (*STEMS, "http://", f"manual_dir={folder and str(folder)!r}", "download=True"):
            assert part in message(info)
    with pytest.raises(FileNotFoundError, match=r"manual_dir=.*is no folder"):
        prepare(name, data_dir=tmp_path / "data", manual_dir=tmp_path / "nowhere")
    assert not (tmp_path / "data").exists()


LABELS = idx(np.zeros(30))
IMAGES = idx(np.zeros((30, 28, 28)))
BAD = {
    "empty": (b"", "(none)"),
    "a page": (b"<!DOCTYPE html>" * 9, "3c 21 44 4f"),
    "images for labels": (IMAGES, "00 00 08 03"),
    "no header": (LABELS[:6], "00 00 08 01"),
    "truncated": (LABELS[:-1], "shape (30,) before 29 bytes"),
    "too long": (LABELS + b"\0", "shape (30,) before 31 bytes"),
    "no example": (idx(np.zeros(0)), "shape (0,) before 0 bytes"),
    "truncated gzip": (gzip.compress(LABELS)[:-5], "truncated or damaged gzip file"),
    "damaged gzip": (gzip.compress(LABELS)[:-8] + bytes(8), "truncated or damaged gzip file"),
    "wrong sum": (LABELS, f"SHA-256 {hashlib.sha256(LABELS).hexdigest()}"),
    "wrong sum packed": (gzip.compress(LABELS), f"SHA-256 {hashlib.sha256(LABELS).hexdigest()}"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_files(small_fashion, tmp_path, bad):
    content, came = BAD[bad]
    path = small_fashion / f"{STEMS[1]}.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="fashion_mnist") as info:
        prepare("fashion_mnist", data_dir=tmp_path / "data", manual_dir=small_fashion)
    for part in (str(path), came, "expected", "manual_dir"):
        assert part in message(info)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("labels", [np.zeros(29), np.full(30, 10)])
def test_labels_that_do_not_fit(small_fashion, tmp_path, monkeypatch, labels):
    payload = idx(labels)
    sums = list(mnist._SHA256["fashion_mnist"])
    sums[1] = hashlib.sha256(payload).hexdigest()
    monkeypatch.setitem(mnist._SHA256, "fashion_mnist", tuple(sums))
    (small_fashion / f"{STEMS[1]}.gz").write_bytes(payload)
    with pytest.raises(ValueError, match=f"train split came with 30 images, {len(labels)} labels"):
        prepare("fashion_mnist", data_dir=tmp_path / "data", manual_dir=small_fashion)


def test_kmnist_without_known_sums(tmp_path):
    sizes = [(60_000, 28, 28), (60_000,), (10_000, 28, 28), (10_000,)]
    for stem, shape in zip(STEMS, sizes, strict=True):
        (tmp_path / stem).write_bytes(idx(np.zeros(shape, np.uint8)))
    builder = mnist.Kmnist(data_dir=tmp_path / "data")
    with pytest.warns(UserWarning, match="kmnist.*only its format") as caught:
        builder.collect_sources(tmp_path)
    assert len(caught) == 4
    (tmp_path / STEMS[3]).write_bytes(idx(np.zeros(9_999, np.uint8)))
    with (
        pytest.warns(UserWarning, match="kmnist"),
        pytest.raises(ValueError, match="holds 9999 examples; expected 10000"),
    ):
        builder.collect_sources(tmp_path)


def test_kmnist_with_registered_sums(tmp_path, monkeypatch):
    infos = {}
    for stem, shape in zip(STEMS, [(3, 28, 28), (3,), (2, 28, 28), (2,)], strict=True):
        packed = gzip.compress(idx(np.zeros(shape, np.uint8)))
        (tmp_path / f"{stem}.gz").write_bytes(packed)
        checksum = hashlib.sha256(packed).hexdigest()
        infos[stem] = SimpleNamespace(filename=f"{stem}.gz", checksum=checksum)
    monkeypatch.setattr(mnist.stock, "KMNIST", SimpleNamespace(url_infos=infos))
    builder = mnist.Kmnist(data_dir=tmp_path / "data")
    with warnings.catch_warnings(action="error"):
        builder.collect_sources(tmp_path)
    for train, test in zip(STEMS[:2], STEMS[2:], strict=True):
        for source, target in ((train, f"new-{test}"), (test, train), (f"new-{test}", test)):
            (tmp_path / f"{source}.gz").rename(tmp_path / f"{target}.gz")
    with pytest.raises(ValueError, match="holds 2 examples; expected 60000"):
        builder.collect_sources(tmp_path)


def test_download_only_when_asked_and_verified(small_fashion, tmp_path, monkeypatch):
    where = {"data_dir": tmp_path / "data", "download": True}
    with pytest.raises(OSError, match=r"fashion_mnist: http.*the network was tried"):
        prepare("fashion_mnist", **where)
    asked = []

    def serve(url, timeout):
        asked.append(url)
        return (small_fashion / url.rsplit("/", 1)[1]).open("rb")

    monkeypatch.setattr(urllib.request, "urlopen", serve)
    good = (small_fashion / f"{STEMS[0]}.gz").read_bytes()
    (small_fashion / f"{STEMS[0]}.gz").write_bytes(good[:-9])
    with pytest.raises(ValueError, match=r"fashion_mnist: http.*truncated or damaged"):
        prepare("fashion_mnist", **where)
    (small_fashion / f"{STEMS[0]}.gz").write_bytes(good)
    asked.clear()
    assert prepare("fashion_mnist", **where).info.splits["test"].num_examples == 20
    assert [url.rsplit("/", 1)[1] for url in asked] == [f"{stem}.gz" for stem in STEMS]
    assert {url.rsplit("/", 1)[0] + "/" for url in asked} == {mnist.FashionMnist.URL}


# Where it is prepared


@pytest.mark.parametrize(("name", "near"), [("mnits", "'mnist'"), ("fashion-mnist", "'fashion_")])
def test_unknown_names(tmp_path, name, near):
    with pytest.raises(ValueError, match=f"Did you mean {near}") as info:
        prepare(name, data_dir=tmp_path)
    assert "fashion_mnist, kmnist, mnist" in message(info)


def test_stock_names_versions_and_class_names():
    builders = (mnist.Mnist, mnist.FashionMnist, mnist.Kmnist)
    assert [(b.name, str(b.VERSION)) for b in builders] == [
        ("mnist", "3.0.1"),
        ("fashion_mnist", "3.0.1"),
        ("kmnist", "3.0.1"),
    ]
    assert tfds.builder_cls("mnist") is mnist.stock.MNIST


def test_another_format_is_refused(own_mnist_dir):
    path = own_mnist_dir / "mnist" / "3.0.1" / "dataset_info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fileFormat": "tfrecord"}))
    with pytest.raises(ValueError, match=r"format tfrecord.*expected array_record.*data_dir"):
        load("mnist", "test", data_dir=own_mnist_dir)


def test_incomplete_data_are_refused(own_mnist_dir):
    folder = own_mnist_dir / "mnist" / "3.0.1"
    (folder / "mnist-test.array_record-00000-of-00001").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks mnist-test\.array_record-00000-of-00001"):
        load("mnist", "test", data_dir=own_mnist_dir)
    (folder / "dataset_info.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no dataset_info.json.*Delete"):
        load("mnist", "test", data_dir=own_mnist_dir)


def test_unwritable_data_dir(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"mnist: cannot write to .*Not a directory.*data_dir"):
        prepare("mnist", data_dir=tmp_path / "file" / "data")


def test_an_interrupted_preparation_leaves_nothing(small_fashion, tmp_path, monkeypatch):
    def interrupted(self, images, labels):
        yield 0, {"image": Image.fromarray(images[0]), "label": int(labels[0])}
        raise KeyboardInterrupt

    where = {"data_dir": tmp_path / "data", "manual_dir": small_fashion}
    with monkeypatch.context() as patch:
        patch.setattr(mnist.FashionMnist, "_generate_examples", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare("fashion_mnist", **where)
    files = [p for p in (tmp_path / "data").rglob("*") if p.is_file()]
    assert [p.name for p in files] == [".3.0.1.lock"]
    assert len(load("fashion_mnist", "test", **where)["label"]) == 20


def test_one_writer_at_a_time(small_fashion, tmp_path):
    builder = mnist.FashionMnist(data_dir=tmp_path / "data")
    path = tmp_path / "data" / "fashion_mnist" / ".3.0.1.lock"
    with loading._only_writer(builder), path.open() as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with path.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_a_faster_process_prepared_is_used(small_fashion, tmp_path, monkeypatch):
    where = {"data_dir": tmp_path / "data", "manual_dir": small_fashion}
    lock, seen = loading._only_writer, []

    def late(builder):
        monkeypatch.setattr(loading, "_only_writer", lock)
        prepare("fashion_mnist", **where)
        seen.append(snapshot(builder.data_dir))
        return lock(builder)

    monkeypatch.setattr(loading, "_only_writer", late)
    builder = prepare("fashion_mnist", **where)
    assert builder.info.splits["train"].num_examples == 30
    assert [snapshot(builder.data_dir)] == seen


# Other data sets


class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Faces with attributes and a file name."""

    VERSION = tfds.core.Version("1.0.0")

    def collect_sources(self, manual_dir=None, download=False):
        pass

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(
                        shape=(8, 8, 3), dtype=np.uint8, encoding=tfds.features.Encoding.BYTES
                    ),
                    "attributes": tfds.features.Tensor(shape=(40,), dtype=np.int8),
                    "file_name": tfds.features.Text(),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(12):
            yield (
                f"{i}.jpg",
                {
                    "image": np.full((8, 8, 3), i, np.uint8),
                    "attributes": np.full(40, -i, np.int8),
                    "file_name": f"{i}.jpg",
                },
            )


def test_a_large_data_set_needs_no_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setitem(loading._BUILDERS, "tiny", (__name__, "Tiny"))
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 1000)
    assert prepare("tiny", data_dir=tmp_path).info.splits["train"].num_examples == 12
    assert shuffle.MAX_MEM_BUFFER_SIZE == 1000


def test_another_data_set_is_one_entry(tmp_path, monkeypatch):
    monkeypatch.setitem(loading._BUILDERS, "tiny", (__name__, "Tiny"))
    for _ in range(2):  # decoded, then from the copy
        arrays = load("tiny", "train[:10]", data_dir=tmp_path)
        assert {key: (a.shape, a.dtype.name) for key, a in arrays.items()} == {
            "image": ((10, 8, 8, 3), "uint8"),
            "attributes": ((10, 40), "int8"),
            "index": ((10,), "int32"),
        }
        np.testing.assert_array_equal(arrays["image"][:, 0, 0, 0], -arrays["attributes"][:, 0])


def test_damaged_prepared_files_are_named(small_fashion, tmp_path):
    where = {"data_dir": tmp_path / "data", "manual_dir": small_fashion}
    folder = pathlib.Path(prepare("fashion_mnist", **where).data_dir)
    shard = folder / "fashion_mnist-test.array_record-00000-of-00001"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"prepared test split .* is damaged .*Delete that folder"):
        load("fashion_mnist", "test", **where)
    shard.write_bytes(whole)
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(ValueError, match=r"description of the prepared data set .* is damaged"):
        load("fashion_mnist", "test", **where)


def test_a_copy_with_any_byte_of_its_directory_damaged_is_rebuilt(small_fashion, tmp_path):
    where = {"data_dir": tmp_path / "data", "manual_dir": small_fashion}
    expected = load("fashion_mnist", "test", **where)
    (copy,) = (tmp_path / "data").rglob("test.decoded.npz")
    whole = copy.read_bytes()
    for position in range(len(whole) - 330, len(whole), 11):
        for bit in (1, 8, 32):
            data = bytearray(whole)
            data[position] ^= bit
            copy.write_bytes(bytes(data))
            found = load("fashion_mnist", "test", **where)
            np.testing.assert_array_equal(found["image"], expected["image"])
