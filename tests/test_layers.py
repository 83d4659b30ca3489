"""The map of the architecture, read from the imports: what stands on what, and what stays out.

A module imports only from the ranks below its own, whether at import time, inside a function or for
type checking. A new module needs a place here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import semid

ROOT = Path(semid.__file__).parent

# From the ground up. Modules of one rank do not import each other.
RANKS: tuple[tuple[str, ...], ...] = (
    # what everything may say
    ("errors", "arrays"),
    ("manifests", "database", "versions", "spelling"),
    # codes as arrays; files; settings
    (
        "ids",
        "tables",
        "streams",
        "config",
        "model_config",
        "applicability",
        "devices",
        "kmeans",
        "outputs",
        "pages",
        "id_hashes",
        "metrics.change",
        "metrics.codes",
        "metrics.neighbours",
        "metrics.ranking",
        "metrics.sampling",
        "metrics.vectors",
        "gates",
    ),
    (
        *("metrics.utilization", "metrics.uniqueness", "metrics.structure"),
        *("metrics.information", "metrics.alike"),
    ),
    ("metrics.behaviour",),
    ("fit_config", "principal", "quantization", "estimators", "contrast"),
    ("mlp", "quantised", "locality", "neighbours", "training_on"),
    ("projection", "data_facts", "interactions"),
    # columns and directories with their checks
    (
        "columns",
        "id_columns",
        "id_metadata",
        "cooccurrence",
        "artifact",
        "fsq",
        "metrics",
        "metrics.measurement",
        "metrics.drift",
    ),
    ("metrics.fidelity", "met_items"),
    ("codebooks", "balancing", "embedding_columns", "duplicates", "shards"),
    ("sid_batches", "table_rows", "sid_sets", "origin", "item_matching"),
    # encoders, from the ground up
    ("encoders.settings", "encoders.item_columns", "encoders.saved", "encoders.ngrams"),
    ("encoders.text", "encoders.feature_blocks", "encoders.sentence_models"),
    ("encoders.pointwise_information",),
    ("encoders.lsa", "encoders.features", "encoders.sentence_transformers"),
    ("encoders.cooccurrence",),
    ("encoders",),
    # models and where their rows come from
    ("autoencoder", "residual_kmeans", "block_search", "training_data", "reordering", "joining"),
    ("quantizer", "losses", "feed", "monitoring", "checkpoints", "revival"),
    ("training", "verdicts", "trackers"),
    ("fitting",),
    # quantizers side by side
    ("comparison", "comparison.entries", "comparison.scatter", "comparison.summary"),
    ("comparison.run", "comparison.page"),
    # which levels to take
    ("planning.candidates", "planning.occupancy", "planning.spectrum", "planning.sample"),
    ("planning.trials", "planning.advice"),
    ("planning.costs",),
    ("planning",),
    # what jobs map over tables, and the tables that come out
    ("collisions.settings", "collisions.space"),
    ("collisions.copies", "collisions.moves", "collisions.nearby"),
    ("collisions.crowds", "collisions.spill", "collisions.within"),
    ("collisions.leaving", "collisions.streams", "collisions.suffix", "collisions.counting"),
    ("collisions.reassign",),
    ("collisions.overflow", "collisions.balanced", "collisions.merging", "collisions.checking"),
    ("collisions",),
    ("assignment", "alignment", "embedding", "table_diff", "table_index", "tombstones", "store"),
    ("known_items", "rolled_back", "violations", "graves", "index_building"),
    ("appending", "row_checks", "explained"),
    ("in_memory", "set_checks", "note_checks", "drift", "drift_verdicts"),
    ("verification", "in_memory_checks"),
    ("id_table", "diff_page"),
    ("id_reading",),
    ("coded_items", "evaluation", "evaluation.codes", "evaluation.findings"),
    ("evaluation.passing", "evaluation.structure", "evaluation.behaviour"),
    ("evaluation.whole",),
    ("evaluation.names",),
    # what training code imports
    ("recsys.arguments", "recsys.item_index", "recsys.levels", "recsys.token_embeddings"),
    ("recsys.bags",),
    ("recsys.trie_building",),
    ("recsys.trie", "recsys.vocabulary"),
    ("recsys.exclusion", "recsys.lookup"),
    ("recsys.constraint",),
    ("recsys.decoding", "recsys.hugging_face"),
    # the report, from arrays to the page
    ("report.drawing", "report.tree", "report.packing", "report.projection"),
    ("report.figures", "report.choices"),
    ("report.changes",),
    ("report", "report.contents", "report.verdict", "report.page"),
    ("report.subject", "report.sections"),
    ("report.looking",),
    ("report.beside",),
    ("report.building",),
    ("export.source", "export.flat", "export.tensors"),
    ("export.text", "export.tabular"),
    ("export.item_map", "export.flat_text"),
    (
        *("export.parquet", "export.tokens_json", "export.npz", "export.csv", "export.jsonl"),
        *("export.safetensors", "export.hf_datasets", "export.lcrec", "export.grid"),
        *("export.tiger", "export.semantic_ids_llm", "export.openonerec", "export.torcheasyrec"),
        *("export.forge", "export.recbole"),
    ),
    ("export.recognition",),
    ("export",),
    # what training code imports
    ("recsys.ordering",),
    ("recsys.ordering_on_disk",),
    ("recsys.histories",),
    ("recsys.embeddings", "recsys.pieces", "recsys.sequences"),
    ("recsys",),
    # IDs judged by recommenders
    ("probe.settings", "probe.published", "probe.summary"),
    ("probe.transformer", "probe.fitting", "probe.page"),
    ("probe.generative", "probe.sequential"),
    ("probe.judging",),
    ("probe.run",),
    ("probe.clicks",),
    ("probe",),
    # paths in, paths out
    ("jobs", "jobs.progress", "jobs.processes", "jobs.named_tables"),
    ("jobs.job", "jobs.mapping", "jobs.probe_runs"),
    ("jobs.encoding", "jobs.publishing", "jobs.context"),
    ("jobs.continuing", "jobs.gate_names", "jobs.report_shape", "jobs.evaluated"),
    ("jobs.evaluate",),
    ("jobs.gating",),
    ("jobs.building",),
    ("jobs.assign",),
    (
        *("jobs.compare", "jobs.embed", "jobs.export", "jobs.importing"),
        *("jobs.inspect", "jobs.train", "jobs.diff", "jobs.lookup", "jobs.retire"),
        *("jobs.verify", "jobs.drift", "jobs.plan", "jobs.probe", "jobs.join"),
    ),
    ("jobs.align", "jobs.report_metrics"),
    ("jobs.report_inputs",),
    ("jobs.report_sources",),
    ("jobs.report",),
    ("jobs.run",),
    # the command line
    ("metrics_table", "cli_options"),
    ("printing",),
    ("terminal",),
    ("cli_tables", "cli_analysis", "cli_making", "cli_exchange"),
    ("cli",),
    ("__main__",),
)
RANK = {module: rank for rank, modules in enumerate(RANKS) for module in modules}

# The only modules that may load these when they are imported; the others wait until they need them.
LOADS = {
    "torch": {
        "devices",
        "quantization",
        "estimators",
        "contrast",
        "mlp",
        "quantised",
        "locality",
        "shards",
        "projection",
        "block_search",
        "feed",
        "neighbours",
        "fsq",
        "balancing",
        "codebooks",
        "comparison.run",
        "principal",
        "autoencoder",
        "losses",
        "monitoring",
        "checkpoints",
        "revival",
        "reordering",
        "residual_kmeans",
        "training",
        "quantizer",
        "fitting",
        "recsys.arguments",
        "recsys.bags",
        "recsys.embeddings",
        "recsys.pieces",
        "recsys.sequences",
        "recsys.item_index",
        "recsys.trie",
        "recsys.vocabulary",
        "recsys.exclusion",
        "recsys.lookup",
        "recsys.constraint",
        "recsys.decoding",
        "recsys.hugging_face",
        "probe.transformer",
        "probe.fitting",
        "probe.generative",
        "probe.sequential",
        "probe.judging",
        "probe.run",
        "probe.clicks",
    },
    "faiss": set(),
    "pandas": set(),
    "sklearn": set(),
    "plotly": set(),
    "sentence_transformers": set(),
    "transformers": set(),
    "sentencepiece": set(),
    "ray": set(),
    "tensorboard": set(),
    "wandb": set(),
    "mlflow": set(),
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}
MODULES = sorted(set(FILES) - {"__init__"})
TREES = {module: ast.parse(path.read_text("utf-8")) for module, path in FILES.items()}


def own_imports(tree: ast.AST) -> Iterator[str]:
    """The modules of semid that are imported anywhere in a file, "" for the package itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            source = (node.module or "").partition(".")
            for alias in node.names if source[0] == "semid" else ():
                inner = f"{source[2]}.{alias.name}".strip(".")
                yield inner if inner in FILES else source[2]
        elif isinstance(node, ast.Import):
            yield from (
                a.name.partition(".")[2] for a in node.names if a.name.split(".")[0] == "semid"
            )


def loaded_at_import(tree: ast.Module) -> Iterator[str]:
    """Top-level packages that importing the file loads: nothing in functions, nothing for types."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def test_every_module_has_a_rank_and_every_rank_its_modules() -> None:
    assert set(MODULES) == set(RANK), "give each module of semid/ one place in RANKS"
    assert len(RANK) == sum(map(len, RANKS)), "a module stands in two ranks"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_below(module: str) -> None:
    for source in own_imports(TREES[module]):
        if source:
            assert RANK[source] < RANK[module], f"semid.{module} may not import semid.{source}"


@pytest.mark.parametrize("module", MODULES)
def test_the_package_gives_its_version_and_nothing_else(module: str) -> None:
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.ImportFrom) and node.module == "semid":
            names = {alias.name for alias in node.names if alias.name not in FILES}
            assert names <= {"__version__"}, f"semid.{module} imports {names} from semid"


def test_the_package_loads_nothing_of_its_own() -> None:
    assert "semid" not in set(loaded_at_import(TREES["__init__"]))


@pytest.mark.parametrize("module", ["__init__", *MODULES])
def test_heavy_packages_are_loaded_only_where_they_are_at_home(module: str) -> None:
    found = set(loaded_at_import(TREES[module]))
    for package, homes in LOADS.items():
        assert package not in found or module in homes, f"semid.{module} loads {package}"
    for node in TREES[module].body:  # and whoever imports one of those loads it too
        if isinstance(node, ast.ImportFrom):
            source = (node.module or "").removeprefix("semid.")
            assert source not in LOADS["torch"] or module in LOADS["torch"], (
                f"semid.{module} loads torch by way of semid.{source}"
            )


@pytest.mark.parametrize("module", ["__init__", *MODULES])
def test_file_names_and_docstrings(module: str) -> None:
    assert FILES[module].name not in {"utils.py", "util.py", "common.py", "helpers.py", "misc.py"}
    assert (ast.get_docstring(TREES[module]) or "").strip(), f"semid.{module} has no docstring"


FORBIDDEN_CALLS = {
    "print",
    "eval",
    "exec",
    "torch.manual_seed",
    "torch.random.manual_seed",
    "torch.cuda.manual_seed",
    "torch.cuda.manual_seed_all",
    "torch.use_deterministic_algorithms",
    "torch.set_num_threads",
    "torch.set_default_dtype",
    "torch.save",
    "torch.load",
    "np.random.seed",
    "numpy.random.seed",
    "random.seed",
}
# What sets a thread's own count, and puts the process's back; tensors alone, which GRID reads.
ALLOWED_CALLS = {
    ("devices", "torch.set_num_threads"),
    ("export.tensors", "torch.save"),
    ("export.tensors", "torch.load"),
}
FORBIDDEN_PACKAGES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


@pytest.mark.parametrize("module", ["__init__", *MODULES])
def test_no_prints_no_global_state_no_pickles(module: str) -> None:
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Call):
            name, keywords = ast.unparse(node.func), {k.arg: k.value for k in node.keywords}
            allowed = name not in FORBIDDEN_CALLS or (module, name) in ALLOWED_CALLS
            assert allowed, f"semid.{module}, line {node.lineno}: {name}("
            assert "allow_pickle" not in keywords or (
                ast.unparse(keywords["allow_pickle"]) == "False"
            ), f"semid.{module}, line {node.lineno}: allow_pickle"
        elif isinstance(node, ast.Attribute):
            if ast.unparse(node.value) in {"np.random", "numpy.random"}:
                assert node.attr in {"default_rng", "Generator", "SeedSequence"}, (
                    f"semid.{module}, line {node.lineno}: np.random.{node.attr} is global state"
                )
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            used = {name.split(".")[0] for name in names} & FORBIDDEN_PACKAGES
            assert not used, f"semid.{module}, line {node.lineno}: {used}"
