"""Drawn faces: every visible attribute shows where one looks for it, and nothing else decides."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jmvae_jax.data.attributes import CELEB_A_ATTRIBUTES
from jmvae_jax.data.faces import (
    ATTRIBUTES,
    SIZES,
    VISIBLE_ATTRIBUTES,
    draw_face,
    draw_faces,
    sample_attributes,
)

INDEX = {name: k for k, name in enumerate(ATTRIBUTES)}
COLOURS = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")
HIDDEN_BY_BALD = (*COLOURS, "Bangs", "Receding_Hairline", "Straight_Hair", "Wavy_Hair")

# Where one looks: boxes (left, top, right, bottom) of a picture 64 wide, for a head in the middle.
# The pose moves a head by two or three pixels, which the boxes allow for.
ABOUT_HAIR = [(10, 0, 54, 24), (10, 0, 22, 62), (42, 0, 54, 62)]
BROWS, EYES, MOUTH = (17, 17, 47, 30), (17, 21, 47, 37), (20, 35, 44, 52)
JAW = (12, 32, 52, 56)
PLACES = {
    "5_o_Clock_Shadow": [JAW],
    "Arched_Eyebrows": [BROWS],
    "Bags_Under_Eyes": [(17, 27, 47, 38)],
    "Bald": ABOUT_HAIR,
    "Bangs": [(15, 8, 49, 27)],
    "Big_Lips": [MOUTH],
    "Big_Nose": [(23, 27, 41, 41)],
    "Black_Hair": ABOUT_HAIR,
    "Blond_Hair": ABOUT_HAIR,
    "Blurry": [(0, 0, 64, 64)],
    "Brown_Hair": ABOUT_HAIR,
    "Bushy_Eyebrows": [BROWS],
    "Chubby": [(10, 28, 27, 54), (37, 28, 54, 54)],
    "Double_Chin": [(17, 42, 47, 58)],
    "Eyeglasses": [(14, 20, 50, 40)],
    "Goatee": [(22, 40, 42, 57)],
    "Gray_Hair": ABOUT_HAIR,
    "Heavy_Makeup": [EYES],
    "High_Cheekbones": [(14, 29, 28, 45), (36, 29, 50, 45)],
    "Male": [(0, 27, 64, 64)],
    "Mouth_Slightly_Open": [MOUTH],
    "Mustache": [(20, 34, 44, 46)],
    "Narrow_Eyes": [EYES],
    "No_Beard": [JAW],
    "Oval_Face": [JAW],
    "Pale_Skin": [(14, 6, 50, 62)],
    "Pointy_Nose": [(23, 23, 41, 42)],
    "Receding_Hairline": [(14, 5, 50, 27)],
    "Rosy_Cheeks": [(14, 29, 29, 44), (35, 29, 50, 44)],
    "Sideburns": [(12, 19, 25, 41), (39, 19, 52, 41)],
    "Smiling": [MOUTH],
    "Straight_Hair": ABOUT_HAIR,
    "Wavy_Hair": ABOUT_HAIR,
    "Wearing_Earrings": [(9, 31, 23, 46), (41, 31, 55, 46)],
    "Wearing_Hat": [(9, 0, 55, 24)],
    "Wearing_Lipstick": [MOUTH],
    "Wearing_Necklace": [(18, 47, 46, 64)],
    "Wearing_Necktie": [(16, 46, 48, 64)],
    "Young": [(20, 12, 44, 25), (13, 24, 25, 39), (39, 24, 51, 39), (20, 32, 44, 48)],
}


def consistent(attributes):
    """Which rows violate no exclusion, said independently of the sampler."""
    has = {name: attributes[:, k] > 0 for name, k in INDEX.items()}
    wrong = sum(has[name].astype(int) for name in COLOURS) > 1
    wrong |= has["Straight_Hair"] & has["Wavy_Hair"]
    for name in (*HIDDEN_BY_BALD, "Wearing_Hat"):
        wrong |= has["Bald"] & has[name]
    wrong |= has["Receding_Hairline"] & (has["Bangs"] | has["Wearing_Hat"])
    wrong |= has["Male"] & has["Wearing_Hat"] & (has["Straight_Hair"] | has["Wavy_Hair"])
    wrong |= has["No_Beard"] & (has["Goatee"] | has["5_o_Clock_Shadow"])
    return ~wrong


@pytest.fixture(scope="module")
def people():
    return sample_attributes(np.random.default_rng(7), 20_000)


def with_and_without(people, name, count):
    """Attributes `[count, 40]` without and with one of them, and seeds, where either may be."""
    people = people[:6000]
    off, on = people.copy(), people.copy()
    off[:, INDEX[name]], on[:, INDEX[name]] = -1, 1
    may = consistent(off) & consistent(on)
    if name == "Goatee":  # taken from a shaven cheek it would leave a full beard
        may &= people[:, INDEX["5_o_Clock_Shadow"]] > 0
    rows = np.flatnonzero(may)[:count]
    assert len(rows) == count
    return off[rows], on[rows], rows


def changed(first, second, levels=8):
    return np.abs(first.astype(int) - second).max(-1) >= levels


# Attributes


def test_names_are_those_of_celeb_a_and_most_are_visible():
    assert ATTRIBUTES == CELEB_A_ATTRIBUTES
    assert tuple(name for name in ATTRIBUTES if name in VISIBLE_ATTRIBUTES) == VISIBLE_ATTRIBUTES
    assert len(VISIBLE_ATTRIBUTES) >= 30
    assert set(PLACES) == set(VISIBLE_ATTRIBUTES)


@pytest.mark.parametrize("name", VISIBLE_ATTRIBUTES)
def test_attribute_shows_where_one_looks_for_it(people, name):
    off, on, seeds = with_and_without(people, name, 48)
    change = changed(draw_faces(off, seeds), draw_faces(on, seeds))
    place = np.zeros((64, 64), bool)
    for left, top, right, bottom in PLACES[name]:
        place[top:bottom, left:right] = True
    assert change.mean() >= 0.008  # the promise is 0.005
    assert change[:, place].sum() >= 0.8 * change.sum()
    assert np.mean(change.mean((1, 2)) < 0.0025) <= 0.05  # and hardly ever hidden


@pytest.mark.parametrize("name", sorted(set(ATTRIBUTES) - set(VISIBLE_ATTRIBUTES)))
def test_invisible_attribute_changes_nothing(people, name):
    off, on, seeds = with_and_without(people, name, 8)
    np.testing.assert_array_equal(draw_faces(off, seeds), draw_faces(on, seeds))


def test_marks_are_of_the_colour_that_is_said():
    """Mean colours of hair, skin and lips stand in the order that their names say."""
    plain = -np.ones((1, 40), np.int8)
    plain[:, [INDEX["No_Beard"], INDEX["Young"]]] = 1

    def colour(name, box):
        left, top, right, bottom = box
        person = plain.copy()
        if name:
            person[:, INDEX[name]] = 1
        images = draw_faces(np.repeat(person, 20, 0), range(20))
        return images[:, top:bottom, left:right].mean((0, 1, 2))

    crown, forehead, mouth = (28, 9, 36, 12), (28, 18, 36, 21), (30, 41, 34, 44)
    black, blond, brown, gray = (colour(name, crown) for name in COLOURS)
    assert black.max() < 60 < brown.max() < gray.min()
    assert blond[0] > blond[1] > 1.3 * blond[2]
    assert brown[0] > 1.3 * brown[1]
    assert np.ptp(gray) < 25
    assert (colour("Pale_Skin", forehead) > colour(None, forehead) + 20).all()
    painted, bare = colour("Wearing_Lipstick", mouth), colour(None, mouth)
    assert painted[0] / painted[1] > 1.5 * bare[0] / bare[1]


def test_one_beard_or_another_wherever_no_beard_is_absent(people):
    bearded = people[people[:, INDEX["No_Beard"]] < 0]
    kinds = bearded[:, [INDEX["Goatee"], INDEX["5_o_Clock_Shadow"]]] > 0
    for kind in ([False, False], [True, False], [False, True]):
        some = bearded[(kinds == kind).all(1)][:20]
        shaven = some.copy()
        shaven[:, [INDEX["Goatee"], INDEX["5_o_Clock_Shadow"]]] = -1
        shaven[:, INDEX["No_Beard"]] = 1
        assert changed(draw_faces(some, range(20)), draw_faces(shaven, range(20))).mean() > 0.01


# The sampler


def test_exclusions_always_hold(people):
    assert people.dtype == np.int8
    assert people.shape == (20_000, 40)
    assert set(np.unique(people)) == {-1, 1}
    assert consistent(people).all()


def test_both_values_of_every_visible_attribute_are_frequent(people):
    share = (people > 0).mean(0)
    rarer = np.minimum(share, 1 - share)
    assert {name: s for name, s in zip(ATTRIBUTES, rarer, strict=True) if s < 0.08} == {}
    above = {name for name in ATTRIBUTES if share[INDEX[name]] > 0.62}
    assert above == {"No_Beard"}


@pytest.mark.parametrize(
    ("name", "other", "sign"),
    [
        ("Goatee", "Male", 1),
        ("Mustache", "Male", 1),
        ("Bald", "Male", 1),
        ("Wearing_Necktie", "Male", 1),
        ("Wearing_Lipstick", "Male", -1),
        ("Heavy_Makeup", "Male", -1),
        ("Wearing_Earrings", "Male", -1),
        ("Wearing_Necklace", "Male", -1),
        ("Gray_Hair", "Young", -1),
        ("Attractive", "Young", 1),
    ],
)
def test_usual_correlations_are_there(people, name, other, sign):
    correlation = np.corrcoef(people[:, INDEX[name]], people[:, INDEX[other]])[0, 1]
    assert 0.1 < sign * correlation < 0.7


def test_nothing_follows_but_by_exclusion(people):
    """Each pair of values occurs, unless the exclusions forbid it."""
    has = people > 0
    for a in range(40):
        for b in range(a):
            for values in ([-1, 1], [1, -1], [1, 1], [-1, -1]):
                if not (has[:, [a, b]] == (np.array(values) > 0)).all(1).any():
                    wanted = people.copy()
                    wanted[:, [a, b]] = values
                    assert not consistent(wanted).any(), (ATTRIBUTES[a], ATTRIBUTES[b], values)


def test_sampler_follows_its_generator():
    first, second, other = (
        sample_attributes(np.random.default_rng(seed), 50) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()
    assert sample_attributes(np.random.default_rng(0), 0).shape == (0, 40)
    with pytest.raises(ValueError, match="count=-1"):
        sample_attributes(np.random.default_rng(0), -1)


# The drawing


def test_a_face_depends_on_nothing_but_attributes_and_seed(people):
    """Not on how many are drawn at once, in which order, in which process."""
    some, seeds = people[:300], np.arange(300) + 5
    images = draw_faces(some, seeds)
    assert (images.shape, images.dtype) == ((300, 64, 64, 3), np.uint8)
    np.testing.assert_array_equal(draw_faces(some[::-1], seeds[::-1])[::-1], images)
    for k in (0, 17, 255, 256, 299):
        np.testing.assert_array_equal(draw_face(some[k], int(seeds[k])), images[k])
    program = (
        "import hashlib, numpy as np\n"
        "from jmvae_jax.data.faces import draw_faces, sample_attributes\n"
        "people = sample_attributes(np.random.default_rng(7), 20_000)[:40]\n"
        "images = draw_faces(people, range(5, 45))\n"
        "print(hashlib.sha256(images.tobytes()).hexdigest())"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert told.stdout.strip() == hashlib.sha256(images[:40].tobytes()).hexdigest()


def test_pictures_are_those_that_models_were_trained_on():
    """Attributes to the bit, and the mean colours of the quarters, over versions of Pillow."""
    people = sample_attributes(np.random.default_rng(0), 4)
    packed = [
        [4, 24, 5, 177, 138],
        [16, 68, 0, 205, 129],
        [0, 3, 64, 128, 76],
        [32, 2, 48, 149, 101],
    ]
    assert np.packbits(people > 0, axis=1).tolist() == packed
    quarters = [
        [[[130, 122, 141], [127, 124, 140]], [[125, 119, 138], [124, 124, 139]]],
        [[[142, 110, 111], [160, 127, 139]], [[135, 98, 124], [155, 116, 150]]],
        [[[120, 144, 111], [149, 171, 130]], [[118, 129, 96], [141, 152, 113]]],
        [[[135, 118, 120], [131, 120, 126]], [[136, 121, 120], [134, 123, 126]]],
    ]
    images = draw_faces(people, range(4)).reshape(4, 2, 32, 2, 32, 3)
    np.testing.assert_allclose(images.mean((2, 4)), quarters, atol=2)


def test_seed_alone_decides_pose_light_and_ground(people):
    images = draw_faces(np.repeat(people[:1], 20, 0), range(20)).astype(int)
    for other in images[1:]:
        assert changed(images[0], other).mean() > 0.3
    corners = images[:, [0, 0, -1], [0, -1, 0]].reshape(20, -1)
    assert corners.std(0).min() > 10
    # The same seed has the same ground, whoever sits before it (a blur would smear the figure).
    sharp = people[people[:, INDEX["Blurry"]] < 0][:20]
    grounds = draw_faces(sharp, [4] * 20)[:, :4, [*range(4), *range(-4, 0)]]
    np.testing.assert_array_equal(grounds, np.broadcast_to(grounds[:1], grounds.shape))


def test_edges_are_smooth():
    """On a bald crown, some pixels lie between the colours of skin and ground."""
    person = -np.ones(40, np.int8)
    person[[INDEX["Bald"], INDEX["No_Beard"], INDEX["Young"]]] = 1
    between = 0
    for seed in range(10):
        column = draw_face(person, seed)[:20, 32].astype(int)
        jumps = np.abs(np.diff(column, axis=0)).max(1)
        edge = jumps.argmax()
        between += np.sort(jumps[max(edge - 1, 0) : edge + 2])[-2] > 0.15 * jumps[edge]
    assert between >= 6


@pytest.mark.parametrize("size", [32, 128, 256])
def test_sizes_agree(people, size):
    some = people[:16]
    small, large = sorted((size, 64))
    shrunk = np.stack(
        [
            np.asarray(Image.fromarray(image).reduce(large // small))
            for image in draw_faces(some, range(16), large)
        ]
    )
    drawn = draw_faces(some, range(16), small)
    assert drawn.shape == (16, small, small, 3)
    assert np.abs(shrunk.astype(int) - drawn).mean() < 3
    assert np.abs(shrunk.astype(int) - drawn[::-1]).mean() > 15


@pytest.mark.parametrize(
    ("attributes", "seeds", "size", "match"),
    [
        (np.ones((2, 39)), [0, 1], 64, r"attributes of shape \(2, 39\)"),
        (np.ones(40), [0], 64, r"attributes of shape \(40,\)"),
        (np.zeros((1, 40)), [0], 64, r"attributes with the values \[0\.0\]"),
        (np.ones((2, 40)), [0], 64, r"seeds of shape \(1,\)"),
        (np.ones((1, 40)), [0.5], 64, "seeds such as 0.5"),
        (np.ones((1, 40)), [-3], 64, "seeds such as -3"),
        (np.ones((1, 40)), [0], 48, "size=48 came; expected one of 32, 64, 128, 256"),
    ],
)
def test_wrong_arguments_are_named(attributes, seeds, size, match):
    with pytest.raises(ValueError, match=match):
        draw_faces(attributes, seeds, size)


def test_one_face_is_checked_as_many_are():
    with pytest.raises(ValueError, match=r"attributes of shape \(1, 40\) came; expected \(40,\)"):
        draw_face(np.ones((1, 40)), 0)
    with pytest.raises(ValueError, match="seed"):
        draw_face(np.ones(40), -1)
    assert draw_faces(np.ones((0, 40)), []).shape == (0, 64, 64, 3)
    assert SIZES == (32, 64, 128, 256)
