"""The tables of docs/scaling.md, from shapes and compiled programs: no data set, no accelerator.

    python benchmarks/scaling.py [--sections=reduced,arithmetic,memory,time,modalities,images]

Eight virtual devices of the CPU compile the steps of MNIST and of CelebA at the paper's size. All
sections take about a quarter of an hour on two cores; `modalities` and `images` compile nothing.
"""

import collections
import dataclasses
import functools
import itertools
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

import jax
from absl import flags
from ml_collections import ConfigDict

from benchmarks.measure import grid
from benchmarks.prediction import (
    BFLOAT16,
    CLUSTER,
    FLOAT32,
    ONE_CARD,
    Machine,
    Step,
    step_seconds,
    strong_efficiency,
    terms,
    weak_efficiency,
)
from benchmarks.programs import collectives
from benchmarks.shapes import EXAMPLES, Problem, kernels, problem
from experiments import cli
from experiments.configs import celeb_a, mnist
from jmvae_jax.evaluation import standard_queries

_SECTIONS = flags.DEFINE_list("sections", None, "Which tables; all by default.")

FEW = 8
"""Rows of a device where only shapes that do not depend on them are read."""

ROWS = (1, 32, 128, 512, 2048)
SOME = (32, 128)
STEPS = (("mnist", "jmvae_kl"), ("celeb_a", "jmvae_kl"), ("celeb_a", "jmvae_gan"))
COUNTS = tuple(2**power for power in range(9))
WEAK = {"mnist": 100, "celeb_a": 128}
STRONG = (128, 4096)


@functools.cache
def compiled(of: Problem, rows: int, count: int = 1) -> Any:
    """Program, its cost and its memory."""
    print(f"compiling {of.title}, {rows} rows, {count} devices", file=sys.stderr, flush=True)
    return of.compiled(rows, count)


@functools.cache
def kept(of: Problem, rows: int) -> int:
    """`of.kept(rows)`, traced once."""
    return of.kept(rows)


def slope(function: Callable[[int], float]) -> float:
    """What one more example adds."""
    return (function(2 * FEW) - function(FEW)) / FEW


def mega(value: float, digits: int = 1) -> str:
    """Millions."""
    return f"{value / 1e6:,.{digits}f}"


# Sections


def reduced() -> str:
    """Bytes of all-reduces: arrays of parameters, single numbers, and the rest."""
    kl = problem("mnist", "jmvae_kl"), problem("celeb_a", "jmvae_kl")
    group = problem("celeb_a", "jmvae_kl", norm="group")
    steps = ((kl[0], 2), (kl[0], 8), (kl[1], 8), (group, 8), (problem("celeb_a", "jmvae_gan"), 8))
    lines = []
    for of, count in steps:
        found = collectives(compiled(of, FEW, count).as_text())
        assert {kind for kind, _ in found} == {"all-reduce"}
        sizes = collections.Counter(size for _, arrays in found for size in arrays)
        further = sizes - collections.Counter(of.parameters)
        every, own, metrics = sum(sizes.elements()), sum(of.parameters), 4 * further[4]
        assert sum(further.elements()) == every - own  # each gradient is reduced once
        numbers = (len(found), every, own, metrics, every - own - metrics)
        lines.append(
            [of.title, count, *(f"{n:,}" for n in numbers), f"{100 * (every / own - 1):.4f} %"]
        )
    head = ["step", "devices", "all-reduces", "bytes", "of gradients = of parameters"]
    return grid([*head, "of metrics", "of statistics", "more than the parameters"], lines)


def arithmetic() -> str:
    """FLOP of an example by the rule, beside what XLA says of one more example."""
    lines = []
    for of in (
        problem("mnist", "jmvae_kl"),
        problem("celeb_a", "jmvae_kl"),
        problem("celeb_a", "jmvae_kl", remat=True),
        problem("celeb_a", "jmvae_gan"),
    ):
        parameters, work = sum(of.parameters) / 4, of.work(FEW)
        flops = work.flops / FEW
        by_xla = ["", ""]
        if not of.config.train.remat:  # XLA undoes it on a CPU
            few, many = (compiled(of, rows).cost_analysis()["flops"] for rows in (32, 128))
            xla = (many - few) / 96
            by_xla = [mega(xla, 2), f"{xla / flops:.3f}"]
        moved = slope(lambda rows: of.work(rows).moved)  # noqa: B023
        lines.append([of.title, f"{parameters:,.0f}", work.products, mega(flops, 2)])
        lines[-1] += [f"{flops / parameters:.1f}", *by_xla, mega(moved, 2)]
    head = ["step", "parameters", "products", "MFLOP an example", "FLOP a parameter"]
    return grid([*head, "XLA's MFLOP", "ratio", "MB an example that products move"], lines)


def memory() -> str:
    """What a device holds, and what its rows add to it."""
    parts = [_held(), *map(_by_rows, ("mnist", "celeb_a")), _gan_by_rows()]
    return "\n\n".join(parts)


def _size(tree: Any) -> float:
    return float(sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)))


def _held() -> str:
    lines = []
    for data, variant in STEPS:
        of = problem(data, variant)
        state, stored = of.state, _size(of.stored()) + 4 * of.num_examples
        own = float(sum(of.parameters))
        sizes = (own, _size(state.opt_state), own, _size(state.model_state), stored)
        lines.append([of.title, *(mega(size, 2) for size in (*sizes, sum(sizes)))])
    head = ["MB", "parameters", "moments", "gradients", "running statistics", "data set, order"]
    return grid([*head, "together"], lines)


def _by_rows(data: str) -> str:
    """Temporary memory of the CPU's program, and what the gradient keeps, in MB."""
    changes: list[dict[str, Any]] = [{}]
    if data == "celeb_a":
        changes += [{"remat": True}, {"precision": "bfloat16"}]
        changes += [{"remat": True, "precision": "bfloat16"}]
    versions = [problem(data, "jmvae_kl", **change) for change in changes]
    more = [slope(functools.partial(kept, of)) for of in versions]
    first = [kept(of, FEW) - FEW * one for of, one in zip(versions, more, strict=True)]
    lines = []
    for rows in ROWS:
        sizes = (start + rows * one for start, one in zip(first, more, strict=True))
        lines.append([rows, mega(_temporary(versions[0], rows)), *map(mega, sizes)])
    lines.append(["one more", "", *(mega(one, 3) for one in more)])
    names = ["kept: " + (of.title.split(" ", 2)[2:] or ["float32"])[0] for of in versions]
    return grid([f"{data} jmvae_kl, MB by rows", "CPU's program", *names], lines)


def _temporary(of: Problem, rows: int) -> float:
    return float(compiled(of, rows).memory_analysis().temp_size_in_bytes)


def _gan_by_rows() -> str:
    plain, gan = (problem("celeb_a", variant) for variant in ("jmvae_kl", "jmvae_gan"))
    programs = (plain, problem("celeb_a", "jmvae_kl", accumulate=4), gan)
    lines = [[of.title, *(mega(_temporary(of, rows)) for rows in SOME)] for of in programs]
    return grid(["CPU's program, MB", *(f"{rows} rows" for rows in SOME)], lines)


def time() -> str:
    """Predicted seconds of each step, and of two changes of CelebA's JMVAE-kl."""
    parts = []
    for data, variant in STEPS:
        of = problem(data, variant)
        step = _step(of, of)
        parts += [_weak(of.title, step, WEAK[data], FLOAT32), _strong(of.title, step, FLOAT32)]
        parts.append(_terms(of.title, step, WEAK[data], FLOAT32))
    of = problem("celeb_a", "jmvae_kl")
    group = problem("celeb_a", "jmvae_kl", norm="group")
    half = problem("celeb_a", "jmvae_kl", precision="bfloat16")
    parts.append(_weak(group.title, _step(group, group), WEAK["celeb_a"], FLOAT32))
    parts.append(_weak(half.title, _step(half, of), WEAK["celeb_a"], BFLOAT16))
    return "\n\n".join(parts)


def _step(of: Problem, program: Problem) -> Step:
    """What a step does; collectives and kernels are those of `program` over eight devices."""
    text = compiled(program, FEW, 8).as_text()
    found = collectives(text)
    return Step(
        flops=of.work(FEW).flops / FEW,
        moved=slope(lambda rows: of.work(rows).moved),
        parameters=sum(of.parameters),
        reduced=sum(sum(sizes) for _, sizes in found),
        calls=len(found),
        kernels=kernels(text),
    )


def _weak(name: str, step: Step, rows: int, machine: Machine) -> str:
    """A device's rows stay as they are."""
    swift = dataclasses.replace(machine, kernel=0.0)
    others = ((machine, CLUSTER), (machine, ONE_CARD), (swift, CLUSTER))
    lines = []
    for count in COUNTS:
        seconds = step_seconds(step, rows, count, machine, CLUSTER)
        shares = (f"{100 * weak_efficiency(step, rows, count, *other):.0f} %" for other in others)
        lines.append([count, f"{1e3 * seconds:.2f}", f"{rows * count / seconds:,.0f}", *shares])
    head = [f"{name}, {rows} rows a device: devices", "ms a step", "examples/s", "efficiency"]
    return grid([*head, "with one card a node", "with kernels for nothing"], lines)


def _strong(name: str, step: Step, machine: Machine) -> str:
    """The batch stays as it is."""
    lines = []
    for count in COUNTS:
        lines.append([count])
        for batch in STRONG:
            if batch < count:
                lines[-1] += ["", ""]
                continue
            seconds = step_seconds(step, batch / count, count, machine, CLUSTER)
            gain = count * strong_efficiency(step, batch, count, machine, CLUSTER)
            lines[-1] += [f"{1e3 * seconds:.2f}", f"{gain:.2f}"]
    columns = ((f"ms, {batch:,} rows in all", "times as fast") for batch in STRONG)
    return grid([f"{name}: devices", *itertools.chain(*columns)], lines)


def _terms(name: str, step: Step, rows: int, machine: Machine) -> str:
    found = {count: terms(step, rows, count, machine, CLUSTER) for count in (1, 8, 64, 256)}
    lines = [
        [count, *(f"{1e3 * value:.3f}" for value in parts.values())]
        for count, parts in found.items()
    ]
    return grid([f"{name}, ms on", *found[1]], lines)


def modalities() -> str:
    """JMVAE-kl over M images with the networks of MNIST's."""
    lines = []
    for count in range(1, 9):
        config = mnist.get_config("jmvae_kl")
        image = config.modalities.image.to_dict()
        config.modalities = ConfigDict({f"image_{n}": image for n in range(count)})
        of = Problem(config, EXAMPLES["mnist"])
        queries = standard_queries(of.experiment.model)
        proposals = {frozenset(query.source) for query in queries}
        size, metrics = sum(of.parameters), 4 * (3 + 2 * count)
        flops, more = of.work(FEW).flops / FEW, slope(functools.partial(kept, of))
        lines.append([count, f"{size // 4:,}", f"{size + metrics:,}", mega(flops, 2)])
        lines[-1] += [f"{more / 1e3:,.0f}", len(queries), len(proposals), count * len(proposals)]
    head = ["M", "parameters", "bytes all-reduced", "MFLOP an example", "kB an example kept"]
    return grid([*head, "likelihoods", "proposals", "decoder passes a draw"], lines)


def images() -> str:
    """JMVAE-kl on faces of S x S pixels."""
    lines = []
    for size in (32, 64, 128, 256):
        of = Problem(celeb_a.get_config(f"jmvae_kl,image_size={size}"), EXAMPLES["celeb_a"])
        flops, more = of.work(FEW).flops / FEW, slope(functools.partial(kept, of))
        stored = _size(of.stored())
        lines.append([size, size.bit_length() - 3, f"{sum(of.parameters) / 4:,.0f}"])
        lines[-1] += [mega(flops, 0), f"{flops / size**2:,.0f}", mega(more, 2)]
        lines[-1].append(f"{stored / 1e9:.1f}")
    head = ["S", "stages", "parameters", "MFLOP an example", "FLOP / S²", "MB an example kept"]
    return grid([*head, "data set, GB"], lines)


SECTIONS = {
    section.__name__: section for section in (reduced, arithmetic, memory, time, modalities, images)
}


def main() -> None:
    names = _SECTIONS.value or list(SECTIONS)
    unknown = sorted(set(names) - set(SECTIONS))
    if unknown:
        raise ValueError(f"--sections: {unknown} are not known: expected some of {list(SECTIONS)}")
    for name in names:
        print(f"{name}\n\n{SECTIONS[name]()}\n", flush=True)


if __name__ == "__main__":
    cli.launch(main)
