"""Write the table of modules into CONTRIBUTING.md, from the first line of each module's docstring."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEAD = "| place | module | what it holds |\n| --- | --- | --- |\n"


def rows() -> list[str]:
    """Return a row for every module, those of the top level first."""
    library = ROOT / "modgrok"
    files = sorted(library.rglob("*.py"), key=lambda file: (file.parent != library, file))
    lines = []
    for file in files:
        if file.name != "__init__.py" or file.parent.name in ("widgets", "live"):
            summary = ast.get_docstring(ast.parse(file.read_text("utf8"))).partition("\n")[0]
            folder = file.parent.relative_to(library).as_posix().replace(".", "top") + "/"
            lines.append(
                f"| `{folder}` | `{file.stem}` | {summary.removesuffix(' ::')} |".replace("`top/`", "top")
            )
    return lines


if __name__ == "__main__":
    page = ROOT / "CONTRIBUTING.md"
    table = re.compile(re.escape(HEAD) + r"(\|.*\n)*")
    page.write_text(
        table.sub(lambda _: HEAD + "\n".join(rows()) + "\n", page.read_text("utf8"), count=1), "utf8"
    )
