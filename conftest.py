"""Run the code blocks of README.md, docs/ and the docstrings as tests.

The blocks of a page share a namespace and run in order, in an empty folder. A page or docstring
that imports an extra that is not installed is skipped from there on.
"""

import contextlib
import doctest
import re
import tempfile
from importlib.util import find_spec
from typing import Any

import pytest
from sybil import Document, Example, Sybil
from sybil.document import PythonDocStringDocument
from sybil.integration.pytest import SybilItem
from sybil.parsers import myst, rest

EXTRAS = {
    "fastapi",
    "flask",
    "fsspec",
    "httpx",
    "onnx",
    "onnxruntime",
    "skl2onnx",
    "sklearn",
    "torch",
    "tqdm",
    "transformers",
    "uvicorn",
}
IMPORT = re.compile(r"^\s*(?:import|from)\s+(\w+)", re.MULTILINE)
MISSING = {name for name in EXTRAS if find_spec(name) is None}

# Sybil's own filter fails on an error raised outside a block, such as a warning at its end.
SybilItem._traceback_filter = pytest.Item._traceback_filter  # noqa: SLF001


def enter_empty_folder(namespace: dict[str, Any]) -> None:
    """Let a page write its files where nobody finds them."""
    stack = namespace["_folder"] = contextlib.ExitStack()
    stack.enter_context(contextlib.chdir(stack.enter_context(tempfile.TemporaryDirectory())))


def leave_folder(namespace: dict[str, Any]) -> None:
    """Go back to where the tests run."""
    namespace.pop("_folder").close()


pytest_collect_file = (
    Sybil(
        parsers=[myst.PythonCodeBlockParser(doctest_optionflags=doctest.ELLIPSIS)],
        patterns=["README.md", "docs/*.md"],
        setup=enter_empty_folder,
        teardown=leave_folder,
    )
    + Sybil(
        parsers=[rest.DocTestParser(optionflags=doctest.ELLIPSIS)],
        path="modelserve",
        pattern="*.py",
        setup=enter_empty_folder,
        teardown=leave_folder,
    )
).pytest()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring the blocks of each page back into order, and skip those that miss an extra."""
    blocks = [item for item in items if isinstance(item, SybilItem)]
    blocks.sort(key=lambda block: (block.path, block.example.region.start))
    in_order = iter(blocks)
    items[:] = [next(in_order) if isinstance(item, SybilItem) else item for item in items]
    missing: dict[tuple[Document, int], str] = {}
    for block in blocks:
        place = block.example.document, page_start(block.example)
        for name in MISSING & imported(block.example):
            missing.setdefault(place, name)
        if place in missing:
            block.add_marker(pytest.mark.skip(reason=f"{missing[place]} is not installed"))


def page_start(example: Example) -> int:
    """Return where the docstring of an example starts, or the page if it is not in one."""
    document = example.document
    if not isinstance(document, PythonDocStringDocument):
        return 0
    starts = [start for start, _, _ in document.extract_docstrings(document.text)]
    return max(start for start in starts if start <= example.region.start)


def imported(example: Example) -> set[str]:
    """Return the top-level packages that an example imports."""
    return set(IMPORT.findall(str(getattr(example.parsed, "source", example.parsed))))
