"""What a compiled program does beside arithmetic: its collectives, read from its text."""

import math
import re

_COLLECTIVES = (
    "all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all|collective-broadcast"
)
_LINE = re.compile(rf"= (?P<result>.*?) (?P<kind>{_COLLECTIVES})(-start)?\(")
_ARRAY = re.compile(r"\b(?P<dtype>[a-z]+\d+)\[(?P<shape>[\d,]*)\]")
_BITS = re.compile(r"\d+")


def collectives(text: str) -> list[tuple[str, list[int]]]:
    """Kind of each collective in a compiled program's text, and the bytes of each of its arrays.

    A collective inside a loop counts once.

    Example:
      >>> from benchmarks.programs import collectives
      >>> collectives("%x = (f32[2,3]{1,0}, bf16[]) all-reduce(%a, %b), channel_id=1")
      [('all-reduce', [24, 2])]
    """
    found = []
    for line in text.splitlines():
        match = _LINE.search(line)
        if match:
            arrays = _ARRAY.finditer(match["result"])
            found.append((match["kind"], [_bytes(array) for array in arrays]))
    return found


def _bytes(array: re.Match[str]) -> int:
    bits = _BITS.search(array["dtype"])
    assert bits is not None  # the pattern of an array has them
    size = math.prod(int(length) for length in array["shape"].split(",") if length)
    return size * int(bits[0]) // 8
