"""The survey on a real Ray cluster of two nodes, of which one dies in the middle."""

from __future__ import annotations

import pickle
import threading
import warnings
from pathlib import Path

import pytest

from tests.conftest import needs
from tests.recording.pictures import write_many
from tests.recording.test_survey import contents
from unitscope.errors import Failure
from unitscope.networks import load
from unitscope.recording.cluster import connect_cluster, detach_network, find_spans, part_of
from unitscope.recording.plan import Plan
from unitscope.recording.survey import survey
from unitscope.stimuli.images import open_images

pytestmark = [
    needs("ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray leaves sockets to the end of the process
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray.*"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,300 small pictures: six blocks."""
    return write_many(tmp_path_factory.mktemp("pictures"), 1300)


def test_a_cluster_of_two_nodes_that_loses_one_gives_the_same_bytes(folder, tmp_path, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray
        from ray.cluster_utils import Cluster

        monkeypatch.setenv("PYTHONPATH", str(Path("src").resolve()))
        monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        victim = nodes.add_node(num_cpus=1)
        ray.init(address=nodes.address, log_to_driver=False, logging_level="error")
        try:
            network = load("resnet18", width=4, classes=2, size=32, seed=0)
            told: list[tuple[int, int]] = []

            def kill_a_node(done: int, total: int) -> None:
                told.append((done, total))
                if len(told) == 1:
                    threading.Thread(target=nodes.remove_node, args=(victim,), kwargs={"allow_graceful": False}).start()

            options = {"sites": ["bn1", "layer2.0.bn2"], "workers": 1}
            there = survey(network, folder, to=tmp_path / "ray", engine="ray", span=1, progress=kill_a_node, **options)
        finally:
            ray.shutdown()
            nodes.shutdown()
    here = survey(network, folder, to=tmp_path / "local", **options)
    assert told[-1] == (1300, 1300)
    assert len(told) == 6
    assert contents(there.path) == contents(here.path)


def test_the_plan_goes_without_the_network(folder):
    network = load("resnet18", width=16, classes=2, size=32, seed=0)
    settings = {"resize": None, "batch": 32, "top": 3, "per_image": 1, "means": (), "responses": False, "shard": None}
    plan = Plan.of(network, open_images(folder), sites=["bn1", "layer2.0.bn2"], **settings)
    weights = sum(value.nbytes for value in network.module.state_dict().values())
    assert plan.sites["bn1"].views is not None  # which holds the network
    detached = detach_network(plan)
    assert len(pickle.dumps(detached)) < weights / 10
    assert detached.sites["bn1"].field() == plan.sites["bn1"].field()


def test_parts_inside_a_larger_one_are_left_over_and_go(tmp_path):
    for span in ((0, 4), (0, 2), (2, 4), (4, 6)):
        part_of(tmp_path, span).touch()
    assert find_spans(tmp_path) == [(0, 4), (4, 6)]
    assert len(list(tmp_path.iterdir())) == 2


def test_without_a_cluster_the_story_says_how_to_start_one():
    with pytest.raises(Failure, match=r"no Ray cluster was found\. Start one"):
        connect_cluster()
