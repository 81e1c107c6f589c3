// Small pictures in a line: a sparkline, and the life of a worker as a strip of lives and deaths. SVG, drawn from data.
//
//   <Spark values=${worker.cpu_line} most=${1}/>      silent: the figure stands beside it
//   <Lives lives=${lives} from=${unixS} to=${unixS}/>
import { h, html, memo } from "./dom.js";
import { clock, span } from "./format.js";
import { incidentPath } from "./route.js";

const WIDE = 60;
const HIGH = 16;
//: Lives that are told in words.
const MOST_TOLD = 50;
const LOOKS = { class: "spark", viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", "aria-hidden": "true" };

export const Spark = memo(function Spark({ values, most = 0 }) {
  const count = values?.length ?? 0;
  const top = Math.max(most, ...(values ?? [])) || 1;
  const step = WIDE / Math.max(29, count - 1);
  const left = WIDE - step * (count - 1);
  let points = "";
  for (let at = 0; count > 1 && at < count; at += 1) {
    const value = values[at];
    if (value !== null) points += `${Math.round((left + at * step) * 10) / 10},${Math.round((HIGH - 1 - (value / top) * (HIGH - 2)) * 10) / 10} `;
  }
  return h("svg", LOOKS, h("polyline", { points }));
});

const percent = (share) => `${(share * 100).toFixed(3)}%`;

/** Lives as bars, ends as marks: red where it died, grey where it was asked to. Told in words too, for whoever does not see it. */
export function Lives({ lives, from, to }) {
  const length = Math.max(1, to - from);
  const shown = lives.filter((life) => (life.ended_unix_s ?? to) >= from && (life.started_unix_s ?? from) <= to);
  const place = (at) => Math.max(0, Math.min(1, (at - from) / length));
  const ends = shown.filter((life) => life.ended_unix_s !== null && life.ended_unix_s !== undefined);
  const newest = [...lives].sort((a, b) => b.n - a.n).slice(0, MOST_TOLD);
  const told = (some) => some.map((life) => html`<${Told} key=${life.n} life=${life} now=${to} />`);
  return html`<div class="lives">
    <div class="lives-strip" aria-hidden="true">
      ${shown.map((life) => {
        const left = place(life.started_unix_s ?? from);
        const width = place(life.ended_unix_s ?? to) - left;
        return html`<span key=${life.n} class=${life.ended_unix_s ? "life over" : "life"} title=${lifeSays(life, to)}
          style=${{ left: percent(left), width: percent(width) }}></span>`;
      })}
      ${ends.map(
        (life) => html`<span key=${`d${life.n}`} class=${life.is_death || life.incident ? "death" : "death asked"} title=${lifeSays(life, to)}
          style=${{ left: percent(place(life.ended_unix_s)) }}></span>`,
      )}
    </div>
    <ol class="lives-list">${told(newest.slice(0, 3))}</ol>
    ${newest.length > 3 &&
    html`<details class="lives-list"><summary>${newest.length === lives.length ? "" : "the last "}${newest.length - 3} lives before</summary><ol>${told(newest.slice(3))}</ol></details>`}
  </div>`;
}

function Told({ life, now }) {
  return html`<li>
    <span class="num">#${life.n}</span> ${lifeSays(life, now)} ${life.incident && html` · <a href=${incidentPath(life.incident)}>${life.incident}</a>`}
  </li>`;
}

function lifeSays(life, now) {
  const began = life.started_unix_s;
  const lived = began ? span((life.ended_unix_s ?? now) - began) : "";
  if (!life.ended_unix_s) return `alive for ${lived || "an unknown time"}, since ${clock(began, now)}${life.pid ? ` (pid ${life.pid})` : ""}`;
  return `${life.status_words || "ended"}${lived ? ` after ${lived}` : ""}, ${clock(life.ended_unix_s, now)}`;
}
