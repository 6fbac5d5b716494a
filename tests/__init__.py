"""The tests.

Many of them start other interpreters: servers, notebooks, the command line. Where the environment forbids bytecode
beside the modules (``PYTHONDONTWRITEBYTECODE``), each of those would compile torch, timm and pandas anew, for eight
seconds of processor. The tests then keep bytecode in a folder of their own, and so do the interpreters that they start.
"""

import os
import sys
from pathlib import Path

if sys.dont_write_bytecode and sys.pycache_prefix is None:
    sys.pycache_prefix = str(Path(__file__).resolve().parent.parent / ".pytest_cache" / "bytecode")
    sys.dont_write_bytecode = False
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
