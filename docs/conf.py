"""How Sphinx builds the documentation."""

from importlib.metadata import version as installed_version

project = "modelserve"
author = "The modelserve authors"
copyright = author  # noqa: A001 - Sphinx's own word
release = version = installed_version("modelserve")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
autodoc_typehints = "description"

html_theme = "furo"
