"""The atlas in a real browser, opened as a file: by mouse and by keyboard, on desktop, phone and projector."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from tests.atlas_pages.fake_record import HOSTILE, SITES, FakeSite, write_pictures, write_record
from tests.browser import SCREENS, launched, page_of
from tests.conftest import needs

from unitscope.atlas_pages.site import build_atlas
from unitscope.vocabulary import ReceptiveField

pytestmark = needs("chromium")

STEM = (*SITES[1:3], FakeSite("block.add", "add", 12, (12, 12), SITES[2].field))
"""What the second network has, but for the last site's name."""

LARGE = FakeSite("layer5.relu", "relu", 2000, (2, 2), ReceptiveField((15, 15), (4, 4), (-5, -5)))


@pytest.fixture(scope="module")
def atlas(tmp_path_factory) -> str:
    """The address of an atlas of a pair; a label of the photographs is hostile to HTML."""
    folder = tmp_path_factory.mktemp("atlas with spaces & more")
    pictures = write_pictures(folder / "pictures")
    list_ = folder / "list.csv"
    rows = [
        f'"pictures/{path.relative_to(pictures)}","{HOSTILE.replace(chr(34), chr(34) * 2)}"'
        for path in sorted(pictures.rglob("*.png"))
    ]
    list_.write_text("uri,label\n" + "\n".join(rows) + "\n")
    one = write_record(
        folder / "one", list_, sites=(*SITES[:1], *STEM, *SITES[3:], LARGE), note="demonstration set: not a sample"
    )
    other = write_record(
        folder / "other",
        list_,
        name="plainnet34",
        sites=(*STEM[:-1], replace(STEM[-1], name="block.bn2"), *SITES[3:]),
        seed=1,
    )
    return build_atlas([one, other], to=folder / "atlas").parent.as_uri()


@pytest.fixture(scope="module")
def chromium():
    with launched() as browser:
        yield browser


@pytest.fixture
def page(chromium):
    """A desktop page; in the end nothing must have been complained of."""
    with page_of(chromium) as page:
        yield page
        assert page.complaints == []


def order(page) -> list[int]:
    return [
        int(unit) for unit in page.eval_on_selector_all("#tiles .unit-tile", "all => all.map(one => one.dataset.unit)")
    ]


def title(page) -> str:
    return page.locator("#unit h1").inner_text()


def wait_for_unit(page, name: str) -> None:
    page.wait_for_function("name => document.querySelector('#unit h1')?.textContent === name", arg=name)


def painted(page, selector: str) -> bool:
    """Whether the sprite behind an element can be loaded."""
    return page.eval_on_selector(
        selector,
        """node => {
        const url = /url\\("(.*?)"\\)/.exec(getComputedStyle(node).backgroundImage)[1];
        return new Promise(done => {
            const image = new Image();
            image.onload = () => done(true);
            image.onerror = () => done(false);
            image.src = url;
        }) }""",
    )


def test_the_way_from_the_first_page_to_a_unit(page, atlas):
    page.goto(f"{atlas}/index.html")
    assert "demonstration set" in page.locator(".mast").inner_text()
    assert painted(page, ".teaser span")
    page.get_by_role("link", name="layer1.0.relu_1", exact=True).click()
    page.wait_for_selector(".unit-tile")
    assert order(page) == list(range(12))
    assert painted(page, ".unit-tile .picture")
    page.locator(".unit-tile").nth(3).click()
    page.wait_for_selector("#unit .patch")
    assert title(page) == "layer1.0.relu_1:3"
    assert page.url.endswith("resnet34/layer1.0.relu_1.html#3")
    assert page.locator("#unit .view").count() == 2
    assert page.locator(".view").first.locator(".gallery.preferred .patch").count() == 16
    page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth)")
    page.go_back()
    page.wait_for_selector("#sheet:not([hidden])")
    assert page.evaluate("document.activeElement.dataset.unit") == "3"


def test_every_page_opens_without_a_complaint(page, atlas):
    for path in (
        "index.html",
        *(f"resnet34/{slug}.html" for slug in ("conv1", "block.add", "layer4.relu", "up_away", "layer5.relu")),
    ):
        page.goto(f"{atlas}/{path}")
        page.wait_for_load_state()
        page.goto(f"{atlas}/{path}#1")
        page.wait_for_timeout(150)


def test_a_link_to_a_unit_lasts(page, atlas):
    page.goto(f"{atlas}/resnet34/layer4.relu.html#18")
    page.wait_for_selector("#unit .patch")
    assert title(page) == "layer4.relu:18"
    page.reload()
    page.wait_for_selector("#unit .patch")
    assert title(page) == "layer4.relu:18"
    page.goto(f"{atlas}/resnet34/layer4.relu.html#4000")
    page.wait_for_selector("#sheet:not([hidden])")


def test_walking_with_the_keyboard(page, atlas):
    page.goto(f"{atlas}/resnet34/maxpool.html#1")
    page.wait_for_selector("#unit .patch")
    page.keyboard.press("ArrowRight")
    wait_for_unit(page, "maxpool:2")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    wait_for_unit(page, "maxpool:0")
    page.keyboard.press("ArrowLeft")
    assert page.url.endswith("#0")
    page.keyboard.press("]")
    page.wait_for_url("**/layer1.0.relu_1.html#0")
    page.wait_for_selector("#unit .patch")
    page.keyboard.press("[")
    page.wait_for_url("**/maxpool.html#0")
    page.wait_for_selector("#unit .patch")
    page.keyboard.press("o")
    page.wait_for_url("**/plainnet34/maxpool.html#0")
    page.wait_for_selector("#unit .patch")
    page.keyboard.press("Escape")
    page.wait_for_selector("#sheet:not([hidden])")
    page.keyboard.press("Escape")
    page.wait_for_url("**/index.html")


def test_two_steps_at_once_are_two_steps(page, atlas):
    page.goto(f"{atlas}/resnet34/maxpool.html#1")
    wait_for_unit(page, "maxpool:1")
    step = "document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}))"
    page.evaluate(f"{step}; {step}")
    wait_for_unit(page, "maxpool:3")


def test_walking_over_the_sheet_with_the_keyboard(page, atlas):
    page.goto(f"{atlas}/resnet34/layer4.relu.html")
    page.wait_for_selector(".unit-tile")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    tops = page.eval_on_selector_all("#tiles > div", "all => all.map(one => one.offsetTop)")
    in_a_row = tops.count(tops[0])
    assert page.evaluate("document.activeElement.dataset.unit") == str(1 + in_a_row)
    page.keyboard.press("Enter")
    page.wait_for_selector("#unit .patch")
    assert title(page) == f"layer4.relu:{1 + in_a_row}"


def test_a_site_with_fewer_channels_shows_its_last(page, atlas):
    page.goto(f"{atlas}/resnet34/layer4.relu.html#30")
    page.wait_for_selector("#unit .patch")
    page.keyboard.press("]")
    page.wait_for_url("**/up_away.html#2")


def test_help_opens_and_closes(page, atlas):
    page.goto(f"{atlas}/resnet34/maxpool.html")
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()
    assert page.url.endswith("maxpool.html")


def test_sorting_and_filtering(page, atlas):
    page.goto(f"{atlas}/resnet34/layer1.0.relu_1.html")
    page.select_option("select[name=sort]", "peak_max")
    values = page.evaluate(
        "unitscope.sites['resnet34/layer1.0.relu_1'].columns.find(one => one.key === 'peak_max').values"
    )
    falling = sorted(range(12), key=lambda unit: -values[unit])
    assert order(page) == falling
    page.click("button[name=turn]")
    page.wait_for_function("!location.hash.includes('-peak_max')")
    assert order(page) == sorted(range(12), key=lambda unit: values[unit])
    page.fill("input[name=from]", "5")
    page.press("input[name=from]", "Tab")
    page.wait_for_function("location.hash.includes('from=5')")
    assert set(order(page)) == {unit for unit in range(12) if values[unit] >= 5}
    page.fill("input[name=from]", "")
    page.press("input[name=from]", "Tab")
    page.select_option("select[name=inactive]", "only")
    page.wait_for_function("location.hash.includes('inactive=only')")
    assert sorted(order(page)) == [5, 11]
    assert page.locator(".unit-tile.inactive").count() == 2
    page.select_option("select[name=inactive]", "hide")
    page.wait_for_function("location.hash.includes('inactive=hide')")
    assert len(order(page)) == 10


def test_units_are_walked_in_the_order_of_the_sheet(page, atlas):
    page.goto(f"{atlas}/resnet34/layer1.0.relu_1.html#sort=-peak_max")
    page.wait_for_selector(".unit-tile")
    first, second = order(page)[:2]
    page.locator(".unit-tile").first.click()
    page.wait_for_selector("#unit .patch")
    assert title(page).endswith(f":{first}")
    page.keyboard.press("ArrowRight")
    wait_for_unit(page, f"layer1.0.relu_1:{second}")
    assert page.url.endswith(f"#{second}&sort=-peak_max")
    assert "2 of 12" in page.locator("#unit .walk").inner_text()


def test_going_to_a_unit_by_number(page, atlas):
    page.goto(f"{atlas}/resnet34/layer4.relu.html")
    page.fill("input[name=unit]", "17")
    page.press("input[name=unit]", "Enter")
    page.wait_for_selector("#unit .patch")
    assert title(page) == "layer4.relu:17"


@pytest.mark.parametrize("way", ["worst", "mean", "contrast", "map", "kernel"])
def test_ways_of_showing_the_units(page, atlas, way):
    page.goto(f"{atlas}/resnet34/maxpool.html")
    page.wait_for_selector(".unit-tile")
    before = page.eval_on_selector(".unit-tile .picture", "node => node.style.backgroundImage")
    page.check(f"input[name=show][value={way}]", force=True)
    page.wait_for_function(f"location.hash === '#show={way}'")
    assert page.eval_on_selector(".unit-tile .picture", "node => node.style.backgroundImage") != before
    assert painted(page, ".unit-tile .picture")


def test_names_are_text_and_nothing_else(page, atlas):
    page.on("dialog", lambda dialog: pytest.fail(f"a name ran as a script: {dialog.message}"))
    page.goto(f"{atlas}/resnet34/layer4.relu.html")
    uris = page.evaluate("Object.values(unitscope.images)[0].uris")
    (hostile,) = (image for image, uri in enumerate(uris) if "<img" in uri)
    preferred = page.evaluate("unitscope.sites['resnet34/layer4.relu'].stimuli.preferred")
    unit = next(unit for unit, rows in enumerate(preferred) if any(row[0] == hostile for row in rows))
    page.goto(f"{atlas}/resnet34/layer4.relu.html#{unit}")
    page.wait_for_selector("#unit .patch")
    assert page.locator(".stage .label").first.inner_text() == HOSTILE
    page.locator("details summary").first.click()
    page.wait_for_selector(".listing")
    assert uris[hostile] in page.locator(".listing td:nth-child(4)").all_inner_texts()
    assert page.locator("#unit img[src=x]").count() == 0
    page.goto(f"{atlas}/resnet34/up_away.html")
    assert "<b>mystery</b>" in page.locator(".facts").inner_text()


def test_a_mean_over_few_stimuli_is_flagged(page, atlas):
    page.goto(f"{atlas}/resnet34/maxpool.html#1")
    page.wait_for_selector("#unit .means")
    assert "fewer than 30: unreliable" in page.locator(".view .means").first.inner_text()
    page.goto(f"{atlas}/resnet34/maxpool.html#2")
    wait_for_unit(page, "maxpool:2")
    assert "never responded" in page.locator(".view .means").first.inner_text()
    page.goto(f"{atlas}/resnet34/maxpool.html#3")
    wait_for_unit(page, "maxpool:3")
    assert page.locator(".view .flag").count() == 0


def test_the_box_on_the_photograph_is_the_stimulus_box(page, atlas):
    page.goto(f"{atlas}/resnet34/layer1.0.relu_1.html#0")
    page.wait_for_selector("#unit .patch")
    patch = page.locator(".view").first.locator(".gallery.preferred .patch").nth(4)
    patch.click()
    image, _row, _col, _value, top, left, bottom, right = page.evaluate(
        "unitscope.sites['resnet34/layer1.0.relu_1'].stimuli.preferred[0][4]"
    )
    stage = page.locator(".view").first.locator(".stage")
    assert stage.locator("path.field").get_attribute("d") == f"M{left} {top}H{right}V{bottom}H{left}Z"
    assert stage.locator("image").get_attribute("href").endswith(f"/{image:06d}.webp")


def test_the_other_network_stands_beside_with_the_same_site_and_channel(page, atlas):
    page.goto(f"{atlas}/resnet34/layer1.0.relu_1.html#7")
    page.wait_for_selector("#unit .patch")
    views = page.locator("#unit .view")
    assert [views.nth(i).get_attribute("aria-label") for i in range(2)] == [
        "resnet34 layer1.0.relu_1:7",
        "plainnet34 layer1.0.relu_1:7",
    ]
    boxes = [views.nth(i).bounding_box() for i in range(2)]
    assert boxes[0]["y"] == boxes[1]["y"]
    page.select_option("#unit select", "none")
    page.wait_for_function("document.querySelectorAll('#unit .view').length === 1")
    page.goto(f"{atlas}/resnet34/conv1.html#1")
    wait_for_unit(page, "conv1:1")
    assert page.locator("#unit .view").count() == 1


def test_a_site_of_another_name_in_the_same_place_stands_beside(page, atlas):
    page.goto(f"{atlas}/resnet34/block.add.html#7")
    page.wait_for_selector("#unit .patch")
    assert page.locator("#unit .view").nth(1).get_attribute("aria-label") == "plainnet34 block.bn2:7"
    assert "block.bn2" in page.locator("#unit .view h2").nth(1).inner_text()
    page.keyboard.press("o")
    page.wait_for_url("**/plainnet34/block.bn2.html#7")
    page.goto(f"{atlas}/index.html")
    assert "add / block.bn2" in page.locator(".sites tbody tr", has_text="block.add").inner_text()


def test_two_thousand_units_stay_fluid(page, atlas):
    page.goto(f"{atlas}/resnet34/layer5.relu.html")
    page.wait_for_selector(".unit-tile")
    assert len(order(page)) == 2000
    began = time.perf_counter()
    page.select_option("select[name=sort]", "peak_max")
    page.wait_for_function("location.hash === '#sort=-peak_max'")
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert time.perf_counter() - began < 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_nothing_is_wider_than_the_screen(chromium, atlas, screen, scheme):
    with page_of(chromium, screen=screen, scheme=scheme) as page:
        for path in ("index.html", "resnet34/layer4.relu.html#sort=peak_max", "resnet34/maxpool.html#5"):
            page.goto(f"{atlas}/{path}")
            page.wait_for_load_state()
            page.wait_for_timeout(200)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert page.complaints == []


def test_controls_have_names(page, atlas):
    for path in ("index.html", "resnet34/layer1.0.relu_1.html#sort=peak_max", "resnet34/maxpool.html#1"):
        page.goto(f"{atlas}/{path}")
        page.wait_for_timeout(200)
        nameless = page.evaluate(
            """[...document.querySelectorAll('a[href], button, input, select')]
            .filter(one => !one.textContent.trim() && !one.getAttribute('aria-label'))
            .filter(one => ![...(one.labels || [])].some(label => label.textContent.trim()))
            .map(one => one.outerHTML)"""
        )
        assert nameless == []
        assert page.locator("img:not([alt])").count() == 0
