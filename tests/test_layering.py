"""The plan of the house: who may import whom, and where a package may be named."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "jmvae_jax"

# A module of the library may import these rooms of it (its own is always allowed).
MAY_IMPORT = {
    "types": set(),
    "distributions": {"types"},
    "networks": {"types"},
    "models": {"types", "distributions", "networks"},
    "objectives": {"types", "distributions", "models"},
    "parallel": {"types"},
    "data": set(),
    "training": {"types", "distributions", "models", "objectives", "data", "parallel"},
    "evaluation": {"types", "distributions", "models", "objectives", "parallel"},
    "plotting": set(),
}
FENCES = {
    "flax.linen": ("networks", "models"),
    "orbax": ("training/checkpoints",),
    "tensorflow_datasets": ("data",),
    "matplotlib": ("plotting",),
    "sklearn": ("evaluation",),
    "tensorboardX": ("training/metrics",),
    "ml_collections": (),
    "absl": (),
    "tensorflow": (),
    "torch": (),
    "experiments": (),
}
MODULES = sorted(LIBRARY.rglob("*.py"))


def imports(path):
    """Dotted names that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name_of(path):
    return str(path.relative_to(LIBRARY).with_suffix(""))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_arrows_run_one_way(path):
    room = name_of(path).split("/")[0]
    if room == "__init__":
        return
    ours = [name.split(".") for name in imports(path) if name.split(".")[0] == "jmvae_jax"]
    rooms = {other for parts in ours for other in parts[1:2]}
    assert rooms <= MAY_IMPORT[room] | {room}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_fenced_packages_stay_in_their_rooms(path):
    for package, rooms in FENCES.items():
        if not name_of(path).startswith(tuple(rooms) or ("nowhere",)):
            used = [n for n in imports(path) if n == package or n.startswith(package + ".")]
            assert not used, f"{package} belongs to {rooms}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_parallel_compiles(path):
    if name_of(path) != "parallel":
        called = {
            node.attr
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "jax"
        }
        assert not called & {"jit", "pmap", "make_mesh", "shard_map"}


def test_nobody_reaches_into_private_jax():
    for path in (*MODULES, *(ROOT / "experiments").rglob("*.py")):
        assert not [name for name in imports(path) if name.startswith("jax._src")]


@pytest.mark.parametrize(
    "path",
    [*MODULES, *sorted((ROOT / "experiments").rglob("*.py"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_files_and_functions_stay_small(path):
    assert len(path.read_text().splitlines()) <= 320
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            first = node.body[0]
            documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            start = first.end_lineno if documented else node.lineno
            assert node.end_lineno - start <= 50, node.name
