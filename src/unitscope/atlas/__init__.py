"""Records made visible: a static site that opens by double-click, without a server and without the network it shows.

`unitscope.atlas` is the chapter and the verb: the module itself can be called: `unitscope.atlas(records, to=folder)`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Verb(ModuleType):
    """A module that can be called, so that it does not matter whether the chapter or the verb took the name first."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from unitscope.atlas.site import build_atlas

        return build_atlas(*args, **kwargs)


sys.modules[__name__].__class__ = _Verb
