"""An electrophysiology rig for convolutional networks.

The names below are imported when they are first used: `import unitscope` is quick and loads neither torch nor pandas.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unitscope.analysis.channel_sharing import compare
    from unitscope.analysis.couplings import couplings
    from unitscope.analysis.measures import measure
    from unitscope.anatomy.sites import sites
    from unitscope.atlas_pages.site import build_atlas as atlas
    from unitscope.errors import BadInput, Failure, UnitscopeError, UnknownName
    from unitscope.networks import Network, load, save
    from unitscope.optima import Optima
    from unitscope.perturbation.experiment import perturb
    from unitscope.record import Record
    from unitscope.record import open_record as open
    from unitscope.recording.channel_correlations import sharing
    from unitscope.recording.filter_tables import filters
    from unitscope.recording.merging import merge
    from unitscope.recording.patches import neuron_feature, patches
    from unitscope.recording.reading import read
    from unitscope.recording.survey import survey
    from unitscope.stimuli.builtin import builtin_images
    from unitscope.stimuli.images import open_images
    from unitscope.synthesis.evaluate import score
    from unitscope.synthesis.maximize import maximize
    from unitscope.synthesis.position_study import positions
    from unitscope.training import train
    from unitscope.tuning_session import tuning
    from unitscope.vocabulary import Box, Neuron, ReceptiveField, Site, Unit

__version__ = "0.1.0"

_HOMES = {
    "BadInput": "errors.BadInput",
    "Box": "vocabulary.Box",
    "Failure": "errors.Failure",
    "Network": "networks.Network",
    "Neuron": "vocabulary.Neuron",
    "ReceptiveField": "vocabulary.ReceptiveField",
    "Optima": "optima.Optima",
    "Record": "record.Record",
    "Site": "vocabulary.Site",
    "Unit": "vocabulary.Unit",
    "UnitscopeError": "errors.UnitscopeError",
    "UnknownName": "errors.UnknownName",
    "atlas": "atlas_pages.site.build_atlas",
    "builtin_images": "stimuli.builtin.builtin_images",
    "compare": "analysis.channel_sharing.compare",
    "couplings": "analysis.couplings.couplings",
    "filters": "recording.filter_tables.filters",
    "load": "networks.load",
    "maximize": "synthesis.maximize.maximize",
    "measure": "analysis.measures.measure",
    "merge": "recording.merging.merge",
    "neuron_feature": "recording.patches.neuron_feature",
    "open": "record.open_record",
    "open_images": "stimuli.images.open_images",
    "patches": "recording.patches.patches",
    "perturb": "perturbation.experiment.perturb",
    "positions": "synthesis.position_study.positions",
    "read": "recording.reading.read",
    "save": "networks.save",
    "score": "synthesis.evaluate.score",
    "sharing": "recording.channel_correlations.sharing",
    "sites": "anatomy.sites.sites",
    "survey": "recording.survey.survey",
    "train": "training.train",
    "tuning": "tuning_session.tuning",
}

__all__ = [
    "BadInput",
    "Box",
    "Failure",
    "Network",
    "Neuron",
    "Optima",
    "ReceptiveField",
    "Record",
    "Site",
    "Unit",
    "UnitscopeError",
    "UnknownName",
    "atlas",
    "builtin_images",
    "compare",
    "couplings",
    "filters",
    "load",
    "maximize",
    "measure",
    "merge",
    "neuron_feature",
    "open",
    "open_images",
    "patches",
    "perturb",
    "positions",
    "read",
    "save",
    "score",
    "sharing",
    "sites",
    "survey",
    "train",
    "tuning",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'unitscope' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].rpartition(".")
    return getattr(importlib.import_module(f"unitscope.{module}"), attribute)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
