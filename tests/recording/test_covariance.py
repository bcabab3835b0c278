"""Joint moments against numpy, and what linear CKA forgives (methods 10, check 52)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.wiring import write_folder
from unitscope.errors import BadInput, Failure
from unitscope.networks import Network
from unitscope.recording.covariance import JointMoments, joint_moments
from unitscope.recording.reading import read


def moments_of(
    *responses: np.ndarray, sites: tuple[str, ...] = ("a", "b"), channels: tuple[int, ...] = (3, 3)
) -> JointMoments:
    joint = JointMoments(sites, channels)
    for one in responses:
        joint.take(torch.from_numpy(one))
    return joint


def test_moments_are_those_of_all_images_together() -> None:
    generator = np.random.default_rng(0)
    images = [1e4 + generator.standard_normal((6, 7)) for _ in range(5)]
    joint, whole = moments_of(*images), np.concatenate(images, axis=1)
    np.testing.assert_allclose(joint.cross / joint.count, np.cov(whole, bias=True), atol=1e-10)
    np.testing.assert_allclose(joint.correlation("a", "b"), np.corrcoef(whole)[:3, 3:], atol=1e-10)
    np.testing.assert_allclose(joint.deviation("b"), whole[3:].std(1))
    np.testing.assert_allclose(joint.mean_magnitude("a"), np.abs(whole[:3]).mean(1))


def test_alignment_forgives_rotation_and_the_diagonal_does_not() -> None:
    generator = np.random.default_rng(1)
    x = generator.standard_normal((4, 500))
    x -= x.mean(1, keepdims=True)
    rotation = np.linalg.qr(generator.standard_normal((4, 4)))[0]
    rotated = moments_of(np.concatenate([x, rotation @ x]), channels=(4, 4))
    permuted = moments_of(np.concatenate([x, x[[1, 2, 3, 0]]]), channels=(4, 4))
    assert rotated.alignment("a", "b") == pytest.approx(1)
    assert permuted.alignment("a", "b") == pytest.approx(1)
    assert np.diag(permuted.correlation("a", "b")).max() < 0.2
    assert np.diag(rotated.correlation("a", "b")).min() < 0.9
    y = generator.standard_normal((4, 500))
    y -= y.mean(1, keepdims=True)
    apart = moments_of(np.concatenate([x, y]), channels=(4, 4)).alignment("a", "b")
    slow = np.linalg.norm(y @ x.T) ** 2 / (np.linalg.norm(x @ x.T) * np.linalg.norm(y @ y.T))
    assert apart == pytest.approx(slow)


def test_a_unit_that_never_varies_has_no_correlation() -> None:
    generator = np.random.default_rng(2)
    values = generator.standard_normal((6, 9))
    values[1] = 3.0
    found = moments_of(values).correlation("a", "b")
    assert np.isnan(found[1]).all()
    assert np.isfinite(found[[0, 2]]).all()


def small() -> Network:
    torch_state = torch.Generator().manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.MaxPool2d(2))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch_state))
    return Network(module, size=8, mean=(0.5,) * 3, std=(0.5,) * 3)


def test_a_network_is_read_whatever_the_batch(tmp_path: Path) -> None:
    pictures = torch.rand(7, 3, 8, 8, generator=torch.Generator().manual_seed(3)).mul(255).round().div(255)
    folder = write_folder(tmp_path / "images", {"a": list(pictures)})
    (folder / "a" / "broken.png").write_bytes(b"no picture")
    network = small()
    joints = [joint_moments(network, str(folder), [["1", "2"]], resize=8, batch=batch)[0] for batch in (2, 8)]
    responses = read(network, pictures, ["1", "2"])
    flat = torch.cat([responses[name].movedim(1, 0).flatten(1) for name in ("1", "2")]).double().numpy()
    for joint in joints:
        assert joint.count == 7 * 64
        np.testing.assert_allclose(joint.cross / joint.count, np.cov(flat, bias=True), rtol=1e-5, atol=1e-5)


def test_sites_of_different_lattices_do_not_vary_together(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "images", {"a": [torch.zeros(3, 8, 8)]})
    with pytest.raises(BadInput, match="1, 3 have different lattices"):
        joint_moments(small(), str(folder), [["1", "3"]])
    (folder / "a" / "000.png").write_bytes(b"no picture")
    with pytest.raises(Failure, match="none of the 1 images"):
        joint_moments(small(), str(folder), [["1"]])
