"""The rules of the house a machine can judge: who imports whom, how long things are, what stays out of the tree."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "tidelog"
MODULES = sorted(SOURCE.rglob("*.py"))

FILE_LINES = 400
FUNCTION_LINES = 50

WAITING = {"asyncio", "anyio", "threading", "socket", "starlette", "fastapi", "httpx2", "redis", "apsw", "sqlite3"}

# Pieced together, so that this file passes its own test.
PLACES = re.compile(
    "|".join(
        (
            r"(?<![\w.:}/-])/(?:work|tmp|root|opt)/",
            r"\bpypi[.]org|pythonhosted[.]org|npmjs[.]org|\bartifactory\b",
            r"--(?:extra-)?index[-]url|--find[-]links",
            r"^\S+ @ (?:file|https?):",
        )
    ),
    re.MULTILINE,
)


def test_imports_point_one_way() -> None:
    """In a process of its own: the linter sets up logging for the whole of it."""
    lint = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True, no_logo=True))"
    done = subprocess.run(
        [sys.executable, "-c", lint], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_translators_never_wait() -> None:
    """A translator is a class with `feed` and `end`; openers, its neighbours, may wait."""
    graph = grimp.build_graph("tidelog", include_external_packages=True, cache_dir=None)
    translators = [path for path in MODULES if path.parent.name == "sources" and _has_translator(path)]
    assert translators
    for path in translators:
        imported = graph.find_modules_directly_imported_by(f"tidelog.sources.{path.stem}")
        assert not imported & WAITING, f"{path.name} holds a translator, which is pure"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_module_is_short(path: Path) -> None:
    text = path.read_text()
    lines = text.count("\n")
    assert lines <= FILE_LINES, f"{lines} lines: one concept a file"
    long = [f"{name}: {length} lines" for name, length in _functions(text) if length > FUNCTION_LINES]
    assert not long


def test_every_folder_is_a_package() -> None:
    """The import contracts would not see a folder without `__init__.py`."""
    assert not {path.parent for path in MODULES if not (path.parent / "__init__.py").exists()}


def test_tree_names_no_registry_and_no_machine() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone: what belongs to the tree is not known")
    found = [f"{path.relative_to(ROOT)}: {match}" for path in _tracked() for match in PLACES.findall(_text(path))]
    assert not found


def test_constraints_are_exact_versions() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert len(pins) > 20
    assert not [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.+!]*", pin)]


def test_every_row_of_the_registry_imports() -> None:
    rows = list(_rows())
    assert len(rows) >= 4
    for row in rows:
        module, _, name = row.partition(":")
        assert hasattr(import_module(module), name), row


def _has_translator(path: Path) -> bool:
    classes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]
    return any({"feed", "end"} <= {getattr(member, "name", None) for member in each.body} for each in classes)


def _functions(text: str) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def _tracked() -> Iterator[Path]:
    """What git has or would take: a file is judged before it is committed."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=True).stdout.split(b"\0")
    return (path for name in names if name and (path := ROOT / name.decode()).is_file())


def _text(path: Path) -> str:
    data = path.read_bytes()
    return "" if b"\0" in data[:8192] else data.decode("utf-8", "replace")


def _rows() -> Iterator[str]:
    """Rows are recognised by their shape, so that a new table is enrolled by being there."""
    for name, value in vars(import_module("tidelog.registry")).items():
        if name.isupper() and isinstance(value, Mapping):
            yield from (row for row in value.values() if isinstance(row, str) and ":" in row)
