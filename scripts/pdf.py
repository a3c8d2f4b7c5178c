"""Print the built book to one PDF: python scripts/pdf.py [_build/html] [book.pdf]; needs Chromium.

Every page of the table of contents but the reference is printed by a browser, so that figures, formulas and the first
view of each slider look as they do there, without what is folded and what a reader would press. The pages are put
together, with a bookmark each.
"""

import functools
import http.server
import io
import shutil
import sys
import threading
from pathlib import Path

import yaml
from playwright.sync_api import sync_playwright
from pypdf import PdfWriter
from tqdm import tqdm

FOOTER = (
    '<div style="width:100%;font-size:8px;text-align:center;color:#777">'
    '<span class="title"></span> · <span class="pageNumber"></span></div>'
)
STYLE = """
.bd-sidebar, .bd-header, .bd-header-article, .bd-sidebar-secondary, .bd-footer, .prev-next-area, .headerlink,
#jb-print-toc, .modgrok-download, .copybtn, .skip-link, #pst-skip-link, .bd-content details:not([open]),
.modgrok-slider button, .modgrok-range, .modgrok-tabs [aria-selected="false"],
.modgrok-live :is(button, input):not(.ask-examples *, .ask-switch) { display: none !important }
.bd-main, .bd-content, .bd-article-container, .bd-container__inner {
  display: block !important;
  max-width: none !important
}
pre { white-space: pre-wrap !important }
figure, .modgrok-picture, .widget-subarea, pre, tr { break-inside: avoid }
.modgrok-picture svg, .modgrok-live canvas { height: auto !important; max-width: 100% }
h1, h2, h3 { break-after: avoid }
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def pages(node) -> list[str]:
    """The pages of a table of contents, in order."""
    if isinstance(node, list):
        return [page for entry in node for page in pages(entry)]
    names = [node[key] for key in ("root", "file") if key in node]
    return names + [page for value in node.values() if isinstance(value, list) for page in pages(value)]


def main(html: str = "_build/html", out: str = "_build/html/learning-to-grok.pdf") -> None:
    root = Path(__file__).resolve().parent.parent
    contents = [
        page for page in pages(yaml.safe_load((root / "_toc.yml").read_text())) if not page.startswith("api/")
    ]
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if not program or not Path(html, "intro.html").exists():
        sys.exit("A PDF needs Chromium, and the built pages: make book.")
    writer = PdfWriter()
    handler = functools.partial(Quiet, directory=html)
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        sync_playwright() as playwright,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 900, "height": 1200}, color_scheme="light")
        for name in tqdm(contents, desc="PDF", unit="page"):
            page.goto(f"http://127.0.0.1:{server.server_port}/{name}.html", wait_until="load")
            views = page.locator('script[type="application/vnd.jupyter.widget-view+json"]').count()
            page.wait_for_function(
                "n => document.querySelectorAll('.widget-subarea .jupyter-widgets').length >= n", arg=views
            )
            page.wait_for_function("[...document.images].every(i => i.complete)")
            for live in page.locator(".modgrok-live").all():  # it begins when a reader comes near
                live.scroll_into_view_if_needed()
            page.wait_for_function("!document.querySelector('.modgrok-live:empty')")
            page.evaluate("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")
            page.add_style_tag(content=STYLE)
            printed = page.pdf(
                format="A4", scale=0.75, print_background=True, display_header_footer=True, header_template="<i></i>",
                footer_template=FOOTER, margin={"top": "18mm", "bottom": "18mm", "left": "16mm", "right": "16mm"},
            )  # fmt: skip
            title = page.locator("h1").first.inner_text().strip()
            writer.append(
                io.BytesIO(printed), outline_item=title.removesuffix("#").strip(), import_outline=False
            )
        browser.close()
        server.shutdown()
    writer.compress_identical_objects()
    writer.write(out)
    print(f"{out}: {len(writer.pages)} pages, {Path(out).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
