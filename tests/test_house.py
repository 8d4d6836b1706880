"""The rules of the house that no linter knows."""

import ast
import inspect
from pathlib import Path

import pytest

import modelserve

SOURCES = sorted(Path(modelserve.__file__).parent.rglob("*.py"))
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60


def functions(source):
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]


def lines(function):
    total = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is None:
        return total
    docstring = function.body[0]
    return total - (docstring.end_lineno - docstring.lineno + 1)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_files_and_functions_are_short(path):
    source = path.read_text(encoding="utf-8")

    assert len(source.splitlines()) <= MAX_FILE_LINES
    assert {f.name: lines(f) for f in functions(source) if lines(f) > MAX_FUNCTION_LINES} == {}


def test_public_names_are_sorted():
    assert list(modelserve.__all__) == sorted(modelserve.__all__)


@pytest.mark.parametrize("name", modelserve.__all__)
def test_public_names_show_an_example(name):
    assert ">>>" in (getattr(modelserve, name).__doc__ or "")


@pytest.mark.parametrize("name", modelserve.__all__)
def test_public_methods_say_what_they_do(name):
    members = inspect.getmembers(getattr(modelserve, name), is_method)

    assert [n for n, member in members if not n.startswith("_") and not member.__doc__] == []


def is_method(member):
    return inspect.isroutine(member) or isinstance(member, property)
