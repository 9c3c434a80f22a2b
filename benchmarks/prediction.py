"""Time of a step on any number of accelerators: closed forms over stated rates.

A step is arithmetic, then the optimiser, then communication; none of them overlaps another. An
all-reduce of `n` bytes over `N` devices takes

(1) `2 (N - 1) / N n / bandwidth + latency`

with the bandwidth of a ring and the smaller latency of a ring, `2 (N - 1)` hops, and of a tree,
`2 log2 N` hops. Beyond one node the ring passes from node to node, and the tree has hops of both
kinds.
"""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Link:
    """Between two neighbours: bytes a second in one direction, and seconds for the first byte."""

    bandwidth: float
    hop: float


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Nodes of several accelerators.

    Attributes:
      inside: from each accelerator to the others of its node.
      between: from each node to the others, all its network cards together.
      node: accelerators in a node.
    """

    inside: Link
    between: Link
    node: int = 8


@dataclasses.dataclass(frozen=True)
class Machine:
    """One accelerator.

    Attributes:
      flops: sustained, FLOP a second.
      memory: sustained, bytes a second.
      kernel: seconds that each kernel takes beside its work.
    """

    flops: float
    memory: float
    kernel: float


@dataclasses.dataclass(frozen=True)
class Step:
    """What a step does.

    Attributes:
      flops: of the products, an example.
      moved: bytes that the products read and write, an example.
      parameters: bytes.
      reduced: bytes that are all-reduced.
      calls: all-reduces.
      kernels: instructions that are launched.
    """

    flops: float
    moved: float
    parameters: float
    reduced: float
    calls: int
    kernels: int


# Shares of what the makers state, and guesses of latencies: see docs/scaling.md.
FLOAT32 = Machine(flops=0.25 * 494.7e12, memory=0.8 * 3.35e12, kernel=2.5e-6)
"""An H100 SXM: a quarter of TF32's peak."""
BFLOAT16 = Machine(flops=0.25 * 989.4e12, memory=0.8 * 3.35e12, kernel=2.5e-6)
INSIDE = Link(0.8 * 450e9, 5e-6)
CLUSTER = Cluster(INSIDE, Link(0.8 * 8 * 50e9, 15e-6))
"""NVLink inside, and a card of 400 Gb/s for each accelerator."""
ONE_CARD = Cluster(INSIDE, Link(0.8 * 50e9, 15e-6))
"""One such card for the whole node."""

ELEMENTWISE = 2.0
"""Bytes that everything together moves, for each byte that the products move: norms, activations
and densities pass over the same maps once more."""

OPTIMIZER = 7.0
"""Times that Adam passes over the parameters: it reads gradient, parameter and two moments, and
writes three."""


def transfer_seconds(size: float, count: int, cluster: Cluster) -> float:
    """The first term of (1): `size` bytes over `count` devices."""
    bandwidth = cluster.inside.bandwidth
    if count > cluster.node:
        bandwidth = min(bandwidth, cluster.between.bandwidth)
    return 2 * (count - 1) / count * size / bandwidth


def latency_seconds(count: int, cluster: Cluster) -> float:
    """The second term of (1): one all-reduce of nothing over `count` devices."""
    nodes, within = -(-count // cluster.node), min(count, cluster.node)
    inside, between = cluster.inside.hop, cluster.between.hop
    crossings = nodes if nodes > 1 else 0
    ring = 2 * (count - 1 - crossings) * inside + 2 * crossings * between
    tree = 2 * math.ceil(math.log2(within)) * inside + 2 * math.ceil(math.log2(nodes)) * between
    return min(ring, tree)


def terms(
    step: Step, rows: float, count: int, machine: Machine, cluster: Cluster
) -> dict[str, float]:
    """Seconds of each part of a step of `count` devices with `rows` each.

    Of products and memory, which overlap, the longer one counts and the other is 0.

    Example:
      >>> from benchmarks.prediction import Cluster, Link, Machine, Step, terms
      >>> cluster = Cluster(inside=Link(100e9, 0.0), between=Link(50e9, 0.0))
      >>> step = Step(flops=1e9, moved=0, parameters=0, reduced=100e9, calls=1, kernels=0)
      >>> found = terms(step, 500, 2, Machine(1e12, 1e12, 0.0), cluster)
      >>> found["products"], found["transfer"], found["latency"]
      (0.5, 1.0, 0.0)
    """
    products = step.flops * rows / machine.flops
    memory = ELEMENTWISE * step.moved * rows / machine.memory
    return {
        "products": products if products >= memory else 0.0,
        "memory": memory if memory > products else 0.0,
        "optimiser": OPTIMIZER * step.parameters / machine.memory,
        "kernels": step.kernels * machine.kernel,
        "transfer": transfer_seconds(step.reduced, count, cluster),
        "latency": step.calls * latency_seconds(count, cluster),
    }


def step_seconds(step: Step, rows: float, count: int, machine: Machine, cluster: Cluster) -> float:
    """Seconds of a step of `count` devices with `rows` each: all terms, one after the other."""
    return sum(terms(step, rows, count, machine, cluster).values())


def weak_efficiency(
    step: Step, rows: float, count: int, machine: Machine, cluster: Cluster
) -> float:
    """Examples a second and device, over those of one device with the same rows."""
    alone = step_seconds(step, rows, 1, machine, cluster)
    return alone / step_seconds(step, rows, count, machine, cluster)


def strong_efficiency(
    step: Step, batch: float, count: int, machine: Machine, cluster: Cluster
) -> float:
    """Examples a second and device, over those of one device with the whole batch."""
    alone = step_seconds(step, batch, 1, machine, cluster)
    return alone / (count * step_seconds(step, batch / count, count, machine, cluster))
