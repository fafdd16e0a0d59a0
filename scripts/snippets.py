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
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        blocks = [_write(Path(folder), name, source) for name, source in _blocks()]
        config = Path(folder) / "pyrightconfig.json"
        config.write_text(json.dumps(_config(blocks)))
        print(f"{len(blocks)} blocks of the pages, and {', '.join(_folders()) or 'no folder of examples'}", flush=True)
        if not blocks and not _folders():
            return 0
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


def _write(folder: Path, name: str, source: str) -> str:
    (folder / name).write_text(source)
    return name


def _folders() -> list[str]:
    return [name for name in FOLDERS if (ROOT / name).is_dir()]


def _config(blocks: list[str]) -> dict[str, object]:
    return {
        "include": blocks + [str(ROOT / name) for name in _folders()],
        "typeCheckingMode": "strict",
        "extraPaths": [str(ROOT / "examples")],
        # Endpoints are reached by their decorator.
        "reportUnusedFunction": False,
    }


if __name__ == "__main__":
    sys.exit(main())
