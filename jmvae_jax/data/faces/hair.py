"""What not everyone in a drawn portrait has: hair, beard, hat, glasses, jewels, necktie.

As in `parts`, numbers are places, widths and radii, and factors of colours.
"""

import numpy as np

from jmvae_jax.data.faces.parts import EYE, SIDES
from jmvae_jax.data.faces.shapes import (
    Layers,
    ellipse,
    join,
    mirrored,
    points,
    ribbon,
    ring,
    smooth,
)
from jmvae_jax.data.faces.sitter import FRAME_TONES, JEWEL_TONES, Sitter, mix, pick, wheel

_WHITE, _DARK = np.array([250.0, 250, 250]), np.array([26.0, 20, 24])
_LONG = 4.0  # hair that reaches below this height has locks beside the face


def _length(s: Sitter) -> np.ndarray:
    """Height that the hair reaches down to, `[N]`: mostly short with `Male`, else long."""
    u = s.chance["hair_length"]
    return np.where(s.has["Male"], np.where(u > 0.9, 15.0, 0.0), 9 + 20 * u)


def _visible_length(s: Sitter) -> np.ndarray:
    """The same beside the face: some hair always shows below a hat."""
    return np.where(s.has["Wearing_Hat"], np.maximum(_length(s), 6.0), _length(s))


def _wave(s: Sitter, along: np.ndarray) -> np.ndarray:
    """How far a wavy outline leaves its middle, `[N, K]`, along `[K]` radians."""
    phase = s.between("wave", -0.7, 0.7)[:, None]
    return 1.9 * s.amount("Wavy_Hair")[:, None] * np.sin(along + phase)


def paint_back_hair(layers: Layers, s: Sitter) -> None:
    """Long hair behind the neck."""
    wide, end = 15.5 + 2 * s.chance["hair_volume"], _length(s)
    back = mirrored((0, -18), (wide, -10), (wide + 0.5, 6), (wide, end - 1), (0, end))
    layers.add(smooth(back), s.hair * 0.62, ~s.has["Bald"] & (end > _LONG), depth=-1.5)


def paint_hair(layers: Layers, s: Sitter) -> None:
    """Hair above the forehead, locks beside the face, bangs, and the strands of its texture."""
    hairy = ~s.has["Bald"]
    _paint_locks(layers, s, hairy)
    angle = np.linspace(np.pi * 0.97, np.pi * 0.03, 29)
    volume = s.chance["hair_volume"][:, None]
    radius = _wave(s, angle * 8)
    outer = np.stack(
        [
            (16.6 + 1.6 * volume + radius) * np.cos(angle),
            -1 - (22.0 + 2.2 * volume + radius) * np.sin(angle),
        ],
        -1,
    )
    bare = s.amount("Receding_Hairline")
    edge = (
        (14.2, 1.0),
        (13.4 + 0.4 * bare, -4.5 - 3.5 * bare),
        (11.4 + 0.6 * bare, -9.8 - 5.2 * bare),
        (7.0, -12.6 - 5.2 * bare),
    )
    middle = (0, -12.8 - 1.5 * bare)
    hairline = points(*edge, middle, *((-x, y) for x, y in reversed(edge)))
    layers.add(join(outer, smooth(hairline, closed=False)), s.hair, hairy)
    _paint_bangs(layers, s)
    _paint_strands(layers, s)


def _paint_locks(layers: Layers, s: Sitter, hairy: np.ndarray) -> None:
    end = _visible_length(s)[:, None]
    outside = (16.2 + 2.2 * s.chance["hair_volume"])[:, None]
    down = np.linspace(0, 1, 15)
    y = -11 + (end + 11) * down
    width = np.sin(np.pi * (0.25 + 0.72 * down)) ** 0.5
    wave = _wave(s, down * 16)
    for side in SIDES:
        x_out = outside * (0.86 + 0.2 * width) + wave
        x_in = 12.4 + 1.2 * width + 0.5 * wave
        lock = np.concatenate(
            [np.stack([side * x_out, y], -1), np.stack([side * x_in, y], -1)[:, ::-1]], 1
        )
        layers.add(lock, s.hair * 0.9, hairy & (end[:, 0] > _LONG))


def _paint_bangs(layers: Layers, s: Sitter) -> None:
    tips = [(-10.5, -7.6), (-5.2, -6.9), (0.0, -7.8), (5.2, -6.9), (10.5, -7.6)]
    low = [corner for x, y in tips for corner in ((x, y), (x + 2.6, y - 1.9))][:-1]
    fringe = points(
        (-14.2, -9), (-13.8, -4.5), *low, (13.8, -4.5), (14.2, -9), (10, -16), (-10, -16)
    )
    layers.add(fringe, s.hair * 1.04, s.has["Bangs"])


def _paint_strands(layers: Layers, s: Sitter) -> None:
    """Dark and light strands: straight lines or waves, on the head and along the locks."""
    tones = (s.hair * 0.62, mix(s.hair, _WHITE, 0.42))
    straight, wavy = s.has["Straight_Hair"], s.has["Wavy_Hair"]
    t = np.linspace(0, 1, 8)
    for k, start in enumerate((-13, -9, -5, -1, 3, 7, 11)):
        x0, x1, y0 = 0.75 * start, 1.12 * start, -23 + 0.035 * start**2
        line = points((x0, y0), (x1, -13.5 + 0.02 * start**2))
        layers.add(ribbon(line, 1.5, steps=1), tones[k % 2], straight)
        curl = np.stack([x0 + (x1 - x0) * t + 1.6 * np.sin(8 * t), y0 + 9 * t], -1)[None]
        layers.add(ribbon(curl, 1.5, steps=1), tones[k % 2], wavy)
    end = _visible_length(s)
    long = end > _LONG
    for side in SIDES:
        for x, tone in zip((14.4, 16.6), tones, strict=True):
            line = points((side * x, -6), (side * x, end - 1.5))
            layers.add(ribbon(line, 1.3, steps=1), tone, straight & long)
            curl = np.stack(
                np.broadcast_arrays(side * x + 1.4 * np.sin(14 * t), -6 + (end[:, None] + 4.5) * t),
                -1,
            )
            layers.add(ribbon(curl, 1.3, steps=1), tone, wavy & long)


def paint_beard(layers: Layers, s: Sitter) -> None:
    """Stubble, a full beard or a goatee; the sideburns."""
    stubble, goatee = s.has["5_o_Clock_Shadow"], s.has["Goatee"]
    full = ~(s.has["No_Beard"] | stubble | goatee)
    chubby, male, chin = s.amount("Chubby"), s.amount("Male"), s.chin
    jaw = 10.8 + 1.6 * male + 3.6 * chubby
    shade = mix(s.skin * 0.7, (60, 70, 88), 0.42)
    area = mirrored(
        (0, 9.6),
        (5, 9.9),
        (9.5, 9),
        (13.2 + 2.4 * chubby, 6.5),
        (jaw, 13),
        (jaw - 3.6, 17),
        (0, chin - 0.3),
    )
    layers.add(smooth(area), shade, stubble)
    beard = s.brow * 1.25
    whole = mirrored(
        (0, 16.4), (5.4, 15.8), (8.2, 11.5), (11.2, 9), (14.2 + 2.2 * chubby, 5.5),
        (jaw + 1.2, 13.5), (jaw - 2.4, 18.5), (0, chin + 2.4),
    )  # fmt: skip
    layers.add(smooth(whole), beard, full)
    tuft = mirrored((0, 16.2), (4.4, 16.2), (6.0, 18.4), (4.2, chin + 2.2), (0, chin + 3.8))
    layers.add(smooth(tuft), beard, goatee)
    for side in SIDES:
        burn = points(
            (side * 14.8, -6),
            (side * 10.8, -5),
            (side * 10.4, 5),
            (side * 11.2, 8.4),
            (side * 14.6, 7.6),
        )
        layers.add(burn, s.hair * 0.84, s.has["Sideburns"])


def paint_moustache(layers: Layers, s: Sitter) -> None:
    """A moustache between nose and mouth."""
    lobes = mirrored((0, 8.6), (4.0, 8.2), (7.6, 10.0), (9.6, 13.9), (5.4, 13.0), (0, 12.2))
    layers.add(smooth(lobes), s.brow, s.has["Mustache"], depth=0.5)


def paint_hat(layers: Layers, s: Sitter) -> None:
    """A cap of strong colour with a darker brim."""
    wearing = s.has["Wearing_Hat"]
    colour = wheel(s.chance["hat_hue"], 0.75, 0.85)
    dome = mirrored((0, -27), (9, -26), (16, -20), (18, -12.5), (17.5, -10.5), (0, -11.5))
    layers.add(smooth(dome), colour, wearing)
    brim = points((-19, -9.6), (-9, -11.6), (0, -12.2), (9, -11.6), (19, -9.6))
    layers.add(ribbon(brim, 3.4, ends=0.7), colour * 0.55, wearing)
    layers.add(ellipse(0, -27, 2.6, 2.2), colour * 0.75, wearing)


def paint_glasses(layers: Layers, s: Sitter) -> None:
    """Round glasses with thick dark frames."""
    frame, wearing = pick(FRAME_TONES, s.chance["frame"]), s.has["Eyeglasses"]
    for side in SIDES:
        x, y = side * (EYE[0] + 0.2), EYE[1] + 0.2
        layers.add(ring(x, y, 5.7, 4.9, 1.4), frame, wearing, depth=0.8)
        arm = points((side * 12.0, 0.6), (side * 15.6, 0))
        layers.add(ribbon(arm, 1.4, steps=1), frame, wearing)
    bridge = points((-1.6, 0.8), (0, 0.2), (1.6, 0.8))
    layers.add(ribbon(bridge, 1.3), frame, wearing, depth=0.8)


def paint_jewels(layers: Layers, s: Sitter) -> None:
    """Earrings that hang from the lobes."""
    colour, wearing = pick(JEWEL_TONES, s.chance["jewels"]), s.has["Wearing_Earrings"]
    for side in SIDES:
        layers.add(ellipse(side * 16, 10, 2.4, 3.3), colour * 0.4, wearing, depth=-1.5)
        layers.add(ellipse(side * 16, 10, 1.8, 2.7), colour, wearing, depth=-1.5)


def paint_neckwear(layers: Layers, s: Sitter) -> None:
    """A necktie with its collar; a necklace with a pendant, over it."""
    tied = s.has["Wearing_Necktie"]
    tie = wheel(s.chance["tie_hue"], 0.85, 0.8)
    for side in SIDES:
        collar = points((side * 10.5, 22.5), (side * 0.5, 27.5), (side * 6, 33), (side * 12, 27))
        layers.add(collar, _WHITE, tied, body=True)
    layers.add(points((-2.6, 26), (2.6, 26), (1.6, 29.4), (-1.6, 29.4)), tie * 0.7, tied, body=True)
    layers.add(points((-1.6, 29.4), (1.6, 29.4), (4.4, 40), (-4.4, 40)), tie, tied, body=True)
    gold, wearing = pick(JEWEL_TONES, 1 - 0.999 * s.chance["jewels"]), s.has["Wearing_Necklace"]
    reach = 8.4 + 2 * s.amount("Male")
    chain = points(
        (-reach, 23.5), (-reach * 0.62, 27.5), (0, 29.6), (reach * 0.62, 27.5), (reach, 23.5)
    )
    layers.add(ribbon(chain, 2.4), gold * 0.35, wearing, body=True)
    layers.add(ribbon(chain, 1.5), gold, wearing, body=True)
    layers.add(ellipse(0, 30.6, 2.3, 2.3), gold * 0.35, wearing, body=True)
    layers.add(ellipse(0, 30.6, 1.7, 1.7), gold, wearing, body=True)
