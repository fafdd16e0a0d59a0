"""What must exist before a measurement: the compiled client, and the peers in an environment of their own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE / ".build"
PEERS = HERE / ".venv"
REQUIREMENTS = HERE / "requirements.txt"


def binary(name: str) -> Path:
    """The compiled ``<name>.c``, built when missing or older than its source; ``SystemExit`` without a C compiler."""
    source, target = HERE / f"{name}.c", BUILD / name
    if target.exists() and target.stat().st_mtime >= source.stat().st_mtime:
        return target
    BUILD.mkdir(exist_ok=True)
    subprocess.run([_compiler(), "-O2", "-Wall", "-Wextra", "-o", str(target), str(source)], check=True)
    return target


def peers_python() -> str:
    """The interpreter of the peers' environment, made or renewed when ``requirements.txt`` says something new."""
    python, stamp = PEERS / "bin" / "python", PEERS / REQUIREMENTS.name
    wanted = REQUIREMENTS.read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        print("bench: installing the peers in bench/.venv", file=sys.stderr)
        venv.create(PEERS, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", REQUIREMENTS], check=True)
        stamp.write_text(wanted)
    return str(python)


def drift() -> list[str]:
    """Packages that the peers pin to another version than this interpreter, which runs tidelog, has."""
    return [line for line in map(_drift_of, _pins()) if line]


def _compiler() -> str:
    for name in ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return found
    raise SystemExit(
        "bench needs a C compiler for its load client, and found none (on Debian: apt install gcc libc6-dev)."
    )


def _pins() -> list[tuple[str, str]]:
    lines = (line.partition("#")[0].strip() for line in REQUIREMENTS.read_text().splitlines())
    return [(name, version) for name, _, version in (line.partition("==") for line in lines if line)]


def _drift_of(pin: tuple[str, str]) -> str | None:
    name, wanted = pin
    try:
        here = metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
    return None if here == wanted else f"{name}: peers {wanted}, tidelog {here}"
