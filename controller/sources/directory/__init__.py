"""Wheels in one folder: `source` lists them, `watching` says when it changes."""
