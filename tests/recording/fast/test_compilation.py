"""The compiled readout's library is run only where nobody but the user can have put it, and where it is whole."""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from unitscope.recording.fast import compilation
from unitscope.recording.fast.compilation import cache_folder, compile_library, distrust, find_compiler, is_whole
from unitscope.recording.fast.library import library

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="is compiled on Linux only")

needs_root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root gives files away")

NOBODY = 65534

PRETENDER = """#!/bin/sh
echo "$PWD|$PATH|$*" >> {log}
while [ "$1" != -o ]; do shift; done
echo "a library" > "$2"
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder for the cache, as a user's own is."""
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def compiler(tmp_path):
    """A compiler that makes a file at once, and writes down where it was called, and with what."""
    path = tmp_path / "pretender"
    path.write_text(PRETENDER.format(log=tmp_path / "calls"))
    path.chmod(0o755)
    return str(path)


def calls(compiler: str) -> int:
    """How often the readout was compiled: each time in two steps."""
    log = Path(compiler).with_name("calls")
    return len(log.read_text().splitlines()) // 2 if log.exists() else 0


def test_a_library_is_compiled_once_and_taken_from_the_cache(home, compiler):
    path = compile_library(compiler)
    assert path.parent == home / "unitscope"
    assert path.read_text() == "a library\n"
    assert (path.parent.stat().st_mode & 0o777, path.stat().st_mode & 0o022) == (0o700, 0)
    assert compile_library(compiler) == path
    assert calls(compiler) == 1
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: os.truncate(path, 3),
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
        lambda path: path.write_text("another\n"),
        lambda path: path.chmod(0o666),
        lambda path: path.chmod(0o720),
        lambda path: (path.rename(path.with_name("aside")), path.symlink_to("aside")),
        lambda path: (path.unlink(), os.mkfifo(path)),
        pytest.param(lambda path: os.chown(path, NOBODY, -1), marks=needs_root),
    ],
    ids=["cut off", "zeros", "another", "for all to write", "for the group to write", "link", "pipe", "another's"],
)
def test_a_library_that_is_not_as_it_was_compiled_is_compiled_anew(damage, compiler):
    path = compile_library(compiler)
    damage(path)
    assert not is_whole(path)
    again = compile_library(compiler)
    assert calls(compiler) == 2
    assert is_whole(again)


@pytest.mark.parametrize(
    ("change", "story"),
    [
        (lambda home: (home / "unitscope").chmod(0o777), "unitscope may be written to by others"),
        (lambda home: (home / "unitscope").chmod(0o1777), "unitscope may be written to by others"),
        (lambda home: (home / "unitscope").chmod(0o770), "unitscope may be written to by others"),
        (lambda home: home.chmod(0o777), "cache may be written to by others"),
        (lambda home: ((home / "unitscope").rename(home / "b"), (home / "unitscope").symlink_to("b")), "is a link"),
        pytest.param(
            lambda home: os.chown(home / "unitscope", NOBODY, -1), "unitscope belongs to another user", marks=needs_root
        ),
        pytest.param(lambda home: os.chown(home, NOBODY, -1), "cache belongs to another user", marks=needs_root),
    ],
    ids=["for all", "sticky", "for the group", "above for all", "link", "another's", "above another's"],
)
def test_nothing_is_loaded_from_a_folder_that_others_may_write_to(change, story, home, compiler, caplog):
    poisoned = compile_library(compiler)
    change(home)
    with caplog.at_level(logging.WARNING):
        path = compile_library(compiler)
    assert story in caplog.text
    assert not path.is_relative_to(home)
    assert not os.path.samefile(path, poisoned)
    assert distrust(path.parent) == ""
    assert calls(compiler) == 2


def test_a_sticky_folder_above_keeps_what_is_the_user_s(home, compiler):
    compile_library(compiler)
    home.chmod(0o1777)
    assert compile_library(compiler).parent == home / "unitscope"
    assert calls(compiler) == 1


def test_a_link_above_is_followed_to_where_it_leads(tmp_path, home, compiler, monkeypatch):
    path = compile_library(compiler)
    (tmp_path / "linked").symlink_to(home)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "linked"))
    assert compile_library(compiler) == path
    home.chmod(0o777)
    assert not compile_library(compiler).is_relative_to(home)


def test_folders_are_made_for_the_user_alone_whatever_the_umask_is(home, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "a" / "b"))
    before = os.umask(0)
    try:
        assert cache_folder() == home / "a" / "b" / "unitscope"
    finally:
        os.umask(before)
    assert (home / "a").stat().st_mode & 0o777 == 0o700


def test_a_relative_cache_is_left_out_of_account(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "unitscope"


def test_where_the_cache_cannot_be_written_a_process_has_its_own(home):
    (home / "unitscope").write_text("a file where the folder should be")
    folder = cache_folder()
    assert folder.is_dir()
    assert not folder.is_relative_to(home)


def test_where_no_folder_is_the_user_s_alone_nothing_is_compiled(home, monkeypatch, tmp_path, compiler):
    (home / "unitscope").mkdir(mode=0o777)
    (home / "unitscope").chmod(0o777)
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    monkeypatch.setattr("tempfile.tempdir", str(open_to_all))
    with pytest.raises(OSError, match=r"no folder to compile in: .*open may be written to by others"):
        compile_library(compiler)
    assert calls(compiler) == 0


# --- the compiler ---------------------------------------------------------------------------------


def test_no_compiler_is_run_by_a_relative_path(tmp_path, monkeypatch, caplog):
    trap = tmp_path / "c++"
    trap.write_text("#!/bin/sh\nexit 1\n")
    trap.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CXX", raising=False)
    for path in (".", "", f"{os.pathsep}.", "bin/.."):
        monkeypatch.setenv("PATH", path)
        assert find_compiler() is None
    for name in ("./c++", "../" + tmp_path.name + "/c++"):
        monkeypatch.setenv("CXX", name)
        with caplog.at_level(logging.WARNING):
            assert find_compiler() is None
        assert f"CXX is {name!r}, a relative path, which is not followed" in caplog.text
    monkeypatch.setenv("CXX", str(trap))
    assert find_compiler() == str(trap)


def test_a_compiler_runs_in_an_empty_folder_and_finds_its_parts_by_absolute_paths(
    home, compiler, monkeypatch, tmp_path
):
    monkeypatch.setenv("PATH", f".:/usr/bin:/bin:{tmp_path.name}:")
    compile_library(compiler)
    for call in Path(compiler).with_name("calls").read_text().splitlines():
        where, path, _ = call.split("|")
        assert Path(where).parent == home / "unitscope"
        assert path == "/usr/bin:/bin"


# --- what is loaded -------------------------------------------------------------------------------


def load_with(flags: tuple[str, ...], home: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in another process, with the readout compiled with other flags."""
    begin = (
        "import logging; logging.basicConfig(); from unitscope.recording.fast import compilation, library;"
        f"compilation.FLAGS = {('-std=c++17', '-ffp-contract=off', '-fPIC', '-Wno-psabi', *flags)!r};"
    )
    environ = os.environ | {"XDG_CACHE_HOME": str(home), "UNITSCOPE_COMPILE": "1"}
    environ["PYTHONPATH"] = str(Path(compilation.__file__).parents[3])
    return subprocess.run(
        [sys.executable, "-c", begin + code], env=environ, capture_output=True, text=True, timeout=300
    )


@pytest.mark.skipif(library() is None, reason="no C++ compiler, or UNITSCOPE_COMPILE=0")
def test_what_a_stranger_left_in_the_cache_does_not_run(home, tmp_path):
    source, sign = tmp_path / "evil.cc", tmp_path / "it ran"
    source.write_text(
        f'#include <cstdio>\n__attribute__((constructor)) void f() {{ std::fclose(std::fopen("{sign}", "w")); }}\n'
    )
    assert load_with(("-O0",), home, "assert library.library()").returncode == 0
    [kept] = (home / "unitscope").iterdir()
    evil = tmp_path / "evil.so"
    subprocess.run([find_compiler() or "", "-shared", "-fPIC", source, "-o", evil], check=True)
    ctypes.CDLL(str(evil))
    assert sign.exists()
    sign.unlink()
    shutil.copy(evil, kept)
    assert load_with(("-O0",), home, "assert library.library()").returncode == 0
    assert not sign.exists()


UNDEFINED = """
import numpy as np
from unitscope.recording.fast.verification import find_fault
found = library.library()
assert found is not None and find_fault(found) == ""
huge = np.array([[3e38, -3e38, 1e13, -1e13]] * 3, np.float32)
whole, label = np.ones(huge.shape, np.uint8), np.array([0, 0, 0])
sums, positive = [np.full((1, 4), -2**63, np.int64) for _ in range(3)], np.zeros((1, 4), np.int32)
for _ in range(2):
    library.call("labels", 4, 3, reads=(huge, huge, whole, label), writes=(*sums, positive))
total = np.full((3, 4), 2**63 - 1)
for last in (0, 1):
    library.call("add_map", 3, 4, last, reads=(np.ascontiguousarray(huge.T) if last else huge,), writes=(total,))
count = np.zeros((4, 131), np.int64)
library.call("histogram", 4, 3, reads=(huge, whole), writes=(count,))
"""


@pytest.mark.skipif(library() is None, reason="no C++ compiler, or UNITSCOPE_COMPILE=0")
def test_nothing_that_it_does_is_undefined(home):
    """The compiler puts an illegal instruction wherever an operation would be undefined."""
    flags = ("-O0", "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error")
    ran = load_with(flags, home, f"exec({UNDEFINED!r})")
    if "unrecognized" in ran.stderr or "could not be compiled" in ran.stderr:
        pytest.skip("this compiler cannot check for undefined behavior")
    assert ran.returncode == 0, ran.stderr
