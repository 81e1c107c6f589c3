"""A flame graph of a profile: one SVG file that needs nothing else, for a browser, a mail or a ticket.

Width is the share of samples, the root is at the bottom, the time axis means nothing (Brendan Gregg's form). Hovering shows
the whole frame; clicking makes a frame as wide as the picture. Names come from programs that went wrong, so
every one is escaped. Pure.
"""

from holdfast.diagnosis.lastwords import split_frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from holdfast.diagnosis.profile import Profile

_WIDTH, _ROW, _TOP = 1200, 17, 44
#: Narrower than this (in pixels) is not drawn: nobody sees it, and a file of a hundred thousand boxes opens in no browser.
_NARROWEST = 0.4
_LETTER = 6.6
#: Deeper is cut: it is recursion, and all of it is written in the collapsed stacks.
_DEEPEST = 250
_STYLE = "text{font:11px monospace;pointer-events:none}rect{stroke:#fff;stroke-width:.5}g:hover rect{stroke:#000}"
#: Zoom: scale every box so that the clicked one fills the picture; a click on the root undoes it.
_SCRIPT = """
var boxes=[].slice.call(document.querySelectorAll('g[data-x]'));
function zoom(x,w){boxes.forEach(function(g){
 var r=g.querySelector('rect'),t=g.querySelector('text'),a=(g.dataset.x-x)/w*1200,b=g.dataset.w/w*1200;
 if(a<0){b+=a;a=0}if(a+b>1200){b=1200-a}
 g.style.display=b<0.4?'none':'';r.setAttribute('x',a);r.setAttribute('width',Math.max(0,b));
 t.setAttribute('x',a+3);t.textContent=b<20?'':g.dataset.n.slice(0,Math.floor((b-6)/6.6));})}
boxes.forEach(function(g){g.addEventListener('click',function(){zoom(+g.dataset.x,+g.dataset.w)})});
"""


class _Node:
    __slots__ = ("children", "count")

    def __init__(self) -> None:
        self.count = 0
        self.children: dict[str, _Node] = {}


def svg(
    profile: "Profile", title: str, unit: str = "samples", means: str = "where the time goes"
) -> str:
    """Return the picture; ``title`` stands above it, below it what is counted and what the widest boxes are."""
    root = _Node()
    for thread, frames, count in profile.rows:
        node = root
        node.count += count
        for name in (thread or "all threads", *frames[:_DEEPEST]):
            node = node.children.setdefault(name, _Node())
            node.count += count
    boxes: list[tuple[str, float, float, int, int]] = []
    deepest = _place(root, "all", 0.0, _WIDTH / max(1, root.count), 0, boxes)
    height = _TOP + (deepest + 1) * _ROW + 10
    drawn = "".join(_box(box, height, root.count, unit) for box in boxes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="monospace">'
        f"<style>{_STYLE}</style>"
        f'<rect width="{_WIDTH}" height="{height}" fill="#fdfdfb" stroke="none"/>'
        f'<text x="6" y="18">{escape(title)}</text>'
        f'<text x="6" y="34" fill="#777">{root.count} {unit}; the widest boxes are {means}; click to zoom</text>'
        f"{drawn}<script><![CDATA[{_SCRIPT}]]></script></svg>\n"
    )


def _place(node: _Node, name: str, x: float, scale: float, depth: int, boxes: "list[Any]") -> int:
    width = node.count * scale
    boxes.append((name, x, width, depth, node.count))
    deepest = depth
    for child in sorted(node.children):
        found = node.children[child]
        if found.count * scale >= _NARROWEST:
            deepest = max(deepest, _place(found, child, x, scale, depth + 1, boxes))
        x += found.count * scale
    return deepest


def _box(box: "tuple[str, float, float, int, int]", height: int, total: int, unit: str) -> str:
    name, x, width, depth, count = box
    path, line, function = split_frame(name)
    short = f"{function} {path.rpartition('/')[2]}" + (f":{line}" if line else "")
    label = short if function else name
    room = int((width - 6) / _LETTER)
    shown = escape(label[:room]) if width >= 20 else ""
    y = height - 10 - (depth + 1) * _ROW
    return (
        f'<g data-x="{x:.2f}" data-w="{width:.2f}" data-n="{escape(label)}">'
        f"<title>{escape(name)} ({count} {unit}, {count / max(1, total):.1%})</title>"
        f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{_ROW - 1}" fill="{_colour(path)}"/>'
        f'<text x="{x + 3:.2f}" y="{y + 12}">{shown}</text></g>'
    )


def _colour(path: str) -> str:
    """Warm for Python, blue for native code, by package, so that a library is seen at a glance."""
    if not path.endswith(".py"):
        return "#a9c4dd"
    top = path.rpartition("-packages/")[2].split("/")[0] if "-packages/" in path else path
    return f"hsl({18 + sum(top.encode()) % 38},85%,{64 + sum(top.encode()) % 12}%)"


def escape(text: str) -> str:
    """Return text fit for XML: markup escaped, control characters replaced."""
    plain = "".join(c if c.isprintable() else "?" for c in text)
    return (
        plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    )
