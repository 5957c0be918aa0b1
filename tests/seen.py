"""What a page shows, read in the browser."""

from collections.abc import Callable

import polars as pl
from playwright.sync_api import Page

NONE, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"

Opener = Callable[..., Page]
"""Opens a page: see the fixtures `show` and `show_other`."""


def count(page: Page, name: str) -> int:
    """The exact number: a long one is shown in three digits."""
    exact = page.get_attribute(f"#count-{name}", "title") or page.inner_text(f"#count-{name}")
    return int(exact.replace(",", ""))


def texts(page: Page, selector: str) -> list[str]:
    return page.locator(selector).all_inner_texts()


def listed(page: Page, column: str = "Track") -> list[str]:
    heads = [head.strip("↓↑ ") for head in texts(page, "#list thead th")]
    return texts(page, f"#list tbody td:nth-child({heads.index(column) + 1})")


def whole(values: pl.Series) -> list[str]:
    return [f"{value:,.0f}" for value in values]


def overflow(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


def percent(values: pl.Series, sign: str = "") -> list[str]:
    """As the page writes them: negative numbers have a true minus sign, none has a sign for zero."""
    written = (NONE if value is None else f"{value:{sign}.1%}" for value in values)
    return [{"+0.0%": "0.0%", "-0.0%": "0.0%"}.get(value, value).replace("-", MINUS) for value in written]


def column(page: Page, place: str, name: str) -> list[str]:
    number = texts(page, f"{place} thead th").index(name) + 1
    return texts(page, f"{place} tbody tr > :nth-child({number})")


def facts(page: Page, title: str) -> dict[str, str]:
    place = f"dialog h3:text-is('{title}') + dl"
    return dict(zip(texts(page, f"{place} dt"), texts(page, f"{place} dd"), strict=True))


# The lowest contrast of any text with what lies behind it, of all that is shown and not switched off.
CONTRAST = """() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = parts(colour).slice(0, 3).map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if ((parts(colour)[3] ?? 1) === 1) return colour;
    }
    throw new Error("nothing behind");
  };
  const ratios = [...document.querySelectorAll("body *")]
    .filter((element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
    .filter((element) => element.getClientRects().length && !element.disabled)
    .map((element) => {
      const style = getComputedStyle(element);
      const colour = element instanceof SVGElement ? style.fill : style.color;
      const [a, b] = [light(colour), light(behind(element))];
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    });
  return [ratios.length, Math.min(...ratios)];
}"""
