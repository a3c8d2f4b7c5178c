"""What other sites show of a page: a Sphinx extension that adds its Open Graph description and picture.

The picture is made by the front page's notebook, in an output whose metadata says `modgrok_social`.
"""

import base64
from html import escape
from pathlib import Path
from textwrap import shorten
from urllib.parse import urljoin

import nbformat
from docutils import nodes

from modgrok.storage.files import write_atomically

PICTURE = "_static/social.png"
"""Where the picture lies below the pages' root; 1,200 × 630 pixels."""


def setup(app) -> dict:
    """Sphinx calls this."""
    app.connect("html-page-context", _describe)
    app.connect("build-finished", _write_picture)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _describe(app, pagename, templatename, context, doctree) -> None:
    if doctree is None:  # search, index
        return
    title = next((node.astext() for node in doctree.findall(nodes.title)), app.config.html_title)
    first = next((node.astext() for node in doctree.findall(nodes.paragraph) if _is_prose(node)), "")
    said = first or f"{title}: a page of “{app.config.html_title}”."
    description = shorten(" ".join(said.split()), 200, placeholder=" …")
    root = app.config.html_baseurl
    told = {
        "og:title": title,
        "og:description": description,
        "og:site_name": app.config.html_title,
        "og:type": "article",
        "og:url": urljoin(root, app.builder.get_target_uri(pagename)),
        "og:image": urljoin(root, PICTURE),
        "og:image:width": "1200",
        "og:image:height": "630",
    }
    tags = [f'<meta property="{name}" content="{escape(text)}">' for name, text in told.items()]
    tags += [
        f'<meta name="description" content="{escape(description)}">',
        '<meta name="twitter:card" content="summary_large_image">',
    ]
    context["metatags"] = context.get("metatags", "") + "\n".join(tags)


def _is_prose(node: nodes.paragraph) -> bool:
    return isinstance(node.parent, nodes.section | nodes.document)


def _write_picture(app, exception) -> None:
    for notebook in Path(app.srcdir).glob("*.ipynb") if exception is None else ():
        for cell in nbformat.read(notebook, as_version=4).cells:
            for output in cell.get("outputs", []):
                if output.get("metadata", {}).get("modgrok_social"):
                    write_atomically(
                        Path(app.outdir) / PICTURE, base64.b64decode(output["data"]["image/png"])
                    )
