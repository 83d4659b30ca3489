"""Settings of the documentation's site; `make docs` builds it into out/docs."""

import sys
from pathlib import Path

from semid import __version__

sys.path.insert(0, str(Path(__file__).parent))  # for the extensions beside this file

project = html_title = f"semid {__version__}"
author = "the semid developers"
extensions = ["myst_parser", "sphinx.ext.autodoc", "generated", "links"]
html_theme = "furo"
html_show_copyright = html_show_sphinx = html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
highlight_language = "text"
smartquotes = False  # would take the hyphens of --options for a dash

myst_heading_anchors = 4

autodoc_member_order = "bysource"
# Docstrings say in words what types and shapes there are.
autodoc_typehints = "none"
default_role = "code"
toc_object_entries_show_parents = "hide"

# Only asked for by `make linkcheck`, which needs a network.
linkcheck_anchors = False
linkcheck_timeout = 20
