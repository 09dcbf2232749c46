"""The HTML report: one file, no outside resources, readable without JavaScript."""
from __future__ import annotations

import os
import tempfile
from collections import Counter
from html import escape
from pathlib import Path

from fusetorch.compiler.explain import Explanation, Group
from fusetorch.compiler.ir import Node
from fusetorch.demo import tables
from fusetorch.demo.measure import Outcome

_STYLE = """
:root { --ink: #1c2430; --soft: #5d6878; --line: #dde2e9; --card: #f6f8fa; --paper: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa5b5; --line: #2e3644; --card: #1a202a; --paper: #11151c; } }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.2rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; }
p { margin: .3rem 0 .8rem; } .soft { color: var(--soft); }
table { border-collapse: collapse; width: 100%; } td, th { padding: .38rem .6rem; border-bottom: 1px solid var(--line); text-align: right; }
td:first-child, th:first-child { text-align: left; } td { font-variant-numeric: tabular-nums; }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); font: 13px system-ui, sans-serif; } svg .soft { fill: var(--soft); }
details { border: 1px solid var(--line); border-radius: 6px; background: var(--card); margin: .4rem 0; padding: .45rem .8rem; }
summary { cursor: pointer; } summary code { font-weight: 600; }
.op { display: inline-block; border: 1px solid var(--line); border-radius: 4px; background: var(--paper); padding: 0 .4rem;
  margin: .1rem; font: 13px ui-monospace, monospace; }
.kind { float: right; color: var(--soft); font-size: .85rem; }
pre { overflow-x: auto; font: 12px/1.4 ui-monospace, monospace; background: var(--paper); border: 1px solid var(--line); padding: .6rem;
  max-height: 34rem; }
"""

#: Readable on light and on dark paper.
_COLOUR = {"eager": "#9aa5b1", "compiled": "#0d9488"}


def write(o: Outcome, path: Path) -> None:
    """Writes the report; the file appears whole or not at all. ``OSError`` if it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as f:
            f.write(render(o))
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    except BaseException:
        os.unlink(aside)
        raise


def render(o: Outcome) -> str:
    """The whole page."""
    e = o.explanation
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>fusetorch: eager against compiled</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>Training on digits: {o.speedup:.2f}x faster compiled</h1>
<p>The whole training step (forward, loss, backward, AdamW) became {e.kernels} kernels instead of {e.unfused_kernels}, and moves
{tables.size(e.bytes_read + e.bytes_written)} instead of {tables.size(e.unfused_bytes_read + e.unfused_bytes_written)}.</p>
<p class="soft">{escape(tables.machine(o))}</p>
<h2>Eager against compiled</h2>
{_table(o)}
<p class="soft">Kernels, bytes and peak memory of the eager side are those of the same step with one kernel for each operation.
Peak memory counts intermediate results, not parameters and data. Compile time is what this run spent: less when the kernels are in the
disk cache from an earlier run.</p>
<h2>Compiled as a share of eager</h2>
{_bars(o)}
<h2>Training loss</h2>
{_losses(o)}
<h2>The fused graph</h2>
<p>Kernels in the order in which they run, with the operations in each. Open one to see its generated code.</p>
{_groups(e)}
<h2>What was not fused, and why</h2>
{_refusals(e)}
<h2>The graph before fusion</h2>
<details><summary>{len(e.graph.live())} nodes, as Python</summary><pre>{escape(str(e.graph))}</pre></details>
</body>
</html>
"""


def _table(o: Outcome) -> str:
    body = "".join(f"<tr><td>{escape(a)}</td><td>{escape(b)}</td><td>{escape(c)}</td></tr>\n" for a, b, c in tables.rows(o))
    both = "".join(f'<tr><td>{escape(a)}</td><td colspan="2">{escape(b)}</td></tr>\n' for a, b in tables.closing(o))
    return f"<table>\n<thead><tr><th></th><th>eager</th><th>compiled</th></tr></thead>\n<tbody>\n{body}{both}</tbody>\n</table>"


def _bars(o: Outcome) -> str:
    left, width, pitch = 170, 470, 52
    parts = []
    for i, (label, eager, compiled) in enumerate(tables.costs(o)):
        y, share = 8 + i * pitch, compiled / eager if eager else 1.0
        widest = max(1.0, share)
        for row, (kind, value, part) in enumerate((("eager", eager, 1.0), ("compiled", compiled, share))):
            w = width * part / widest
            text = f"{value:,.0f}" + (f" ({share:.0%})" if row else "")
            parts.append(f'<rect fill="{_COLOUR[kind]}" x="{left}" y="{y + 19 * row}" width="{w:.1f}" height="16" rx="2"/>'
                         f'<text x="{left + w + 6:.1f}" y="{y + 19 * row + 13}">{text}</text>')
        parts.append(f'<text x="{left - 10}" y="{y + 22}" text-anchor="end">{escape(label)}</text>')
    height = 8 + pitch * len(tables.costs(o)) + 22
    legend = (f'<rect fill="{_COLOUR["eager"]}" x="{left}" y="{height - 18}" width="12" height="12"/>'
              f'<text x="{left + 18}" y="{height - 7}">eager</text>'
              f'<rect fill="{_COLOUR["compiled"]}" x="{left + 80}" y="{height - 18}" width="12" height="12"/>'
              f'<text x="{left + 98}" y="{height - 7}">compiled (shorter is better)</text>')
    return f'<svg viewBox="0 0 760 {height}" role="img" aria-label="Costs of a step, eager and compiled">{"".join(parts)}{legend}</svg>'


def _losses(o: Outcome) -> str:
    left, top, width, height = 50, 10, 690, 200
    highest = max(*o.eager.losses, *o.compiled.losses)

    def line(losses: list[float], kind: str, pen: int) -> str:
        points = " ".join(f"{left + width * i / (len(losses) - 1):.1f},{top + height * (1 - v / highest):.1f}"
                          for i, v in enumerate(losses))
        return f'<polyline fill="none" stroke="{_COLOUR[kind]}" stroke-width="{pen}" points="{points}"/>'

    axis = (f'<line x1="{left}" y1="{top + height}" x2="{left + width}" y2="{top + height}" stroke="currentColor" stroke-opacity=".3"/>'
            f'<text class="soft" x="{left - 8}" y="{top + 10}" text-anchor="end">{highest:.2f}</text>'
            f'<text class="soft" x="{left - 8}" y="{top + height}" text-anchor="end">0</text>'
            f'<text class="soft" x="{left + width}" y="{top + height + 18}" text-anchor="end">epoch {o.epochs}</text>')
    lines = line(o.eager.losses, "eager", 6) + line(o.compiled.losses, "compiled", 2)
    return (f'<svg viewBox="0 0 760 {top + height + 24}" role="img" aria-label="Mean training loss per epoch">{axis}{lines}</svg>'
            '<p class="soft">Wide and pale: eager. Narrow, on top of it: compiled.</p>')


def _groups(e: Explanation) -> str:
    return "\n".join(_group(g) for g in e.groups)


def _group(g: Group) -> str:
    ops = " ".join(f'<span class="op">{escape(op)}{f" ×{n}" if n > 1 else ""}</span>' for op, n in Counter(g.ops).items())
    kind = "generated" if g.kind == "loop" else "library"
    code = f"<pre>{escape(g.source)}</pre>" if g.source else '<p class="soft">This operation has a kernel of its own.</p>'
    nodes = "".join(f"<tr><td>{escape(n.name)}</td><td>{escape(_results(n))}</td><td>{escape(Path(n.location).name)}</td></tr>\n"
                    for n in g.nodes)
    return (f'<details><summary><code>{escape(g.name)}</code> <span class="kind">{kind}; reads {tables.size(g.bytes_read)}, '
            f"writes {tables.size(g.bytes_written)}</span><br>{ops}</summary>"
            f"<table><thead><tr><th>operation</th><th>result</th><th>line of the program</th></tr></thead>{nodes}</table>{code}</details>")


def _results(n: Node) -> str:
    return ", ".join(f"{v.dtype.name}{list(v.shape)}" for v in n.outputs)


def _refusals(e: Explanation) -> str:
    if not e.refusals:
        return "<p>Nothing was refused.</p>"
    body = "".join(f"<tr><td>{escape(a)} → {escape(b)}</td><td>{escape(why)}</td></tr>\n" for a, b, why in e.refusals)
    return f"<details><summary>{len(e.refusals)} pairs</summary><table>{body}</table></details>"
