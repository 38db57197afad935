"""The style sheet of a session's page."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --muted: #59636e; --line: #d8dee4; --page: #fff; --soft: #f6f8fa;
  --link: #0b5cad; --good: #1a7f37; --bad: #c0262d; --wait: #8a5a00; --user: #0b5cad; --assistant: #1a7f37;
  --model: #7a45c4; --badsoft: #fdeeee; --goodsoft: #ecf7ef; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --muted: #9aa4af; --line: #3a424b; --page: #14181d; --soft: #1d232a; --link: #7cc0ff;
    --good: #5fc77b; --bad: #ff7b78; --wait: #e0b04c; --user: #7cc0ff; --assistant: #5fc77b; --model: #c6a1ff;
    --badsoft: #33191b; --goodsoft: #16291c; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .15rem 0 .5rem; overflow-wrap: anywhere; white-space: pre-wrap; }
h2 { font-size: 1.2rem; margin: 2.25rem 0 .6rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
h3 { font-size: .85rem; color: var(--muted); font-weight: 600; margin: .6rem 0 .2rem; }
a { color: var(--link); }
p { margin: .3rem 0; }
time, .number { font-variant-numeric: tabular-nums; }
.muted, .note, footer { color: var(--muted); }
.note { font-size: .9rem; border: 1px dashed var(--line); border-radius: 6px; padding: .4rem .7rem; margin: .6rem 0; }
.id { font-family: ui-monospace, monospace; font-size: .85em; overflow-wrap: anywhere; }
nav { margin: 1rem 0 0; display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; }
.badge { display: inline-block; border: 1px solid currentColor; border-radius: 1rem; padding: 0 .6rem;
  font-size: .8rem; font-weight: 600; color: var(--muted); white-space: nowrap; }
.badge.completed { color: var(--good); }
.badge.failed, .bad { color: var(--bad); }
.badge.active, .badge.running, .badge.pending { color: var(--wait); }
.chip { display: inline-block; background: var(--soft); border: 1px solid var(--line); border-radius: 4px;
  padding: 0 .4rem; margin: 0 .3rem .2rem 0; font-size: .85rem; overflow-wrap: anywhere; }
dl.facts { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; margin: .8rem 0; }
dl.facts dt { color: var(--muted); }
dl.facts dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
dl.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.6rem, 1fr)); gap: .6rem; margin: 1.2rem 0; }
dl.tiles div { background: var(--soft); border: 1px solid var(--line); border-radius: 6px; padding: .5rem .7rem; }
dl.tiles dt { color: var(--muted); font-size: .82rem; }
dl.tiles dd { margin: 0; font-size: 1.3rem; font-weight: 600; line-height: 1.3; }
dl.tiles dd.under { font-size: .82rem; font-weight: 400; color: var(--muted); }
.panel { border: 1px solid var(--line); border-left: 4px solid var(--muted); border-radius: 6px;
  padding: .5rem .8rem; margin: .6rem 0; }
.panel.user { border-left-color: var(--user); }
.panel.assistant { border-left-color: var(--assistant); }
.panel.failed, .panel.error { border-left-color: var(--bad); }
.panel.error { background: var(--badsoft); }
.head { display: flex; flex-wrap: wrap; gap: .1rem .8rem; align-items: baseline; font-size: .85rem;
  color: var(--muted); }
.head b { color: var(--ink); font-size: .95rem; overflow-wrap: anywhere; }
.user > .head b { color: var(--user); }
.assistant > .head b { color: var(--assistant); }
.right { margin-left: auto; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; margin: .3rem 0 0; }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 6px; padding: .5rem .7rem; margin: .2rem 0;
  font: .82rem/1.45 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
details > summary { cursor: pointer; }
details.panel > summary { display: flex; flex-wrap: wrap; gap: .1rem .8rem; align-items: baseline;
  font-size: .85rem; color: var(--muted); list-style: none; }
details.panel > summary::before { content: "\\25b8"; width: .7rem; }
details.panel[open] > summary::before { content: "\\25be"; }
details.panel > summary::-webkit-details-marker { display: none; }
details.panel > summary b { color: var(--ink); font-size: .95rem; overflow-wrap: anywhere; }
details.version { margin: 0; border-width: 0 0 1px; border-radius: 0; padding: .3rem .2rem; }
details.version > summary .what { overflow-wrap: anywhere; flex-basis: 100%; padding-left: 1.5rem; color: var(--ink); }
.model { font-size: .85rem; color: var(--muted); margin: .4rem 0 .4rem 1rem; padding-left: .6rem;
  border-left: 2px solid var(--model); }
.model b { color: var(--ink); font-weight: 600; }
.cut, .erased { color: var(--muted); font-style: italic; font-family: system-ui, sans-serif; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; }
th, td { padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { color: var(--muted); font-weight: 600; white-space: nowrap; }
td.number, th.number { text-align: right; white-space: nowrap; }
table.changes { table-layout: fixed; }
table.changes th:first-child { width: 22%; }
table.changes .none { color: var(--muted); padding-left: .5rem; }
table.changes td { overflow-wrap: anywhere; white-space: pre-wrap; font: .82rem/1.45 ui-monospace, monospace; }
table.changes td.before:not(.none) { background: var(--badsoft); padding-left: .5rem; }
table.changes td.after:not(.none) { background: var(--goodsoft); padding-left: .5rem; }
tfoot td { font-weight: 600; }
svg { display: block; width: 100%; min-width: 40rem; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: var(--muted); }
svg .lane { stroke: var(--line); }
svg .user { fill: var(--user); }
svg .assistant { fill: var(--assistant); }
svg .other { fill: var(--muted); }
svg .call { fill: var(--wait); }
svg .model { fill: var(--model); }
svg .failed { fill: var(--bad); }
:target { outline: 2px solid var(--link); outline-offset: 2px; }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: .75rem; font-size: .85rem; }
@media (max-width: 40rem) {
  main { padding: 1rem .8rem 2rem; }
  dl.facts { grid-template-columns: 1fr; gap: 0; }
  dl.facts dd { margin-bottom: .4rem; }
}
@media print {
  :root { --ink: #000; --muted: #444; --line: #bbb; --page: #fff; --soft: #fff; --link: #000; --badsoft: #fff;
    --goodsoft: #fff; --good: #000; --wait: #444; }
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  a { text-decoration: none; }
  h2, .head, summary { break-after: avoid; }
  dl.tiles div, tr, svg, .model { break-inside: avoid; }
  details:not(.version)::details-content { content-visibility: visible; display: block; height: auto; }
  .scroll { overflow: visible; }
  table { font-size: 7.5pt; }
  th, td { padding-right: .4rem; }
  svg { min-width: 0; }
}
"""
