"""What must exist before a measurement: compiled programs, and the peers in environments of their own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from functools import cache
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE / ".build"
PEERS = HERE / ".venv"
NODE = HERE / ".node"
NGINX = HERE / ".nginx"
REQUIREMENTS = HERE / "requirements.txt"
PACKAGES = HERE / "package.json"
DEBIAN = ("nginx", "libnginx-mod-nchan")
LONGEST_INSTALL = 600.0  # seconds


class Missing(Exception):
    """A peer cannot be installed here; the text says why."""


def binary(name: str) -> Path:
    """The compiled ``<name>.c``, built when missing or older than its source; ``SystemExit`` without a C compiler."""
    source, target = HERE / f"{name}.c", BUILD / name
    if target.exists() and target.stat().st_mtime >= source.stat().st_mtime:
        return target
    BUILD.mkdir(exist_ok=True)
    subprocess.run([_compiler(), "-O2", "-Wall", "-Wextra", "-o", str(target), str(source)], check=True)
    return target


def peers_python() -> str:
    """The interpreter of the Python peers' environment. Raises ``Missing``."""
    _ready(PEERS, REQUIREMENTS.read_text(), _install_python)
    return str(PEERS / "bin" / "python")


def node_packages() -> str:
    """The folder that holds the Node peers' ``node_modules``. Raises ``Missing``."""
    _ready(NODE, PACKAGES.read_text(), _install_node)
    return str(NODE)


def nginx() -> str:
    """A folder with the files of nginx and nchan, taken out of Debian's packages; nothing is installed. Raises ``Missing``."""
    _ready(NGINX, " ".join(DEBIAN), _unpack_nginx)
    return str(NGINX)


def drift() -> list[str]:
    """Packages that the peers pin to another version than this interpreter, which runs tidelog, has."""
    return [line for line in map(_drift_of, _pins()) if line]


def _ready(folder: Path, wanted: str, install: Callable[[], None]) -> None:
    """``folder`` is as ``wanted`` says; a word in it tells what it was made of."""
    stamp = folder / "made-of"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    if reason := _installed(folder, install):
        raise Missing(reason)
    stamp.write_text(wanted)


@cache
def _installed(folder: Path, install: Callable[[], None]) -> str | None:
    """Why it could not be, told once: a second try in the same run would fail as the first did."""
    print(f"bench: installing peers in bench/{folder.name}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        install()
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or b""
        return f"it could not be installed: {error}. {said.decode(errors='replace').strip()[-300:]}"
    return None


def _run(*command: str, cwd: Path = HERE) -> None:
    subprocess.run(
        command, cwd=cwd, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=LONGEST_INSTALL
    )


def _install_python() -> None:
    venv.create(PEERS, with_pip=True)
    _run(str(PEERS / "bin" / "python"), "-m", "pip", "install", "-q", "-r", str(REQUIREMENTS))


def _install_node() -> None:
    shutil.copy(PACKAGES, NODE)
    _run("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock", cwd=NODE)


def _unpack_nginx() -> None:
    with tempfile.TemporaryDirectory() as folder:
        _run("apt-get", "download", *DEBIAN, cwd=Path(folder))
        for package in Path(folder).glob("*.deb"):
            _run("dpkg", "-x", str(package), str(NGINX))


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
