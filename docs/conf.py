"""How the book is made of the pages here. `make docs` first writes what comes from the code into generated/."""

project = "distillery"
author = "the distillery's authors"
copyright = author
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["target"]
myst_enable_extensions = ["colon_fence", "deflist"]
# Links to headings, as in [limits](calls.md#limits), are checked.
myst_heading_anchors = 4
nitpicky = True
html_theme = "furo"
html_title = "distillery"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
# The fonts are the reader's own, and nothing is fetched from anywhere.
pygments_style = "friendly"
pygments_dark_style = "monokai"
