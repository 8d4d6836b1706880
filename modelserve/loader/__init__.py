"""ModelLoader: a model that comes, changes and goes without anybody noticing."""

from __future__ import annotations

from modelserve.loader._loader import LoaderStats, ModelLoader

__all__ = ["LoaderStats", "ModelLoader"]
