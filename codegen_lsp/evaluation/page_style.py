"""Style of reports in HTML, light and dark, without anything to load."""

from __future__ import annotations

STYLE = """
:root { --ink: #1f2430; --dim: #69707d; --line: #d9dde3; --paper: #fff; --card: #f6f7f9; --cache: #2a9d6f;
  --model: #3b6fd4; --none: #b9bec8; --late: #d9822b; --whole: #bfe8d4; --part: #d5e1fb; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ec; --dim: #98a0ad; --line: #3a404b; --paper: #16181d;
  --card: #1f2229; --cache: #4cc38f; --model: #7ea3ef; --none: #555c68; --late: #e8a35a; --whole: #1f5940;
  --part: #2b3f70; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 1040px; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem } h2 { font-size: 1.05rem; margin: 2rem 0 .4rem }
p { margin: .2rem 0 .6rem; color: var(--dim); max-width: 70ch }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: .7rem; margin: 1.2rem 0 }
.card { background: var(--card); border-radius: 8px; padding: .7rem .9rem }
.card b { display: block; font-size: 1.3rem; line-height: 1.3; white-space: nowrap }
.card span { color: var(--dim); font-size: .82rem }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 0 2rem }
svg { width: 100%; height: auto; display: block } svg text { fill: var(--dim); font-size: 12px }
svg .ink { fill: var(--ink) } .axis { stroke: var(--line); stroke-width: 1 } .aim { stroke: var(--dim) }
table { border-collapse: collapse; width: 100%; font-size: .9rem }
td, th { text-align: left; padding: .2rem .6rem .2rem 0; border-bottom: 1px solid var(--line); font-weight: normal }
th { white-space: nowrap }
td:last-child { text-align: right; font-variant-numeric: tabular-nums }
pre { background: var(--card); border-radius: 8px; padding: .8rem 1rem; overflow-x: auto; margin: .3rem 0 1rem;
  font: 12.5px/1.45 ui-monospace, monospace }
mark { background: var(--whole); color: inherit; border-radius: 3px } mark.part { background: var(--part) }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin: 0 .3em 0 .9em }
.key:first-child { margin-left: 0 }
"""
