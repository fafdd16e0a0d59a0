"""Keepers of logs, one file each."""
