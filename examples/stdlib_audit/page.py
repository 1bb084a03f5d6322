"""The report as one self-contained HTML page: no script, no address, charts as inline SVG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from examples.stdlib_audit.charts import Bar, bars, columns
from examples.stdlib_audit.report import Row, digest, percent

_STYLE = """
:root { --ink: #1b2130; --soft: #5d6678; --line: #e3e6ec; --page: #f7f8fa; --card: #fff;
  --bar: #3b6fd4; --track: #e8ecf4; --warn: #b4441f; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9f0; --soft: #98a1b3; --line: #2b3140;
  --page: #12151c; --card: #1a1e28; --bar: #6f9bf0; --track: #262c3a; --warn: #f0906a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.15rem; margin: 0 0 .2rem; }
p { margin: 0 0 1rem; } .soft { color: var(--soft); }
.tiles { display: grid; gap: .75rem; margin: 1.75rem 0;
  grid-template-columns: repeat(4, 1fr); }
@media (max-width: 40rem) { .tiles { grid-template-columns: repeat(2, 1fr); } }
.tile, section { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; }
.tile { padding: .8rem 1rem; }
.tile b { display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: .85rem; }
section { padding: 1.25rem 1.4rem; margin-bottom: 1.25rem; }
.pair { display: grid; gap: 0 1.25rem;
  grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); }
svg { display: block; width: 100%; height: auto; margin-top: .6rem; }
svg text { font: 13px system-ui, sans-serif; fill: var(--ink); }
svg .mono { font: 12.5px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
svg .small { font-size: 11px; }
svg .soft { fill: var(--soft); } .bar { fill: var(--bar); } .track { fill: var(--track); }
table { border-collapse: collapse; width: 100%; margin-top: .6rem; font-size: .9rem; }
th { text-align: left; font-weight: 600; color: var(--soft); }
th, td { padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line); }
td { vertical-align: top; } td:first-child { white-space: nowrap; }
td, footer { overflow-wrap: anywhere; }
code { font: .85rem ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.reason { color: var(--warn); } footer { color: var(--soft); font-size: .8rem; margin-top: 2rem; }
"""


def render(report: Row) -> str:
    """The page. The same report gives the same bytes."""
    totals = report["totals"]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Library audit, Python {escape(report['python'])}</title>",
            f"<style>{_STYLE}</style></head><body><main>",
            f"<h1>What is in Python {escape(report['python'])}’s libraries</h1>",
            f'<p class="soft">{_lead(totals)}</p>',
            _tiles(totals),
            _biggest(report),
            _complex(report),
            f'<div class="pair">{_histograms(report)}</div>',
            _documented(report),
            _imports(report),
            _dead_letters(report),
            _footer(report),
            "</main></body></html>",
            "",
        ]
    )


def _footer(report: Row) -> str:
    return (
        "<footer>Made by Chimera’s example <code>stdlib_audit</code>: one durable task a file. "
        f"Content digest <code>{digest(report)}</code></footer>"
    )


def _lead(totals: Row) -> str:
    half, read = totals["half_of_the_code"], totals["read"]
    return (
        f"Half of the code is in {half:,} of {read:,} files. "
        f"{percent(totals['simple'], totals['functions']):.0f} % of the functions have at most "
        f"five ways through them; {percent(totals['documented'], totals['documentable']):.0f} % of "
        "what is public says what it is for."
    )


def _tiles(totals: Row) -> str:
    tiles = [
        (f"{totals['files']:,}", "files"),
        (f"{totals['lines']:,}", "lines"),
        (f"{totals['code']:,}", "lines of code"),
        (f"{totals['functions']:,}", "functions"),
        (f"{totals['classes']:,}", "classes"),
        (f"{percent(totals['documented'], totals['documentable']):.1f} %", "documented"),
        (f"{totals['complexity_mean']:.2f}", "mean complexity"),
        (f"{totals['dead_letters']:,}", "dead letters"),
    ]
    cells = "".join(f'<div class="tile"><b>{value}</b><span>{name}</span></div>'
                    for value, name in tiles)  # fmt: skip
    return f'<div class="tiles">{cells}</div>'


def _section(title: str, note: str, *content: str) -> str:
    body = "\n".join(content)
    return f'<section><h2>{title}</h2><p class="soft">{note}</p>{body}</section>'


def _biggest(report: Row) -> str:
    rows = [
        Bar(row["module"], row["lines"], f"{row['lines']:,}", f"{row['functions']:,} functions")
        for row in report["biggest"]
    ]
    return _section("Biggest modules", "By lines, blank ones and comments included.", bars(rows))


def _complex(report: Row) -> str:
    rows = [
        (
            f"{row['complexity']:,}",
            f"<code>{escape(row['name'])}</code>",
            f"<code>{escape(row['module'])}:{row['line']}</code>",
        )
        for row in report["complex"]
    ]
    note = "Independent ways through one function (McCabe). Above 10 a test of each is rare."
    return _section("Most complex functions", note, _table(("Ways", "Function", "Where"), rows))


def _histograms(report: Row) -> str:
    return _section(
        "Complexity of functions", "How many functions have so many ways through them.",
        columns(report["complexity_histogram"]),
    ) + _section(
        "Length of files", "How many files have so many lines.",
        columns(report["length_histogram"]),
    )  # fmt: skip


def _documented(report: Row) -> str:
    rows = [
        Bar(
            row["package"],
            percent(row["documented"], row["documentable"]),
            f"{percent(row['documented'], row['documentable']):.0f} %",
            f"{row['documented']:,} of {row['documentable']:,} public names",
        )
        for row in report["packages"]
    ]
    note = f"Public names with a docstring, in the {len(rows)} largest packages, largest first."
    return _section("Documentation by package", note, bars(rows, full=100.0))


def _imports(report: Row) -> str:
    rows = [Bar(row["name"], row["modules"], f"{row['modules']:,}") for row in report["imports"]]
    return _section("Most imported", "How many modules import it, by top-level name.", bars(rows))


def _dead_letters(report: Row) -> str:
    if not report["dead_letters"]:
        return _section("Dead letters", "None: every file could be read.")
    rows = [
        (
            f"<code>{escape(row['module'])}</code>",
            f'<span class="reason">{escape(row["reason"])}</span>',
        )
        for row in report["dead_letters"]
    ]
    note = "Files that are no valid Python, most of them on purpose: no retry could help."
    return _section("Dead letters", note, _table(("Module", "Reason"), rows))


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; its cells are HTML."""

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(f"<{tag}>{cell}</{tag}>" for cell in row)

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><tr>{cells('th', heads)}</tr>{body}</table>"
