"""Makes a web site of the pages here: `make docs`. The pages are plain Markdown, which a code host shows as it is."""

import pathlib
import re

project = "distillery"
author = "the distillery's authors"
copyright = author
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
# Links to headings, as in [limits](writing-calls.md#limits), are checked.
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

HERE = pathlib.Path(__file__).parent
LINK = re.compile(r"\]\(([a-z0-9/-]+)\.md\)")


def add_tables_of_contents(app, name, source):
    """Adds the navigation to the pages that list others: a section of index.md is a part of it."""
    if name == "index":
        for section in source[0].split("\n## ")[1:]:
            title, _, rest = section.partition("\n")
            source[0] += toctree(LINK.findall(rest), title)
    if name == "languages":
        source[0] += toctree(page for page in LINK.findall(source[0]) if page.startswith("languages/"))


def toctree(pages, title=None):
    caption = f":caption: {title}\n" if title else ""
    return "\n\n```{toctree}\n:hidden:\n" + caption + "\n" + "\n".join(dict.fromkeys(pages)) + "\n```\n"


def leave_files_of_the_repository(app, name, source):
    """Files beside docs/ are not part of the site: a link to one becomes its path in the repository."""
    page = (HERE / name).parent

    def path(link):
        text, target = link.group(1), link.group(2).partition("#")[0]
        file = (page / target).resolve()
        if "://" in target or file.is_relative_to(HERE):
            return link.group(0)
        assert file.exists(), f"{name}: a link leads nowhere: {target}"
        where = file.relative_to(HERE.parent)
        return f"{text} (`{where}`)" if text.strip("`") != str(where) else text

    source[0] = re.sub(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)", path, source[0])


def setup(app):
    app.connect("source-read", leave_files_of_the_repository)
    app.connect("source-read", add_tables_of_contents)
