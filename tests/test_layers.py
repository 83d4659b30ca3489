"""The layers of the package: a module imports only from layers below its own."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "semid"

# The map of the architecture, lowest first. A folder stands for all of its modules, which may
# import each other; so may modules of one layer only where IN_LAYER says so.
LAYERS = [
    ["errors", "metrics.codes"],
    ["ids"],
    ["config", "tables", "kmeans", "devices", "fit_config"],
    ["columns", "id_columns", "outputs", "metrics.measurement"],
    ["quantization", "training_data", "artifact", "encoders", "id_table"],
    ["rqvae", "residual_kmeans"],
    ["quantizer", "training"],
    ["fitting"],
    ["assignment", "embedding", "collisions", "export"],
    ["jobs"],
    ["printing", "terminal"],
    ["cli"],
]
IN_LAYER = {("terminal", "printing")}
OUTSIDE = {"", "__main__", "metrics"}  # the package itself, which only resolves names
FORBIDDEN_FILES = {"utils.py", "util.py", "common.py", "helpers.py", "misc.py"}
FORBIDDEN_CALLS = {
    "print",
    "torch.manual_seed",
    "torch.save",
    "torch.load",
    "np.random.seed",
    "numpy.random.seed",
    "random.seed",
}
MODULES = sorted(ROOT.rglob("*.py"))


def name_of(path: Path) -> str:
    return (
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").rstrip(".")
    )


def unit(module: str) -> str | None:
    """The entry of LAYERS that a module belongs to."""
    entries = [entry for layer in LAYERS for entry in layer]
    return next((e for e in entries if module == e or module.startswith(f"{e}.")), None)


def rank(entry: str) -> int:
    return next(place for place, layer in enumerate(LAYERS) if entry in layer)


def imports(path: Path) -> set[str]:
    """Modules of semid that a file imports, also inside functions; not for type checking only."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "semid":
            module = (node.module or "").removeprefix("semid").lstrip(".")
            for alias in node.names:
                inner = f"{module}.{alias.name}".lstrip(".")
                is_module = (ROOT / f"{inner.replace('.', '/')}.py").exists()
                found.add(inner if is_module else module)
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("semid.") for a in node.names if a.name[:6] == "semid."}
    return found - {""}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_from_below(path: Path) -> None:
    module = name_of(path)
    if module in OUTSIDE:
        return
    own = unit(module)
    assert own is not None, f"{module} stands in no layer: give it one in LAYERS"
    for imported in imports(path):
        other = unit(imported)
        assert other is not None, f"{module} imports {imported}, which stands in no layer"
        allowed = other == own or (own, other) in IN_LAYER or rank(other) < rank(own)
        assert allowed, f"{module} imports {imported}, which is not below it"


def test_every_layer_exists() -> None:
    known = {unit(name_of(path)) for path in MODULES}
    assert {entry for layer in LAYERS for entry in layer} <= known


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_what_must_not_appear(path: Path) -> None:
    assert path.name not in FORBIDDEN_FILES
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "a module says what it does"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in FORBIDDEN_CALLS
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {getattr(node, "module", None), *(alias.name for alias in node.names)}
            assert not names & {"pickle", "joblib", "dill", "cloudpickle"}
