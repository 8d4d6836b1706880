"""Replicas: several of one model behind one predictor."""

from __future__ import annotations

from modelserve.replicas._replicas import Replicas, ReplicasStats

__all__ = ["Replicas", "ReplicasStats"]
