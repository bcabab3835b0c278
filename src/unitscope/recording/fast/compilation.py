"""How the compiled library is made, where it is kept, and when it may be loaded.

Problem: a library is code. Whoever can write to the folder that a library lies in could have put another one there. And
a power failure may leave a file that is cut off, or full of zeros.

Idea: a library is loaded only from a folder that belongs to the user, and that nobody else can write to or replace.
Its name holds the digest of its contents, so that a damaged file is noticed, and compiled anew. Where the user's cache
is no such folder, this process compiles into a folder of its own.

    ~/.cache/unitscope/readout-<key>-<digest>.so    key: source, flags, compiler, processor and OpenMP of PyTorch
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import logging
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import torch

from unitscope.durable import replace_file, sync

SOURCE = Path(__file__).resolve().with_name("readout.cc")

FLAGS = ("-O3", "-march=native", "-std=c++17", "-ffp-contract=off", "-fPIC", "-Wno-psabi")

log = logging.getLogger(__name__)


def compile_library(compiler: str) -> Path:
    """The shared library, compiled unless the cache has it for this source, compiler, processor and PyTorch.

    Raises OSError where there is no folder that it may lie in, CalledProcessError where the compiler fails.
    """
    threads = threads_of_torch()
    known = (SOURCE.read_text(), *FLAGS, compiler, os.path.realpath(compiler), processor(), str(threads))
    key = hashlib.sha256(repr(known).encode()).hexdigest()[:16]
    folder = cache_folder()
    for path in sorted(folder.glob(f"readout-{key}-*.so")):
        if is_whole(path):
            return path
        with contextlib.suppress(OSError):
            path.unlink()
    return compile_into(folder, key, compiler, threads)


def compile_into(folder: Path, key: str, compiler: str, threads: Path | None) -> Path:
    """Compile the readout, and put it into the folder whole or not at all."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        part, whole = Path(scratch) / "readout.o", Path(scratch) / "readout.so"
        parallel = ["-fopenmp"] if threads else []
        run([compiler, *FLAGS, *parallel, "-c", str(SOURCE), "-o", str(part)], scratch)
        # Compiled with -fopenmp, but linked with PyTorch's OpenMP: the compiler's own would be a second set of
        # threads.
        run([compiler, "-shared", str(part), *([str(threads)] if threads else []), "-o", str(whole)], scratch)
        whole.chmod(0o700)
        sync(whole)
        path = folder / f"readout-{key}-{hashlib.sha256(whole.read_bytes()).hexdigest()}.so"
        replace_file(whole, path)
    return path


def is_whole(path: Path) -> bool:
    """Whether a library is a file of the user's, closed to others, with the contents that its name tells."""
    try:
        # A link is not followed, and a pipe does not block. The open file is checked, since its path may lead
        # elsewhere a moment later.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(handle, "rb") as file:
            facts = os.fstat(handle)
            own = stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid() and not facts.st_mode & 0o022
            return own and hashlib.file_digest(file, "sha256").hexdigest() == path.stem.rpartition("-")[2]
    except OSError:
        return False


def find_compiler() -> str | None:
    """The C++ compiler that CXX names, or `c++`, by its absolute path; None where there is none.

    What a relative path, or a relative entry of PATH, leads to depends on the current folder, whose contents may be
    anybody's. It is never run.
    """
    name = os.environ.get("CXX") or "c++"
    if os.path.dirname(name) and not os.path.isabs(name):
        log.warning("CXX is %r, a relative path, which is not followed. Give an absolute path, or a name.", name)
        return None
    return shutil.which(name, path=absolute_entries())


def absolute_entries() -> str:
    """PATH without its relative entries."""
    entries = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(entry for entry in entries if os.path.isabs(entry))


def run(command: list[str], folder: str) -> None:
    """Run a compiler, which looks for its parts, and for headers, nowhere below the current folder."""
    environ = os.environ | {"PATH": absolute_entries(), "TMPDIR": folder}
    subprocess.run(command, check=True, capture_output=True, timeout=120, cwd=folder, env=environ)


def cache_folder() -> Path:
    """The user's cache, or where that cannot be written or trusted a folder of this process's own.

    Raises OSError where there is neither.
    """
    reason = ""
    try:
        folder = user_cache() / "unitscope"
        make_private(folder)
        reason = distrust(folder)
        if not reason:
            folder = Path(os.path.realpath(folder))
            tempfile.TemporaryFile(dir=folder).close()
            return folder
        log.warning("%s, so the readout is not kept there; this process compiles its own.", reason)
    except (OSError, RuntimeError):  # no such folder can be made; nobody's home is known
        pass
    own = Path(tempfile.mkdtemp(prefix="unitscope-"))
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    if reason := distrust(own):
        raise OSError(f"there is no folder to compile in: {reason}")
    return own


def user_cache() -> Path:
    """Where the user's caches are, by the XDG specification, which ignores relative paths."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    folder = named if named.is_absolute() else Path.home() / ".cache"
    if not folder.is_absolute():
        raise OSError("the home folder is a relative path")
    return folder


def make_private(folder: Path) -> None:
    """Make a folder, and those above it that are not there, for this user only, whatever the umask is."""
    if not folder.parent.exists():
        make_private(folder.parent)
    folder.mkdir(exist_ok=True, mode=0o700)


def distrust(folder: Path) -> str:
    """Why the files in a folder could be somebody else's: one sentence; "" where they are the user's own.

    The folder must belong to the user, and nobody else may write to it. Those above it (a link to one is followed)
    belong to the user or to root; others may write to them only where the sticky bit keeps them from renaming what is
    not theirs.
    """
    if folder.is_symlink():
        return f"{folder} is a link"
    real = Path(os.path.realpath(folder))
    for place in (real, *real.parents):
        facts = place.stat()
        if facts.st_uid != os.geteuid() and (place == real or facts.st_uid != 0):
            return f"{place} belongs to another user"
        if facts.st_mode & 0o022 and (place == real or not facts.st_mode & stat.S_ISVTX):
            return f"{place} may be written to by others"
    return ""


def threads_of_torch() -> Path | None:
    """The OpenMP library that PyTorch runs on, so that one set of threads serves both; None: one thread must do."""
    torch.get_num_threads()
    mapped = {line.split(maxsplit=5)[-1] for line in Path("/proc/self/maps").read_text().splitlines() if ".so" in line}
    known = [Path(path) for path in sorted(mapped) if Path(path).name.startswith(("libgomp", "libomp", "libiomp"))]
    return next((path for path in known if "torch" in path.parts), known[0] if len(known) == 1 else None)


def processor() -> str:
    """What `-march=native` stands for here: a cache may be shared by machines that differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(
        sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    )
