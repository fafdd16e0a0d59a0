"""The bench: tidelog and its peers side by side, on one machine, in one run.

``make bench`` runs ``python -m bench``. Each row is a server in a process of its own, fresh for every measurement and
pinned to one core; the load client (``client.c``) has the other core. Rows take turns, round by round, and a figure is
the median of its rounds. A whole run takes hours; ``--only`` takes a part, and ``--quick`` is a look, not a figure.

- A **server** is a row of ``roster.py`` (how to start it, what to ask it) and, for Python, an app in ``servers/``.
- A **workload** is a file of ``workloads/`` (what to measure, which columns to print) and a row of its ``WORKLOADS``.
- A **gate** (``gates.py``) is what tidelog promises of a figure; a workload lists its own, and a table at the end judges.
- A **report** is a module that measures no server against others (what translators add, what short answers cost, the
  documents) and a row of ``reports.py``; it comes last, and is a command of its own: ``python -m bench.translators``.
- ``launch.py`` starts a server, ``load.py`` puts load on it and reads both sides, ``machine.py`` knows cores and
  clocks, ``noise.py`` how much they moved, ``sockets.py`` kernel memory, ``build.py`` makes what must be there
  first: the compiled programs, and the peers' environments. ``publisher.c`` is the producer of servers that pass on.
- ``table.py`` prints, ``document.py`` is the JSON, ``write.py`` and ``plot.py`` make docs/performance.md of it.

Traps avoided here. Latency counts from the *intended* time of an event, so a stalled server cannot hide. The time to
the first event is judged too, because near saturation a server stops accepting while its latency still looks good. The
client is compiled, and its share of its core is printed, so that it is visibly not the bottleneck. What others took of
the server's core is printed as *foreign*, so that a disturbed round shows. Loopback TCP is charged to whoever runs it:
the kernel's work for a send counts as the server's, that for an acknowledgement as the client's.
"""
