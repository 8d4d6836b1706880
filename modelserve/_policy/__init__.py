"""Decisions, and nothing else: no thread, no loop, no clock, no I/O; ``now`` is an argument."""
