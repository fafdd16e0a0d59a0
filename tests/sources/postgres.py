"""A real PostgreSQL for the tests that need one: a cluster of its own in a temporary folder, reached by a Unix socket."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MISSING = "PostgreSQL is missing. Debian: apt-get install postgresql; elsewhere: put initdb and pg_ctl on the PATH."
PATIENCE = 120.0
OPTIONS = "-c listen_addresses='' -c fsync=off -c full_page_writes=off -c max_connections=30 -c shared_buffers=16MB"


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """The URL of an empty database, which is gone afterwards. Without PostgreSQL the test is skipped, in CI it fails.

    Root on Debian gets it installed, as `scripts/chromium.sh` installs Chromium.
    """
    programs = _programs() or (_install() and _programs())
    if not programs and os.environ.get("CI") == "true":
        pytest.fail(MISSING)
    if not programs:
        pytest.skip(MISSING)
    folder = Path(tempfile.mkdtemp(prefix="tidelog-pg-"))
    control = [programs / "pg_ctl", "-D", folder / "data", "-w", "-s"]
    try:
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            owner = pwd.getpwnam("postgres")
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        _run([programs / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N"])
        _run([*control, "-l", folder / "log", "-o", f"{OPTIONS} -k {folder}", "start"])
        try:
            yield f"postgresql+asyncpg://postgres@/postgres?host={folder}"
        finally:
            _run([*control, "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path | None:
    """The folder that holds `initdb` and `pg_ctl`: on the PATH, or where Debian puts them."""
    if (found := shutil.which("initdb")) is not None and shutil.which("pg_ctl") is not None:
        return Path(found).parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    return folders[-1] if folders and (folders[-1] / "initdb").exists() else None


def _install() -> bool:
    if os.getuid() != 0 or shutil.which("apt-get") is None:
        return False
    get = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120"]
    for command in ([*get, "update"], [*get, "install", "-y", "--no-install-recommends", "postgresql"]):
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        if subprocess.run(command, env=env, capture_output=True, check=False).returncode != 0:
            return False
    return True


def _run(command: list[str | Path]) -> None:
    user = "postgres" if os.getuid() == 0 else None
    with tempfile.TemporaryFile() as output:  # a pipe would be held open by the server that is started
        done = subprocess.run(
            command, cwd="/", user=user, group=user, extra_groups=[] if user else None, stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, timeout=PATIENCE, check=False,
        )  # fmt: skip
        output.seek(0)
        assert done.returncode == 0, output.read().decode()
