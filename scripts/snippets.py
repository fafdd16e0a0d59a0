"""Checks the Python that users copy (README.md, docs, examples/, typing_tests/) with basedpyright in its strict mode.

A fenced block counts when it begins with an import; anything else is a fragment. Each block becomes a file of its own
with its lines where the page has them, so that a complaint names the right line.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = ("README*.md", "docs/**/*.md")
FOLDERS = ("examples", "typing_tests")
LOOSE = re.compile(r"^(import|from) (langchain|langgraph)", re.MULTILINE)
"""Libraries whose own types are partly unknown: who uses them cannot be strict."""
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        files = [_write(Path(folder), name, source) for name, source in _blocks()]
        files += [path for name in FOLDERS for path in sorted((ROOT / name).glob("**/*.py"))]
        loose = [path for path in files if LOOSE.search(path.read_text())]
        strict = [path for path in files if path not in loose]
        print(f"{len(strict)} blocks and examples in the strict mode, {len(loose)} in the standard one", flush=True)
        return max(_check(Path(folder), strict, "strict"), _check(Path(folder), loose, "standard"))


def _check(folder: Path, files: list[Path], mode: str) -> int:
    config = folder / f"{mode}.json"
    config.write_text(json.dumps(_config(files, mode)))
    checker = [sys.executable, "-m", "basedpyright", "--project", str(config), "--pythonpath", sys.executable]
    return subprocess.run(checker, check=False).returncode


def _blocks() -> Iterator[tuple[str, str]]:
    """Name and padded source of every whole block."""
    for page in sorted(path for pattern in PAGES for path in ROOT.glob(pattern)):
        text = page.read_text()
        for number, match in enumerate(BLOCK.finditer(text), 1):
            if re.match(r"(#.*\n|\s*\n)*(import|from) ", match[1]):
                above = text.count("\n", 0, match.start(1))
                yield f"{page.name}.block{number}.py", "\n" * above + match[1]


def _write(folder: Path, name: str, source: str) -> Path:
    (folder / name).write_text(source)
    return folder / name


def _config(files: list[Path], mode: str) -> dict[str, object]:
    return {
        "include": [str(path) for path in files],
        "typeCheckingMode": mode,
        "extraPaths": [str(ROOT / "examples")],
        # Endpoints are reached by their decorator.
        "reportUnusedFunction": False,
        # "chunk" of an event's data: LangChain's types do not tell which events have one.
        "reportTypedDictNotRequiredAccess": mode == "strict",
    }


if __name__ == "__main__":
    sys.exit(main())
