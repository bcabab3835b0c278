"""What all verbs share: packages that a plain installation does not bring are missed before the work begins."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from unitscope.cli import app
from unitscope.cli.common import require_package
from unitscope.errors import Failure


def test_a_package_that_is_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    require_package("json", extra="analysis")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(Failure, match=r"this needs matplotlib, which is not installed: pip install 'unitscope\[ana"):
        require_package("matplotlib", extra="analysis")


VERBS = (["compare", "record", "other"], ["positions", "resnet18", "maxpool:0"], ["reproduce", "dogs"])


@pytest.mark.parametrize("command", VERBS, ids=lambda words: words[0])
def test_verbs_that_draw_say_so_before_they_begin(
    command: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(Failure, match="this needs matplotlib"):
        app.app([*command, "--to", str(tmp_path)], exit_on_error=False, print_error=False)
