"""Scenarios of loading: each returns rows that set a figure beside its target."""
