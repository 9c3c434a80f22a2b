"""Pictures: where every pixel goes, what is refused, and what an import costs."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jmvae_jax.plotting import Cloud, Grid, save_clouds, save_grids, tile

WHITE = 255


def test_grey_tiles_stand_in_rows_and_columns_with_white_between():
    # Image (row, column) is 2 x 1 pixels of 10 * row + column + 1, in units of 1 / 255.
    images = np.array([[[1, 1], [2, 2], [3, 3]], [[11, 11], [12, 12], [13, 13]]]) / 255
    picture = tile(images.reshape(2, 3, 2, 1, 1))
    assert picture.dtype == np.uint8
    expected = np.array(
        [
            [1, WHITE, 2, WHITE, 3],
            [1, WHITE, 2, WHITE, 3],
            [WHITE] * 5,
            [11, WHITE, 12, WHITE, 13],
            [11, WHITE, 12, WHITE, 13],
        ]
    )
    for channel in range(3):
        np.testing.assert_array_equal(picture[:5, :5, channel], expected)
    assert (picture[5:] == WHITE).all()
    assert (picture[:, 5:] == WHITE).all()


def test_gaps_stand_between_neighbours_only():
    assert tile(np.zeros((2, 3, 4, 5, 1)), gap=2).shape == (2 * 4 + 2, 3 * 5 + 2 * 2, 3)


def test_without_a_gap_the_tiles_touch():
    images = np.arange(8).reshape(2, 2, 1, 2, 1) / 255
    expected = [[0, 1, 2, 3], [4, 5, 6, 7]]
    np.testing.assert_array_equal(tile(images, gap=0)[..., 0], expected)


@pytest.mark.parametrize("gap", [1, 3])
def test_the_gap_is_so_many_white_pixels(gap):
    picture = tile(np.zeros((2, 2, 1, 1, 1)), gap=gap)[..., 0]
    dark = {(int(row), int(column)) for row, column in np.argwhere(picture == 0)}
    assert dark == {(0, 0), (0, 1 + gap), (1 + gap, 0), (1 + gap, 1 + gap)}
    assert set(np.unique(picture)) == {0, WHITE}


def test_colours_keep_their_channels():
    images = np.zeros((1, 2, 1, 1, 3))
    images[0, 0, 0, 0] = (1.0, 0.0, 0.2)
    images[0, 1, 0, 0] = (0.0, 0.4, 1.0)
    picture = tile(images)
    assert picture[0, 0].tolist() == [255, 0, 51]
    assert picture[0, 1].tolist() == [WHITE] * 3
    assert picture[0, 2].tolist() == [0, 102, 255]


def test_values_are_clipped_and_rounded():
    values = np.array([-3.0, 0.499 / 255, 0.501 / 255, 254.6 / 255, 7.0])
    picture = tile(values.reshape(1, 1, 1, 5, 1))
    assert picture[0, :5, 0].tolist() == [0, 0, 1, 255, 255]


@pytest.mark.parametrize(
    ("value", "words"),
    [(np.uint8(7), "uint8 above 1: expected values in"), (np.nan, "a value is not finite")],
)
def test_other_values_are_refused(value, words):
    with pytest.raises(ValueError, match=words):
        tile(np.full((1, 1, 2, 2, 1), value))


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (2, 3, 4, 4, 2), (2, 3, 4, 4, 4), (4, 4, 1)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"images have shape"):
        tile(np.zeros(shape))
    with pytest.raises(ValueError, match=r"images have shape"):
        Grid(np.zeros(shape), ["a", "b"])


@pytest.mark.parametrize("column_names", [(), ("0", "1", "2")])
def test_a_grid_is_a_png_larger_than_its_tiles(tmp_path, column_names):
    images = np.random.default_rng(0).uniform(size=(2, 3, 28, 28, 1))
    path = tmp_path / "grid.png"
    save_grids(path, [Grid(images, ("a", "b"), column_names, title="digits")])
    height, width, _ = tile(images).shape
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert picture.width > width
        assert picture.height > height
        levels = np.asarray(picture.convert("L"))
    # The noise of the tiles is in it, not only paper and letters.
    assert len(np.unique(levels)) > 200


def test_a_grid_shows_the_names_of_its_columns(tmp_path):
    images = np.zeros((1, 2, 8, 8, 1))
    heights = []
    for number, names in enumerate([(), ("left", "right")]):
        path = tmp_path / f"{number}.png"
        save_grids(path, [Grid(images, ["a"], names)])
        with Image.open(path) as picture:
            heights.append(np.asarray(picture.convert("L")).copy())
    # The drawing ends where its last letter does.
    assert heights[1].shape[0] > heights[0].shape[0] + 10


def test_a_wrong_number_of_names_is_refused():
    images = np.zeros((1, 3, 8, 8, 1))
    for names in ((["a"], ["only one"]), (["a", "b"], [])):
        with pytest.raises(
            ValueError, match=r"row_names and column_names have .* expected 1, and 3"
        ):
            Grid(images, *names)


def test_a_file_that_cannot_be_written_raises(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        save_grids(tmp_path / "nowhere" / "grid.png", [Grid(np.zeros((1, 1, 2, 2, 1)), ["a"])])


def picture_of(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).copy()


def test_grids_stand_side_by_side_under_one_title(tmp_path):
    one, two = (Grid(np.full((2, 3, 8, 8, 1), grey), ["a", "b"]) for grey in (0.25, 0.75))
    save_grids(tmp_path / "one.png", [one])
    save_grids(tmp_path / "two.png", [one, two], title="both")
    single, both = picture_of(tmp_path / "one.png"), picture_of(tmp_path / "two.png")
    assert both.shape[1] > 1.8 * single.shape[1]
    half = both.shape[1] // 2
    left, right = both[:, :half], both[:, half:]
    for level, here, there in ((64, left, right), (191, right, left)):
        assert (here == level).all(axis=-1).sum() > 1000
        assert (there == level).all(axis=-1).sum() < 100


def test_clouds_are_drawn_in_the_colours_of_their_classes(tmp_path):
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(3), 200)
    points = rng.normal(size=(600, 2)) + 10.0 * classes[:, None]
    cloud = Cloud(points, classes, "three")
    save_clouds(tmp_path / "clouds.png", [cloud, cloud], title="map", class_label="class")
    picture = picture_of(tmp_path / "clouds.png")
    for colour in ((31, 119, 180), (255, 127, 14), (44, 160, 44)):  # tab10
        half = picture.shape[1] // 2
        for side in (picture[:, :half], picture[:, half:]):
            rows, _ = np.nonzero((side == colour).all(axis=-1))
            assert len(rows) > 50
            # A class lies together: its points spread over a part of the panel.
            assert np.percentile(rows, 90) - np.percentile(rows, 10) < picture.shape[0] / 3


def test_what_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"points have shape \(5, 3\): expected \[5, 2\]"):
        Cloud(np.zeros((5, 3)), np.zeros(5, int), "")
    with pytest.raises(ValueError, match="grids is empty"):
        save_grids(tmp_path / "x.png", [])
    with pytest.raises(ValueError, match="clouds is empty"):
        save_clouds(tmp_path / "x.png", [], "", "")


# What an import costs

PROBE = """
import json, sys
import jax

asked = set()

class Watch:
    # Sees what is asked for even where it is not installed.
    def find_spec(self, name, path=None, target=None):
        asked.add(name.split(".")[0])

sys.meta_path.insert(0, Watch())
before = dict(jax.config.values)
import jmvae_jax
here = set(asked)
after = dict(jax.config.values)
import jmvae_jax.plotting
print(json.dumps({
    "asked": sorted(here),
    "plotting": sorted(asked - here),
    "modules": sorted({name.split(".")[0] for name in sys.modules}),
    "settings": len(before),
    "changed": sorted(k for k in before | after if before.get(k) != after.get(k)),
    "x64": bool(jax.numpy.zeros(1).dtype == "float64"),
}))
"""


@pytest.fixture(scope="module")
def imported(pytestconfig):
    command = [sys.executable, "-c", PROBE]
    found = subprocess.run(
        command, cwd=pytestconfig.rootpath, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout.splitlines()[-1])


def test_an_import_asks_for_no_other_framework_and_no_matplotlib(imported):
    assert {"jmvae_jax", "numpyro"} <= set(imported["asked"])
    others = {"matplotlib", "sklearn", "tensorflow", "torch"}
    assert not others & set(imported["asked"])
    assert not others & set(imported["plotting"])
    assert not others & set(imported["modules"])


def test_an_import_changes_no_setting_of_jax(imported):
    assert imported["settings"] > 50
    assert imported["changed"] == []
    assert not imported["x64"]
