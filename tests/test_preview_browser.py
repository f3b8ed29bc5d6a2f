"""The page of `preview`, in a real browser: opened from a file, clicked, typed into."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser import browser, missing
from deployment import eventually
from pictures import HOSTILE, big, hostile, shop

from datahub_eventlog.preview import graph_of, page
from datahub_eventlog.values import Problem, Proposal

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

pytest.importorskip("selenium", reason="selenium is not installed")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
]

CY = "const cy = document.getElementById('graph')._cyreg.cy;"
"""The drawing that cytoscape keeps at the element it draws in."""


@dataclass
class Page:
    """A page in the browser."""

    driver: WebDriver
    file: Path

    def run(self, script: str, *arguments: object) -> Any:
        """What a script says that can use the drawing, as `cy`."""
        return self.driver.execute_script(CY + script, *arguments)

    def click(self, name: str) -> None:
        """Click a node with the mouse, where it is drawn."""
        from selenium.webdriver import ActionChains

        place = self.run(
            "const isIt = (each) => each.data('label').startsWith(arguments[0]);"
            "const box = document.getElementById('graph').getBoundingClientRect();"
            "const { x, y } = cy.nodes().filter(isIt)[0].renderedPosition();"
            "return [Math.round(box.left + x), Math.round(box.top + y)];",
            name,
        )
        actions = ActionChains(self.driver)
        actions.w3c_actions.pointer_action.move_to_location(*place)
        actions.w3c_actions.pointer_action.click()
        actions.perform()

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def text(self, selector: str) -> str:
        """What is to be read in an element; empty where it isn't shown."""
        actual = self.driver.find_elements("css selector", selector)
        return "\n".join(each.text for each in actual)

    def emulate(self, **features: str) -> None:
        """Set what media queries ask for, such as `prefers_color_scheme`."""
        listed = [{"name": n.replace("_", "-"), "value": value} for n, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": listed})

    def requests(self) -> list[str]:
        """All that the browser asked for since the last look."""
        messages = [json.loads(each["message"])["message"] for each in self._log("performance")]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[str]:
        """What stands in the console since the last look."""
        return [each["message"] for each in self._log("browser")]

    def _log(self, name: str) -> Any:
        return self.driver.get_log(name)


Open = Callable[[Iterable[Proposal | Problem]], Page]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    with browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def opened(driver: WebDriver, tmp_path: Path) -> Open:
    """Opens the page of a run, without movements that a test would have to wait for."""

    def open_page(items: Iterable[Proposal | Problem]) -> Page:
        this = Page(driver, tmp_path / "lineage.html")
        this.file.write_text(page(graph_of(items)), encoding="utf-8")
        this.emulate(prefers_reduced_motion="reduce", prefers_color_scheme="light")
        this.requests()
        this.complaints()
        driver.get(this.file.as_uri())
        return this

    return open_page


def test_the_page_opens_without_a_request_and_without_a_complaint(opened: Open) -> None:
    page = opened(shop())
    assert page.run("return cy.nodes().map((each) => each.data('label')).sort();") == [
        "amounts\ncheck · failed",
        "dwh.orders\nsnowflake",
        "mail\nop · failed",
        "orders\nasset",
        "orders\nop · succeeded",
        "revenue\nasset",
        "revenue\nop · succeeded",
        "sales\njob · failed",
        "shop.public.orders\npostgres",
    ]
    assert [request for request in page.requests() if not request.startswith("data:")] == [
        page.file.as_uri()
    ]
    assert page.complaints() == []
    assert page.text("h1") == "sales"


def test_a_connection_to_the_network_is_forbidden_to_the_page(opened: Open) -> None:
    page = opened(shop())
    stated = page.driver.execute_async_script(
        "const done = arguments[0];"
        "fetch('http://127.0.0.1:9/').then(() => done('sent'), (error) => done(String(error)));"
    )
    assert "TypeError" in stated
    assert any("Content Security Policy" in complaint for complaint in page.complaints())


def test_a_click_shows_the_facts_and_a_link_in_them_leads_on(opened: Open) -> None:
    page = opened(shop())
    assert page.text("#panel") == ""
    page.click("amounts")
    assert page.text("#panel .chip") == "check"
    assert page.text("#panel .state") == "failed"
    page.click("orders\nasset")
    assert page.text("#panel h2") == "orders"
    facts = page.text("#panel")
    for each in ("decimal(10,2) not null", "in euros", "data (group)", "tier:gold", "dwh.orders"):
        assert each in facts
    page.driver.find_element("xpath", "//aside//button[text()='dwh.orders']").click()
    assert page.text("#panel h2") == "dwh.orders"
    page.driver.find_element("css selector", "#panel summary").click()
    assert '"path": "/upstreams/' in page.text("#panel pre")
    page.driver.find_element("css selector", "#panel .close").click()
    assert page.text("#panel") == ""


def test_the_search_finds_names_columns_tags_and_owners(opened: Open) -> None:
    page = opened(shop())
    search = page.driver.find_element("id", "search")
    page.press("/")
    assert page.driver.switch_to.active_element == search
    for query, actual in (
        ("snowfl", "dwh.orders"),
        ("AMOUNT", "amounts"),
        ("gold", "orders"),
        ("data group orders", "orders"),
    ):
        search.clear()
        search.send_keys(query)
        assert page.text("#found li:first-child .name") == actual
    search.clear()
    search.send_keys("nowhere")
    assert page.text("#found") == "No matches."
    search.clear()
    search.send_keys("revenue asset", "\ue007")
    assert page.text("#panel h2") == "revenue"
    assert page.text("#found") == ""
    assert page.run("return cy.nodes('.chosen').map((each) => each.data('label'));") == [
        "revenue\nasset"
    ]


def test_the_keyboard_follows_the_lines_and_closes(opened: Open) -> None:
    page = opened(shop())
    page.driver.execute_script("document.getElementById('graph').focus();")
    right, left, escape = "\ue014", "\ue012", "\ue00c"
    seen = []
    for key in (right, right, right, left):
        page.press(key)
        seen.append((page.text("#panel .chip"), page.text("#panel h2")))
    assert seen == [("job", "sales"), ("op", "orders"), ("asset", "orders"), ("op", "orders")]
    assert page.driver.find_element("id", "said").get_attribute("textContent")
    before = page.run("return cy.zoom();")
    page.press("+")
    assert page.run("return cy.zoom();") > before
    page.press(escape)
    assert page.text("#panel") == ""
    page.press("0")
    assert page.run("const e = cy.extent(); return e.x1 < cy.elements().boundingBox().x1;")


def test_the_legend_names_what_is_there_and_hides_it(opened: Open) -> None:
    page = opened(shop())
    legend = page.text("#legend")
    assert "Assets 2" in legend.replace("\n", " ")
    assert "are the same thing" in legend
    page.driver.find_element("xpath", "//*[@id='legend']//button[contains(., 'Datasets')]").click()
    shown = "return cy.nodes('.dataset:visible').length;"
    eventually(lambda: page.run(shown) == 0, "they are hidden", 10)
    assert page.run("return cy.nodes('.asset:visible').length;") == 2
    page.press("/")
    page.press("snowflake", "\ue007")
    assert page.run("return cy.nodes('.dataset:visible').length;") == 2


def test_it_is_dark_where_people_prefer_that(opened: Open) -> None:
    page = opened(shop())

    def colors() -> list[str]:
        script = "return [getComputedStyle(document.body).color, cy.nodes()[0].style('color')];"
        return [each.replace(" ", "") for each in page.run(script)]

    light = colors()
    page.emulate(prefers_color_scheme="dark", prefers_reduced_motion="reduce")
    assert light[0] == light[1]
    dark = eventually(lambda: (now := colors())[1] != light[1] and now, "the drawing is dark")
    assert dark[0] == dark[1] != light[0]


def test_hostile_names_are_only_read(opened: Open) -> None:
    page = opened(hostile())
    assert page.text("h1") == HOSTILE
    for index in range(page.run("return cy.nodes().length;")):
        page.run("cy.nodes()[arguments[0]].emit('tap');", index)
        for element in page.driver.find_elements("css selector", "#panel summary"):
            element.click()
        assert page.driver.find_elements("css selector", "#panel img, #panel script") == []
    page.driver.find_element("id", "search").send_keys("onerror")
    assert HOSTILE in page.text("#found")
    assert page.driver.execute_script("return window.broken;") is None
    assert page.driver.find_elements("css selector", "#panel a") == []
    assert page.complaints() == []
    assert [request for request in page.requests() if not request.startswith("data:")] == [
        page.file.as_uri()
    ]


@pytest.mark.parametrize("items", [shop, lambda: big(60)], ids=["shop", "sixty assets"])
def test_no_two_nodes_lie_on_each_other(
    opened: Open, items: Callable[[], list[Proposal | Problem]]
) -> None:
    page = opened(items())
    boxes = page.run(
        "return cy.nodes().map((each) => {"
        " const { x1, y1, x2, y2 } = each.boundingBox({ includeLabels: true });"
        " return [x1, y1, x2, y2]; });"
    )
    assert len(boxes) > 5
    for one, other in itertools.combinations(boxes, 2):
        is_beside = one[2] <= other[0] or other[2] <= one[0]
        assert is_beside or one[3] <= other[1] or other[3] <= one[1]


def test_every_label_lies_within_its_node(opened: Open) -> None:
    page = opened([*shop(), *big(3)])
    widths = page.run(
        "return cy.nodes().map((each) => ["
        " each.boundingBox({ includeNodes: false, includeEdges: false, includeLabels: true }).w,"
        " each.width()]);"
    )
    assert len(widths) > 3
    assert all(label <= node for label, node in widths)


def test_a_run_with_five_hundred_nodes_can_be_searched_and_read(opened: Open) -> None:
    page = opened(big(250))
    assert page.run("return cy.nodes().length;") == 501
    page.driver.find_element("id", "search").send_keys("table_249 asset", "\ue007")
    assert page.text("#panel h2") == "table_249"
    assert page.run("return cy.zoom();") >= 0.8
    assert page.run(
        "const { x, y } = cy.nodes('.chosen')[0].renderedPosition();"
        "return x > 0 && y > 0 && x < cy.width() && y < cy.height();"
    )


def test_a_run_without_proposals_has_a_note(opened: Open) -> None:
    page = opened([])
    assert page.text("#nothing") == "This run has no metadata for DataHub yet."
    assert page.complaints() == []


def test_what_was_left_out_is_one_click_away(opened: Open) -> None:
    urn = "urn:li:dataset:(urn:li:dataPlatform:dagster,orders,PROD)"
    page = opened([*shop(), Problem(urn, "upstreamLineage", "the SQL can't be read")])
    page.driver.find_element("xpath", "//header//button[text()='1 left out']").click()
    assert "the SQL can't be read" in page.text("#panel")
