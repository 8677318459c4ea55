"""Decisions, and nothing else: pure functions from what is known to what should be.

No clock, no randomness, no I/O in here: they come in as parameters. Read `rollout` first.
"""
