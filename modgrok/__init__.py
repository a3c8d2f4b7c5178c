"""modgrok: train, evaluate and look into transformers that learn modular arithmetic in context."""

import os

__version__ = "0.2.0"

# Huge pages for torch's large buffers on Linux, some hundredths of a step; torch looks when it makes its first tensor.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
