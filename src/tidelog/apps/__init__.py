"""The built-in applications, built on the public API only."""
