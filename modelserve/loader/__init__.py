"""ModelLoader: a model that comes, changes and goes without anybody noticing."""

from __future__ import annotations

from modelserve.loader import checks
from modelserve.loader._loader import ModelLoader
from modelserve.loader._registry import Registry
from modelserve.loader._rules import Every, OnChange
from modelserve.loader._version import LoaderStats

__all__ = ["Every", "LoaderStats", "ModelLoader", "OnChange", "Registry", "checks"]
