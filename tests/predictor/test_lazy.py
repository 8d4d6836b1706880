"""Modules that are imported when they are needed."""

import sys
import types

import pytest

from modelserve.predictor._lazy import LazyModule
from tests.support.processes import fresh


def test_imports_at_the_first_name_and_then_knows_them_all():
    code = """
import sys
from modelserve.predictor._lazy import LazyModule
module = LazyModule("wave")
print("wave" in sys.modules, module.open is __import__("wave").open, "Error" in vars(module))
"""
    assert fresh(code) == "False True True\n"


def test_a_module_in_the_midst_of_its_import_is_asked_again(monkeypatch):
    module = types.ModuleType("halfway")
    module.__spec__ = types.SimpleNamespace(_initializing=True)
    module.first = 1
    monkeypatch.setitem(sys.modules, "halfway", module)
    lazy = LazyModule("halfway")
    assert lazy.first == 1
    module.__spec__._initializing = False
    module.second = 2

    assert (lazy.first, lazy.second) == (1, 2)


def test_what_the_module_lacks_is_missing():
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = LazyModule("math").absent


def test_sync_trees_need_no_asyncio():
    code = """
import sys
import modelserve as ms
p = ms.PredictionCache(ms.DynamicBatcher(lambda xs: xs), maxsize=8)
with ms.request(timeout=30.0):
    print(p(1), ms.predictor(str.upper)("a"), "asyncio" in sys.modules)
p.close()
"""
    assert fresh(code).startswith("1 A ")
