"""Settings of the documentation: Sphinx with furo and MyST. `make docs` builds it."""

from unitscope import __version__

project = "unitscope"
author = "unitscope contributors"
copyright = f"2026, {author}"
release = version = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
root_doc = "index"
html_theme = "furo"
html_title = f"unitscope {__version__}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600  # seconds a cell, on whatever machine
nb_execution_in_temp = True  # each page in a folder of its own

autodoc_typehints = "none"  # they stand in the signature
autodoc_member_order = "bysource"
# Docstrings are plain text with `names` in backticks.
default_role = "code"
