"""Sphinx: Markdown pages by kind, warnings are errors (``make docs``)."""

project = "K2 Ingest"
author = "The K2 Ingest authors"
copyright = "2026, The K2 Ingest authors"  # noqa: A001 - Sphinx wants this name
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "README.md"]
html_theme = "furo"
html_title = "K2 Ingest"
html_static_path = ["_static"]
html_css_files = ["wide-tables.css"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]
