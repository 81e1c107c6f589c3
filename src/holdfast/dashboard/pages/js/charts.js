// How did a figure go? A small chart over time (uPlot), with the figure in words beside it.
//
//   <Chart title="Memory" unit="bytes" at=${chart.at_unix_s} values=${chart.rss_bytes} starts=${chart.starts}
//          marks=${chart.marks} limit=${limitBytes} least=${0} />
//
// unit: "bytes" | "share" | "ms" | "number" | "s". Starts of lives are dashed lines, marks (incidents) are red lines; both are
// also told in words by the pages that have them. All charts of a page share the cursor. Colours come from app.css, and are
// read again when the theme changes. Loaded only by screens that draw (it brings the 145 kB of uPlot).
import uPlot from "../vendor/uplot.js";
import { html, useEffect, useRef, useState } from "./dom.js";
import { bytes, clock, number, share, span } from "./format.js";

const looks = document.createElement("link");
looks.rel = "stylesheet";
looks.href = "/vendor/uplot.css";
document.head.append(looks);

const HIGH = 110;
const FORMATS = { bytes, share, number, s: span, ms: (value) => (value === null || value === undefined ? "–" : `${number(value)} ms`) };
const sync = uPlot.sync("holdfast");
const two = (value) => String(value).padStart(2, "0");

export function Chart({ title, unit, at, values, starts = [], marks = [], limit = null, least = null, high = HIGH }) {
  const box = useRef(null);
  const plot = useRef(null);
  const shown = useRef({});
  shown.current = { starts, marks, limit };
  const [pointed, setPointed] = useState(null);
  const format = FORMATS[unit] ?? number;

  useEffect(() => {
    const make = () => {
      plot.current?.destroy();
      plot.current = new uPlot(options(box.current, { unit, format, high, least, shown, setPointed }), [at, values], box.current);
    };
    make();
    const watcher = new ResizeObserver(() => plot.current?.setSize({ width: box.current.clientWidth, height: high }));
    watcher.observe(box.current);
    document.addEventListener("holdfast-theme", make);
    return () => {
      watcher.disconnect();
      document.removeEventListener("holdfast-theme", make);
      plot.current?.destroy();
      plot.current = null;
    };
  }, [unit]);
  useEffect(() => {
    plot.current?.setData([at, values]);
  }, [at, values]);

  const known = values.filter((value) => value !== null && value !== undefined);
  const last = known.length ? known[known.length - 1] : null;
  const [lowest, highest] = known.length ? [format(min(known)), format(max(known))] : [];
  const range = !known.length ? "nothing known" : lowest === highest ? "steady" : `${lowest} to ${highest}`;
  const isPointed = pointed !== null && pointed < values.length;
  return html`<figure class="chart">
    <figcaption>
      <span class="chart-title">${title}</span>
      <span class="chart-now num">${format(isPointed ? values[pointed] : last)}</span>
      <span class="chart-range dim">${isPointed ? clock(at[pointed]) : range}</span>
    </figcaption>
    <div class="chart-box" ref=${box} role="img" aria-label=${`${title} over time: now ${format(last)}, ${range}`}></div>
  </figure>`;
}

// Math.min(...values) breaks on long arrays.
const min = (values) => values.reduce((a, b) => (b < a ? b : a));
const max = (values) => values.reduce((a, b) => (b > a ? b : a));

function options(box, { unit, format, high, least, shown, setPointed }) {
  const css = getComputedStyle(document.documentElement);
  const colour = (name) => css.getPropertyValue(name).trim();
  const axis = {
    stroke: colour("--dim"),
    font: "11px system-ui, sans-serif",
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { show: false },
  };
  return {
    width: box.clientWidth,
    height: high,
    padding: [6, 18, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: sync.key }, drag: { x: false, y: false }, points: { size: 6 }, y: false },
    scales: {
      y: {
        range: (_, low, top) => {
          const limit = shown.current.limit;
          const highest = Math.max(top ?? 0, limit && limit < (top ?? 0) * 3 ? limit : 0);
          const lowest = unit === "bytes" && low !== null && low > highest * 0.6 ? low * 0.95 : 0;
          return [Math.min(least ?? lowest, lowest), highest > lowest ? highest * 1.08 : lowest + 1];
        },
      },
    },
    axes: [
      { ...axis, space: 70, size: 22, values: (_, ticks, __, ___, step) => ticks.map((tick) => time(tick, step)) },
      { ...axis, space: 28, size: 48, values: (_, ticks) => ticks.map(format) },
    ],
    series: [{}, { stroke: colour("--chart"), width: 1.5, fill: colour("--chart-fill"), points: { size: 4 }, spanGaps: false }],
    hooks: {
      setCursor: [(u) => setPointed(u.cursor.idx ?? null)],
      draw: [(u) => drawLines(u, shown.current, colour)],
    },
  };
}

function time(tick, step) {
  const at = new Date(tick * 1000);
  if (step >= 86400) return `${at.getMonth() + 1}/${at.getDate()}`;
  return `${two(at.getHours())}:${two(at.getMinutes())}${step < 60 ? `:${two(at.getSeconds())}` : ""}`;
}

function drawLines(u, { starts, marks, limit }, colour) {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  const line = (x0, y0, x1, y1, stroke, dash) => {
    ctx.beginPath();
    ctx.setLineDash(dash);
    ctx.strokeStyle = stroke;
    ctx.lineWidth = devicePixelRatio;
    ctx.moveTo(x0, y0);
    ctx.lineTo(x1, y1);
    ctx.stroke();
  };
  const upright = (unixS, stroke, dash) => {
    const x = Math.round(u.valToPos(unixS, "x", true));
    line(x, bbox.top, x, bbox.top + bbox.height, stroke, dash);
  };
  for (const unixS of starts) upright(unixS, colour("--dim"), [3, 3]);
  for (const mark of marks) upright(mark.at_unix_s, colour("--bad"), []);
  if (limit) {
    const y = Math.round(u.valToPos(limit, "y", true));
    line(bbox.left, y, bbox.left + bbox.width, y, colour("--care"), [6, 3]);
  }
  ctx.restore();
}
