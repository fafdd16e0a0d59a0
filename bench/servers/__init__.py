"""One small app for each Python server; all of them emit the events of ``source.py``."""
