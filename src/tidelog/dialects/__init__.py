"""Vocabularies of the wire: pure folds over a log."""
