"""What other sites show of a page: the picture that the front page's notebook makes.

sphinxext-opengraph writes the descriptions; this extension puts the picture where they say that it lies.
"""

import base64
from pathlib import Path

import nbformat

from modgrok.storage.files import write_atomically

PICTURE = "_static/social.png"
"""Where the picture lies below the pages' root; 1,200 × 630 pixels."""


def setup(app) -> dict:
    """Sphinx calls this."""
    app.connect("build-finished", write_picture)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write_picture(app, exception: Exception | None) -> None:
    """Write the output whose metadata says `modgrok_social`, if the build succeeded."""
    for notebook in Path(app.srcdir).glob("*.ipynb") if exception is None else ():
        for cell in nbformat.read(notebook, as_version=4).cells:
            for output in cell.get("outputs", []):
                if output.get("metadata", {}).get("modgrok_social"):
                    png = base64.b64decode(output["data"]["image/png"])
                    write_atomically(Path(app.outdir) / PICTURE, png)
