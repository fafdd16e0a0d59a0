"""The bench: tidelog and its peers side by side, on one machine, in one run.

``make bench`` runs ``python -m bench``. Each row is a server in a process of its own, fresh for every measurement and
pinned to one core; the load client (``client.c``) has the other core. Rows take turns, round by round, and a figure is
the median of its rounds. A whole run takes most of an hour; ``--quick`` takes minutes and is a look, not a figure.

- A **server** is a row of ``roster.py`` (how to start it, what to ask it) and, for Python, an app in ``servers/``.
- A **workload** is a file of ``workloads/`` (what to measure, which columns to print) and a row of its ``WORKLOADS``.
- A **report** is a module that measures no server against others (what translators add, what short answers cost, the
  documents) and a row of ``reports.py``; it comes last, and is a command of its own: ``python -m bench.translators``.
- ``launch.py`` starts a server, ``load.py`` puts load on it and reads both sides, ``machine.py`` knows cores, clocks
  and noise, ``build.py`` makes what must be there first: the client, and the peers' environment.

Traps avoided here. Latency counts from the *intended* time of an event, so a stalled server cannot hide. The time to
the first event is judged too, because near saturation a server stops accepting while its latency still looks good. The
client is compiled, and its share of its core is printed, so that it is visibly not the bottleneck. What others took of
the server's core is printed as *foreign*, so that a disturbed round shows. Loopback TCP is charged to whoever runs it:
the kernel's work for a send counts as the server's, that for an acknowledgement as the client's.
"""
