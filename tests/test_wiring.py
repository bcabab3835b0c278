"""The hand-wired networks are what they say they are."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from tests import wiring


def peaks(network, pictures):
    """The largest response of each unit to each picture, Tensor[stimulus unit]."""
    with torch.no_grad():
        return network.module.relu(network.module.conv1(network.prepare(pictures))).amax((2, 3))


@pytest.mark.parametrize("orientation", [0.0, 30.0, 90.0, 135.0])
def test_the_gabor_unit_prefers_its_orientation(orientation):
    network = wiring.gabor_network([orientation], size=48)
    angles = torch.arange(0, 180, 15.0)
    responses = torch.stack([peaks(network, wiring.grating(float(a), size=48))[0, 0] for a in angles])
    assert float(angles[responses.argmax()]) == orientation


def test_thirty_degrees_are_counterclockwise_as_seen():
    """A bar from lower left to upper right: rows go down, so its upper end has the smaller row."""
    kernel = wiring.gabor(30.0)[0]
    assert kernel[7 - 2, 7 + 4] > 0.5 * kernel[7, 7] * torch.exp(torch.tensor(-20 / 18.0))
    assert kernel[7 - 2, 7 + 4] > kernel[7 + 2, 7 + 4]


def test_the_gabor_unit_is_silent_for_uniform_pictures():
    assert wiring.gabor().sum().abs() < 1e-6


def test_opponent_units():
    red, green, white = (wiring.uniform(c) for c in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 1.0, 1.0)))
    network = wiring.opponent_network()
    conv1 = network.module.conv1
    with torch.no_grad():
        center = {n: conv1(p)[0, :, 16, 16] for n, p in {"red": red, "green": green, "white": white}.items()}
    assert center["red"].tolist() == pytest.approx([1, 0, 1 / 3], abs=1e-5)
    assert center["green"].tolist() == pytest.approx([-1, 0, 1 / 3], abs=1e-5)
    assert center["white"].tolist() == pytest.approx([0, 0, 1], abs=1e-5)
    stripes = red.clone()
    stripes[..., :14], stripes[..., 19:] = green[..., :14], green[..., 19:]
    assert conv1(stripes)[0, 1, 16, 16] > 0.1


def test_dead_units_never_fire():
    pictures = torch.cat([torch.rand(20, 3, 32, 32), wiring.uniform((1.0, 1.0, 1.0)), wiring.uniform((0.0, 0.0, 0.0))])
    responses = peaks(wiring.dead_network(), pictures)
    assert responses[:20, 0].min() > 0
    assert responses[:, [1, 3]].max() == 0
    assert (responses[:, 2] == 0.25).all()


def test_category_units_fire_for_their_color_only():
    pictures = torch.cat(
        [wiring.uniform(color) for color in (*wiring.COLORS.values(), (1.0, 1.0, 1.0), (0.5, 0.5, 0.5))]
    )
    responses = peaks(wiring.category_network(), pictures)
    assert torch.equal(responses[:3], 0.5 * torch.eye(3))
    assert responses[3:].max() == 0


@pytest.mark.parametrize("stride", [1, 2])
def test_the_template_unit_finds_its_template(stride):
    template = wiring.random_template()
    noise = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1))
    planted = wiring.plant(template, noise, row=10, col=20)
    network = wiring.template_network(template, stride=stride)
    with torch.no_grad():
        response = network.module.conv1(network.prepare(planted[None]))[0]
    row, col = divmod(int(response[0].argmax()), response.shape[2])
    assert (row * stride, col * stride) == (10, 20)
    torch.testing.assert_close(response[1], -response[0])


def test_pictures_are_written_as_they_are(tmp_path):
    wiring.write_folder(tmp_path, {"red": [wiring.uniform((1.0, 0.0, 0.0))[0]]})
    with Image.open(tmp_path / "red" / "000.png") as image:
        assert image.size == (32, 32)
        assert image.getpixel((5, 5)) == (255, 0, 0)
