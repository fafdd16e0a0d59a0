"""How long a server takes until it listens, and an import until it is through."""

from __future__ import annotations

import subprocess
import sys
from statistics import median

from bench import machine
from bench.gates import Gate
from bench.launch import environment, running
from bench.load import Unmeasurable
from bench.roster import BUILT_IN, Server, named
from bench.workload import Column, Figures, Plan, Sizes, Workload

TIMES = Sizes(5, 3, 1)
LONGEST = 30.0  # seconds for an import
_CODE = "import time; began = time.perf_counter(); {statement}; print((time.perf_counter() - began) * 1e3)"


def measure_start(server: Server, plan: Plan) -> Figures:
    """Seconds from the start of the process until it takes connections; byte code and files are warm after the first."""
    took, cpu = [], []
    for _ in range(1 + plan.of(TIMES)):
        with running(server, plan.cores) as on:
            took.append(on.took)
            cpu.append(machine.cpu_ns(on.pid) / 1e9)
    return {"seconds": median(took[1:]), "cpu": median(cpu[1:])}


def measure_import(server: Server, plan: Plan) -> Figures:
    """Milliseconds of the statement in a fresh interpreter, without the interpreter's own start."""
    took = []
    for _ in range(1 + plan.of(TIMES)):
        with machine.pinned(plan.cores.server):
            done = subprocess.run(server.command, capture_output=True, timeout=LONGEST, env=environment())
        if done.returncode:
            raise Unmeasurable(done.stderr.decode(errors="replace"))
        took.append(float(done.stdout))
    return {"ms": median(took[1:])}


def _import(name: str, statement: str) -> Server:
    return Server(name, statement, (sys.executable, "-c", _CODE.format(statement=statement)), peer=False)


START = Workload(
    "startup",
    "Start-up: seconds until a server listens",
    measure_start,
    (Column("seconds", "s", digits=2, spread=True), Column("cpu", "CPU s", digits=2)),
    gates=tuple(Gate(name, "seconds", "<", 1.0, unit="s") for name in (BUILT_IN.name, "tidelog-sqlite")),
    rows=(BUILT_IN, named("tidelog-sqlite"), named("raw"), named("starlette"), named("fastapi"), named("node")),
    busy=False,
)
IMPORT = Workload(
    "import",
    "Imports, in a fresh interpreter",
    measure_import,
    (Column("ms", "ms", digits=1, spread=True),),
    gates=(Gate("import-tidelog", "ms", "<", 150, unit="ms"),),
    rows=(
        _import("import-tidelog", "import tidelog"),
        _import("import-Tidelog", "from tidelog import Tidelog"),
        _import("import-fastapi", "import fastapi"),
    ),
    busy=False,
)
