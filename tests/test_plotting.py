"""Pictures: where every pixel goes, what is refused, and what an import costs."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jmvae_jax.plotting import save_grid, tile

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


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (2, 3, 4, 4, 2), (2, 3, 4, 4, 4), (4, 4, 1)])
def test_other_shapes_are_refused(tmp_path, shape):
    with pytest.raises(ValueError, match=r"images have shape"):
        tile(np.zeros(shape))
    with pytest.raises(ValueError, match=r"images have shape"):
        save_grid(tmp_path / "grid.png", np.zeros(shape), title="", row_names=["a", "b"])
    assert not (tmp_path / "grid.png").exists()


@pytest.mark.parametrize("column_names", [(), ("0", "1", "2")])
def test_a_grid_is_a_png_larger_than_its_tiles(tmp_path, column_names):
    images = np.random.default_rng(0).uniform(size=(2, 3, 28, 28, 1))
    path = tmp_path / "grid.png"
    save_grid(path, images, title="digits", row_names=("a", "b"), column_names=column_names)
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
        save_grid(path, images, title="", row_names=["a"], column_names=names)
        with Image.open(path) as picture:
            heights.append(np.asarray(picture.convert("L")).copy())
    assert heights[0].shape == heights[1].shape
    assert (heights[0] != heights[1]).any()


def test_a_wrong_number_of_column_names_is_refused(tmp_path):
    with pytest.raises(ValueError, match="column_names"):
        save_grid(
            tmp_path / "grid.png",
            np.zeros((1, 3, 8, 8, 1)),
            title="",
            row_names=["a"],
            column_names=["only one"],
        )


def test_a_file_that_cannot_be_written_raises(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        save_grid(
            tmp_path / "nowhere" / "grid.png",
            np.zeros((1, 1, 2, 2, 1)),
            title="",
            row_names=["a"],
        )


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
    others = {"matplotlib", "tensorflow", "torch"}
    assert not others & set(imported["asked"])
    assert not others & set(imported["plotting"])
    assert not others & set(imported["modules"])


def test_an_import_changes_no_setting_of_jax(imported):
    assert imported["settings"] > 50
    assert imported["changed"] == []
    assert not imported["x64"]
