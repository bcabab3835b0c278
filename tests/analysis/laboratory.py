"""Sessions of hand-wired networks, without a record."""

from __future__ import annotations

from unitscope.analysis.tuning_curves import Session
from unitscope.anatomy.sites import sites
from unitscope.networks import Network
from unitscope.recording.tuning_responses import groups_of
from unitscope.stimuli.color import CONTRAST
from unitscope.tuning_session import sessions_in_memory, show_group


def session_of(
    network: Network, site: str = "conv1", *, color: bool = False, color_contrast: float = CONTRAST
) -> Session:
    """What the units of one site answer to gray gratings, or with `color` to the whole battery."""
    chosen = {site: sites(network)[site]}
    (group,), _ = groups_of(chosen)
    stimuli, responses = show_group(network, chosen, group, color=color, color_contrast=color_contrast)
    (session,) = sessions_in_memory(stimuli, responses, chosen, group)
    return session
