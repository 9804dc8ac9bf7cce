"""What a report costs its reader: bytes, and how soon the browser shows it, beside a page with one word.

    python benchmarks/page.py [--rounds 20] [--out FILE]

The pages are of a training with layers, of two groups of ten trainings with 200,000 readings together, and the peer: a
page of one word. Each round opens every page once, in turn, in a tab of its own of one headless Chromium that was
started before. Milliseconds from the start of the navigation to the first contentful paint, as the browser has them
(W3C Paint Timing), the file on a local disk. `over_word` is the median of the differences from the word of the same
round: what the page adds to the browser's own.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import facts  # noqa: E402
from energyprof.reporting import report  # noqa: E402
from tests.reports.chromium import Browser, chromium  # noqa: E402
from tests.reports.trained import training  # noqa: E402

WORD = '<!doctype html><html lang="en"><meta charset="utf-8"><title>word</title><p>word</p></html>'
SECONDS, HZ = 1000.0, 10.0  # of each of twenty runs: 10,000 readings
PAINT = "performance.getEntriesByName('first-contentful-paint')"


def pages(folder: Path) -> dict[str, Path]:
    """The pages by name."""
    for number in range(20):
        training(
            folder / "runs", number, "ab"[number % 2], SECONDS, 0.9 if number % 2 else 1.0, HZ, epochs=10
        )
    texts = {
        "word": WORD,
        "one": report(["@last"], str(folder / "runs")).html,
        "several": report(["a", "b"], str(folder / "runs")).html,
    }
    found = {}
    for name, text in texts.items():
        found[name] = folder / f"{name}.html"
        found[name].write_text(text, encoding="utf-8")
    return found


def paint_ms(browser: Browser, page: Path) -> float:
    """When a new tab first showed something of a page."""
    tab = browser.tab()
    tab.open(page)
    tab.wait(f"{PAINT}.length")
    found = float(tab.value(f"{PAINT}[0].startTime"))
    tab.do("Page.close")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scrap, chromium() as browser:
        made = pages(Path(scrap))
        times: dict[str, list[float]] = {name: [] for name in made}
        for number in range(options.rounds + 1):
            for name, page in made.items():
                took = paint_ms(browser, page)
                if number:  # the first round is the browser's own warm-up
                    times[name].append(took)
        rows = {
            name: {
                "bytes": made[name].stat().st_size,
                "median_ms": round(statistics.median(own), 1),
                "least_ms": round(min(own), 1),
                "most_ms": round(max(own), 1),
                "over_word_ms": round(statistics.median(a - b for a, b in zip(own, times["word"])), 1),
            }
            for name, own in times.items()
        }
    for name, row in rows.items():
        print(name, row, flush=True)
    print(f"written to {facts.write('page', {'rounds': options.rounds, 'pages': rows}, options.out).name}")


if __name__ == "__main__":
    main()
