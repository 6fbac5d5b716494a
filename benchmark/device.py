"""Where networks run, and how they are set up so that a run can be repeated."""

from __future__ import annotations

import ctypes
import os
import platform

import torch

from benchmark.errors import VimiError, first_line
from benchmark.processors import count_processors

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of this name; ``auto`` prefers an accelerator.

    Raises
    ------
    VimiError
        If the machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("cpu")
    if name.partition(":")[0] == "gpu":
        here = "" if torch.cuda.is_available() else ", and sees none on this machine"
        raise VimiError(f"There is no device {name!r}: torch calls a GPU cuda{here}. Use --device cuda, cpu or auto.")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = first_line(error)
        raise VimiError(f"The device {name!r} can't be used here: {reason}. Use --device cpu, or auto.") from None
    return device


def prepare_torch(device: torch.device) -> None:
    """Set torch up for work that can be repeated bit by bit on one machine, and for large short-lived tensors."""
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    # Rounding products to 19 bits would reorder pictures whose activations are close.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    if device.type == "cpu":
        keep_freed_memory()
        set_threads()


def set_threads() -> int:
    """Set how many threads torch computes with on this machine's processors, and return it.

    ``VIMI_THREADS`` decides; then ``OMP_NUM_THREADS``, which torch reads itself; then as many as torch would take, but
    not more than this process may use: a container's share of the processor's time counts. Results agree bit by bit
    between runs with the same number of threads, so it does not depend on what else the machine is doing.

    Raises
    ------
    VimiError
        If ``VIMI_THREADS`` is no whole number above 0.
    """
    asked = os.environ.get("VIMI_THREADS", "")
    if asked:
        if not asked.isdecimal() or int(asked) < 1:
            raise VimiError(f"VIMI_THREADS is {asked!r}; it must be a whole number of at least 1.")
        torch.set_num_threads(int(asked))
    elif not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(max(1, min(torch.get_num_threads(), count_processors())))
    return torch.get_num_threads()


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory for the next tensor instead of giving it back to the kernel.

    Networks allocate and free the same large tensors in every batch; by default each comes fresh from the
    kernel, page by page, which takes up to two thirds of the time of a forward pass.

    Returns
    -------
    Whether the allocator could be told.
    """
    if platform.system() != "Linux" or "musl" in os.path.basename(platform.libc_ver()[0] or "musl"):
        return False
    try:
        library = ctypes.CDLL(None)
        return bool(library.mallopt(_M_MMAP_THRESHOLD, 1 << 30)) and bool(
            library.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
        )
    except (OSError, AttributeError):
        return False
