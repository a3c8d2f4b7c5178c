"""Assemble the live control's matrix product: modgrok/live/product.wat becomes product.js, the bytes as base64.

python scripts/assemble.py     (needs wasmtime: pip install wasmtime)
"""

import base64
from pathlib import Path

LIVE = Path(__file__).resolve().parent.parent / "modgrok/live"


def assemble() -> str:
    """The text of product.js."""
    import wasmtime

    module = wasmtime.wat2wasm((LIVE / "product.wat").read_text("utf8"))
    return (
        "// Made of product.wat by scripts/assemble.py.\n"
        f'const PRODUCT = "{base64.b64encode(module).decode()}";\n'
    )


if __name__ == "__main__":
    (LIVE / "product.js").write_text(assemble(), "utf8")
