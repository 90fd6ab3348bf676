"""The walls of the house: who may import what, and that every half has its other half. Read from the syntax tree."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "crps_outcomes"
FILES = sorted(PACKAGE.rglob("*.py"))
CALCULATION = [
    *sorted((PACKAGE / "stages").glob("*.py")),
    *sorted((PACKAGE / "analysis").glob("*.py")),
    *(PACKAGE / name for name in ("estimators.py", "hiding.py", "carrying.py", "rounding.py")),
    *sorted((PACKAGE / "sections").glob("*.py")),
]

# The pull is the stage that talks to a source, and the render runs in a child process: both take what they need of the
# outside by argument, and import no client or clock either unless it stands here with its reason.
OUTSIDE = {"httpx", "socket", "urllib", "http", "requests", "random", "time", "secrets"}
FORBIDDEN_CALLS = {
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "date.today",
    "os.getenv",
    "os.environ",
    "Timestamp.now",
    "pd.Timestamp.now",
    "pd.Timestamp.today",
    "np.random",
    "numpy.random",
}
# Reviewed, with the number of places and the reason why none of them fills in or drops a value of a patient.
MAY_FILL = {
    "analysis/dosing.py": (1, "the first session of a series has no interval before it"),
    "analysis/safety.py": (1, "an event whose seriousness nobody recorded is not counted as serious"),
    "hiding.py": (6, "look-ups in tables of marks, reasons and decimals: what is not listed there has none"),
    "stages/disclose.py": (1, "a look-up in the ledger: a type of resource that has no hole there has none"),
}
MAY_NAME = {
    "stages/render.py": ({"urllib"}, "takes addresses apart to refuse them; it opens none"),
}


def imports(tree: ast.AST) -> set[str]:
    """Every module a file imports, however deep in a function."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def tops(tree: ast.AST) -> set[str]:
    return {name.split(".")[0] for name in imports(tree)}


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def importers_of(module: str) -> set[str]:
    depth = module.count(".") + 1
    return {
        path.relative_to(PACKAGE).as_posix()
        for path in FILES
        if any(name.split(".")[:depth] == module.split(".") for name in imports(parsed(path)))
    }


def test_the_wall_sees_an_import_however_deep():
    tree = ast.parse("def f():\n    if 1:\n        from fhir.resources import get_fhir_model_class as g\n")
    assert "fhir.resources" in imports(tree)


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("prefect", {"orchestration.py"}),
        ("weasyprint", {"stages/render.py"}),
        ("fhir.resources", {"validation.py", "stages/publish.py"}),
        ("sekmet", {"demo_server.py"}),
    ],
)
def test_a_library_stays_behind_its_wall(module, allowed):
    assert importers_of(module) <= allowed


def test_prefect_is_never_imported_at_module_level():
    top_level = [
        node for node in parsed(PACKAGE / "orchestration.py").body if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert "prefect" not in tops(ast.Module(top_level, []))


@pytest.mark.parametrize("path", CALCULATION, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_what_computes_knows_no_clock_network_environment_or_chance(path):
    tree = parsed(path)
    calls = {dotted(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    allowed, _ = MAY_NAME.get(path.relative_to(PACKAGE).as_posix(), (set(), ""))
    assert tops(tree) & OUTSIDE <= allowed
    assert not {
        call for call in calls - {"np.random", "np.random.Generator", *_seeded(tree)} for name in FORBIDDEN_CALLS
        if call == name or call.startswith(f"{name}.")
    }  # fmt: skip


def _seeded(tree: ast.Module) -> set[str]:
    """The one door to chance, where every call of it names its seed."""
    calls = [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and dotted(node.func) == "np.random.default_rng"
    ]
    return {"np.random.default_rng"} if calls and all(node.args for node in calls) else set()


def filling(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(parsed(path)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in {"fillna", "dropna"}
        ):
            found.add(f"line {node.lineno}: {node.func.attr}")
        if isinstance(node, ast.keyword) and node.arg == "errors" and ast.unparse(node.value) == "'coerce'":
            found.add(f"line {node.value.lineno}: errors=coerce")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_nothing_missing_is_filled_or_dropped_in_passing(path):
    reviewed, _ = MAY_FILL.get(path.relative_to(PACKAGE).as_posix(), (0, ""))
    assert len(filling(path)) == reviewed, filling(path)


def test_flows_order_and_compute_nothing():
    for path in sorted((ROOT / "flows").glob("*.py")):
        assert not tops(parsed(path)) & {
            "pandas",
            "numpy",
            "scipy",
            "statsmodels",
            "httpx",
            "fhir",
            "weasyprint",
            "jinja2",
        }


@pytest.mark.parametrize("folder", ["mappings", "templates", "reports"])
def test_the_clinicians_folders_hold_no_python(folder):
    assert list((ROOT / folder).rglob("*.py")) == []


def stems(folder: Path, pattern: str) -> set[str]:
    return {path.stem.removesuffix(".html") for path in folder.glob(pattern) if not path.name.startswith("_")}


def test_every_section_has_its_template_and_every_template_its_section():
    assert stems(PACKAGE / "sections", "*.py") == stems(ROOT / "templates" / "sections", "*.html.j2")


def test_every_measure_has_its_golden_file_and_every_golden_file_its_measure():
    assert stems(ROOT / "mappings" / "measures", "*.toml") == stems(ROOT / "tests" / "golden" / "measures", "*.json")


def tracked_texts() -> list[Path]:
    folders = ("src", "flows", "mappings", "templates", "reports", "tests", "docs", "tools", ".ci", "benchmarks")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    texts = {".py", ".toml", ".csv", ".md", ".j2", ".css", ".json", ".yaml", ".sh", ".lock", ".cff", ".svg", ""}
    own = [path for path in (*files, *ROOT.iterdir()) if path.is_file() and path.suffix in texts]
    return [path for path in own if "__pycache__" not in path.parts and path.name not in {"uv.lock", ".git"}]


def test_nothing_names_the_machine_it_was_written_on():
    machine = ["/wo" + "rk/", "/ho" + "me/", "/ro" + "ot/", "pypi" + ".org", "files.python" + "hosted"]
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in tracked_texts()
        for word in machine
        if word in path.read_text(encoding="utf-8", errors="ignore")
    ]
    assert found == []


def test_every_local_link_of_the_documents_leads_somewhere():
    broken = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for part in page.read_text(encoding="utf-8").split("](")[1:]:
            target = part.split(")")[0].split("#")[0].split(" ")[0]
            if target and "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []
