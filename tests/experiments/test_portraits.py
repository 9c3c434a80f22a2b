"""Pictures of any kind to squares of pixels, and the words that say what is changed."""

import sys
import types

import numpy as np
import pytest
from PIL import Image

from experiments import portraits
from experiments.face_figures import parse_changes


@pytest.fixture
def picture_file(tmp_path):
    """Saves an image and returns its path."""

    def save(image, name="picture.png", **options):
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return save


def gradient(width, height):
    values = np.add.outer(np.arange(height), np.arange(width)) % 256
    return Image.fromarray(values.astype(np.uint8))


def test_grey_becomes_rgb(picture_file):
    found = portraits.read_picture(picture_file(gradient(30, 20)))
    assert (found.mode, found.size) == ("RGB", (30, 20))
    np.testing.assert_array_equal(np.asarray(found)[..., 0], np.asarray(gradient(30, 20)))


def test_what_is_transparent_is_white(picture_file):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:2] = (200, 10, 10, 255)
    found = np.asarray(portraits.read_picture(picture_file(Image.fromarray(pixels, "RGBA"))))
    assert found[0, 0].tolist() == [200, 10, 10]
    assert found[3, 3].tolist() == [255, 255, 255]


def test_sixteen_bits_keep_their_range(picture_file):
    deep = Image.fromarray(np.linspace(0, 65535, 16).reshape(4, 4).astype(np.uint16))
    found = np.asarray(portraits.read_picture(picture_file(deep)))
    assert (found.min(), found.max()) == (0, 255)


def test_a_picture_stands_upright(picture_file):
    image = Image.new("RGB", (8, 4), "black")
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by a quarter
    found = portraits.read_picture(picture_file(image, "turned.jpg", exif=exif))
    assert found.size == (4, 8)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"just words", "is no picture that can be read"),
        (b"", "is no picture that can be read"),
        (None, "cannot be decoded"),
    ],
)
def test_what_is_no_picture_is_named(tmp_path, content, words):
    path = tmp_path / "portrait.png"
    if content is None:
        gradient(300, 300).save(path)
        content = path.read_bytes()[:600]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as error:
        portraits.read_picture(path)
    assert "portrait.png" in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nobody\.jpg.*no such file"):
        portraits.read_picture(tmp_path / "nobody.jpg")


@pytest.mark.parametrize(
    ("size", "box"), [((90, 120), (0, 15, 90)), ((120, 90), (15, 0, 90)), ((7, 7), (0, 0, 7))]
)
def test_the_center_is_the_largest_square(size, box):
    assert portraits.choose_crop(Image.new("RGB", size), "center")[:3] == box


def test_a_square_of_ones_own_is_taken_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    crop = portraits.choose_crop(picture, "5,2,16")
    np.testing.assert_array_equal(portraits.cropped(picture, crop, 16), pixels[2:18, 5:21])


def test_shrinking_takes_averages():
    board = np.zeros((64, 64, 3), np.uint8)
    board[::2, ::2] = board[1::2, 1::2] = 255
    picture = Image.fromarray(board)
    found = portraits.cropped(picture, portraits.choose_crop(picture, "center"), 8)
    assert found[2:-2, 2:-2].min() >= 120
    assert found[2:-2, 2:-2].max() <= 135


def test_what_is_outside_the_square_has_no_share_in_it():
    board = np.full((40, 40, 3), 255, np.uint8)
    board[10:30, 10:30] = 128
    picture = Image.fromarray(board)
    found = portraits.cropped(picture, portraits.choose_crop(picture, "10,10,20"), 8)
    assert np.unique(found).tolist() == [128]


@pytest.mark.parametrize("crop", ["middle", "1,2", "1,2,x", "0,0,31", "-1,0,5", "0,0,0", "29,0,2"])
def test_a_bad_crop_is_named(crop):
    with pytest.raises(ValueError, match="crop='"):
        portraits.choose_crop(Image.new("RGB", (30, 40)), crop)


def test_auto_says_what_it_did():
    found = portraits.choose_crop(Image.new("RGB", (30, 40)), "auto")
    assert found[:3] == (0, 5, 30)
    assert "central square" in found.chosen


def test_a_detector_that_is_there_is_asked(monkeypatch):
    class Cascade:
        def __init__(self, path):
            assert path.endswith("haarcascade_frontalface_default.xml")

        def detectMultiScale(self, grey, *options):  # noqa: N802 - OpenCV's name
            assert grey.shape == (200, 300)
            return found

    data = types.SimpleNamespace(haarcascades="somewhere/")
    monkeypatch.setitem(
        sys.modules, "cv2", types.SimpleNamespace(CascadeClassifier=Cascade, data=data)
    )
    picture = Image.new("RGB", (300, 200))
    found = np.array([[10, 20, 30, 30], [100, 50, 80, 80]])
    crop = portraits.choose_crop(picture, "auto")
    # The larger box, 1.3 times as wide around the same center.
    assert crop == (88, 38, 104, "the face that OpenCV finds")
    found = np.array([[250, 150, 50, 50]])
    assert portraits.choose_crop(picture, "auto")[:3] == (235, 135, 65)
    found = ()
    assert "finds no face" in portraits.choose_crop(picture, "auto").chosen


NAMES = ("Smiling", "Male", "No_Beard")


def test_changes_are_numbers_by_name():
    assert parse_changes(["Smiling=2", "Male=-0.5"], NAMES) == [("Smiling", 2.0), ("Male", -0.5)]


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("Smilling=2", r"nearest: 'Smiling'"),
        ("Smiling", "expected Smiling=NUMBER"),
        ("Smiling=much", "expected Smiling=NUMBER"),
        ("Male=nan", "expected a finite number"),
    ],
)
def test_a_bad_change_is_named(word, words):
    with pytest.raises(ValueError, match=words):
        parse_changes([word], NAMES)
