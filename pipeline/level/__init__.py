"""Finders of anatomic levels by name."""
