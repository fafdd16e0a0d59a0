"""The workloads, in the order in which they run and print."""

from __future__ import annotations

from bench.workload import Workload
from bench.workloads import capacity, cost, idle

WORKLOADS: tuple[Workload, ...] = (cost.WORKLOAD, capacity.WORKLOAD, idle.WORKLOAD)
