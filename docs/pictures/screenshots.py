"""`python -m docs.pictures.screenshots RUN_FOLDER PAPER_PAGE`: the tutorial's and the README's pictures of real pages, by chromium."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).resolve().parents[1] / "images"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-quic", "--disable-sync"]
COLOURS = 64  # of the palette: text and lines need no more, and every file stays below 150 kB


def take(page: Page, name: str, top: str, height: int) -> None:
    """`height` pixels of the page from the element `top` on."""
    place = page.locator(top).first
    place.scroll_into_view_if_needed()
    page.wait_for_timeout(1_500)  # charts are drawn when they come into view
    page.evaluate("y => window.scrollTo(0, y)", place.evaluate("e => e.getBoundingClientRect().top + scrollY - 12"))
    page.wait_for_timeout(1_500)
    path = IMAGES / f"{name}.png"
    page.screenshot(path=path, clip={"x": 0, "y": 0, "width": 1180, "height": height})
    Image.open(path).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    run, paper = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=QUIET)
        page = browser.new_page(viewport={"width": 1180, "height": 1750})
        page.goto(f"file://{run}/index.html")
        take(page, "comparison-page", "h1", 1545)
        take(page, "tutorial-luck", "#luck", 800)
        take(page, "tutorial-search", "text=Window by window", 900)
        page.locator("#charted").select_option("sma_cross")  # the searched network may have made no trade
        take(page, "tutorial-trades", "#trades", 600)
        page.goto(f"file://{paper}")
        take(page, "tutorial-paper", "h1", 1190)
        browser.close()
