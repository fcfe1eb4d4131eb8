"""What every test needs before anything imports Triton.

Without a CUDA device the Triton kernels are tested in Triton's interpreter. Triton decides that
once, when it is imported, so the variable is set here, in the conftest that every run loads
first, whichever tests are chosen and whichever worker runs them.
"""

import os
import sys

import torch

if not torch.cuda.is_available():
    if "triton" in sys.modules and os.environ.get("TRITON_INTERPRET") != "1":
        raise RuntimeError("triton was imported before tests/conftest.py: set TRITON_INTERPRET=1")
    os.environ["TRITON_INTERPRET"] = "1"
