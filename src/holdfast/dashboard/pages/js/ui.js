// Small pieces that all screens share. State is never told by colour alone: each has a glyph and a word.
//
//   <State worker=${w}/>            ● running      <Verdict is="cured"/>   ✓ cured
//   <Ago at=${unixS}/>              3 min ago (title: the moment)          <Moment at=${unixS}/>   14:03:07
//   <Panel title="Disk" aside=${…}>…</Panel>       a section with a heading
//   <Empty>says what would be here</Empty>         <Failed error=${failure} again=${reload}/>      <Loading what="the log"/>
//   <Facts rows=${[["pid", 123], …]}/>             label and value, in columns
//   <Tabs label="…" tabs=${[["log", "Log"], …]} chosen=${id} onChoose=${fn} base="w"/> + <TabPanel base="w" id=${id}>
//   <Copy text=${…}/>   <Meter share=${0.8} level="care"/>   <Segments label options chosen onChoose/>
//   <Text text=${…} label="…"/>             preformatted, in a region that can be scrolled by keyboard
import { ago, clock, moment, share as percent } from "./format.js";
import { h, html, memo, useId, useRef, useState } from "./dom.js";
import { nowUnixS } from "./store.js";
import { toast } from "./dialogs.js";

// Words and glyphs of a worker's state; `level` is a class: good, care, bad, quiet.
const STATES = {
  running: ["●", "running", "good"],
  starting: ["◐", "starting", "care"],
  stopping: ["◑", "stopping", "care"],
  backoff: ["↻", "waits to restart", "bad"],
  failed: ["✕", "failed", "bad"],
  waiting: ["◌", "waiting", "quiet"],
  down: ["○", "down", "quiet"],
  done: ["✓", "done", "quiet"],
  idle: ["○", "idle", "quiet"],
};

/** Return { word, glyph, level } of a worker: its state, and that it is running and not ready or flagged. */
export function stateOf(worker) {
  // A quarantine lane without suspects is down, and that is how it should be.
  const name = worker.jobs === "quarantine" && (worker.state === "down" || worker.state === "done") ? "idle" : worker.state;
  const [glyph, word, level] = STATES[name] ?? ["?", name ?? "unknown", "care"];
  if (worker.flags?.length && level !== "bad") return { glyph: "!", word, level: "care", state: name };
  if (name === "running" && !worker.ready) return { glyph: "◐", word: "running, not ready", level: "care", state: name };
  return { glyph, word, level, state: name };
}

export const StateWords = memo(({ glyph, word, level }) =>
  h("span", { class: `state ${level}` }, h("span", { class: "glyph", "aria-hidden": "true" }, glyph), word),
);

export const State = ({ worker }) => h(StateWords, stateOf(worker));

const VERDICTS = {
  cured: ["✓", "cured", "good"],
  open: ["◌", "being watched", "care"],
  came_back: ["↻", "came back", "bad"],
  did_not_help: ["✕", "did not help", "bad"],
  closed: ["–", "closed: a person took over", "quiet"],
  gave_up: ["✕", "gave up: this needs you", "bad"],
};

export const verdictOf = (name) => VERDICTS[name] ?? ["–", name ? String(name).replaceAll("_", " ") : "no remedy", "quiet"];

export function Verdict({ is }) {
  const [glyph, word, level] = verdictOf(is);
  return html`<span class=${`state ${level}`}><span class="glyph" aria-hidden="true">${glyph}</span>${word}</span>`;
}

export function Ago({ at }) {
  return html`<time title=${moment(at)} datetime=${isoOf(at)}>${ago(at, nowUnixS())}</time>`;
}

export function Moment({ at }) {
  return html`<time title=${moment(at)} datetime=${isoOf(at)}>${clock(at, nowUnixS())}</time>`;
}

const isoOf = (unixS) => (Number.isFinite(unixS) ? new Date(unixS * 1000).toISOString() : undefined);

export function Panel({ title, aside, children, level = 2, class: more = "" }) {
  const id = useId();
  return html`<section class=${`panel ${more}`} aria-labelledby=${id}>
    <div class="panel-head">
      ${level === 2 ? html`<h2 id=${id}>${title}</h2>` : html`<h3 id=${id}>${title}</h3>`}
      ${aside && html`<div class="aside">${aside}</div>`}
    </div>
    ${children}
  </section>`;
}

export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;
export const Loading = ({ what }) => html`<p class="empty" role="status">Reading ${what} …</p>`;

export function Failed({ error, again }) {
  return html`<div class="failed" role="alert">
    <p><span aria-hidden="true">✕ </span>${error.message}</p>
    ${error.hint && html`<p class="dim">${error.hint}</p>`}
    ${again && html`<button type="button" class="button" onClick=${again}>Try again</button>`}
  </div>`;
}

/** Show what useGet() found: what is loading, failed, or there (then `children(data)`). */
export function Found({ of, what, children }) {
  if (of.data !== null) return children(of.data);
  return of.error ? html`<${Failed} error=${of.error} again=${of.reload} />` : html`<${Loading} what=${what} />`;
}

export function Facts({ rows }) {
  return html`<dl class="facts">
    ${rows
      .filter(([, value]) => value !== null && value !== undefined && value !== false && value !== "")
      .map(([label, value]) => html`<div key=${label}><dt>${label}</dt><dd>${value}</dd></div>`)}
  </dl>`;
}

export function Tabs({ label, tabs, chosen, onChoose, base }) {
  const row = useRef(null);
  const move = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const at = tabs.findIndex(([id]) => id === chosen);
    const next = tabs[(at + step + tabs.length) % tabs.length][0];
    onChoose(next);
    row.current.querySelector(`[data-tab="${next}"]`)?.focus();
  };
  return html`<div class="tabs" role="tablist" aria-label=${label} ref=${row} onKeyDown=${move}>
    ${tabs.map(
      ([id, says]) => html`<button key=${id} type="button" role="tab" data-tab=${id} id=${`${base}-tab-${id}`}
        aria-selected=${id === chosen} aria-controls=${id === chosen ? `${base}-panel` : undefined}
        tabindex=${id === chosen ? 0 : -1} onClick=${() => onChoose(id)}>${says}</button>`,
    )}
  </div>`;
}

export function TabPanel({ base, id, children }) {
  return html`<div role="tabpanel" id=${`${base}-panel`} aria-labelledby=${`${base}-tab-${id}`}>${children}</div>`;
}

/** A choice of a few, as buttons that stay pressed. options: [[value, says], …] */
export function Segments({ label, options, chosen, onChoose }) {
  return html`<div class="segments" role="group" aria-label=${label}>
    ${options.map(
      ([value, says]) => html`<button key=${value} type="button" aria-pressed=${value === chosen} onClick=${() => onChoose(value)}>${says}</button>`,
    )}
  </div>`;
}

export function Copy({ text, says = "Copy", isSmall = false }) {
  const [isDone, setDone] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setDone(true);
      setTimeout(() => setDone(false), 2000);
    } catch {
      toast("The browser does not allow copying here (it wants HTTPS or localhost)", { kind: "bad" });
    }
  };
  return html`<button type="button" class=${isSmall ? "button small" : "button"} onClick=${copy}>${isDone ? "Copied" : says}</button>`;
}

/** A bar; `level` as in STATES. The words stand beside it, so the bar itself is silent. */
export function Meter({ share, level = "" }) {
  const width = `${Math.max(0, Math.min(1, share ?? 0)) * 100}%`;
  return html`<div class=${`meter ${level}`} aria-hidden="true" title=${percent(share)}><div style=${{ width }}></div></div>`;
}

export function Text({ text, label, class: more = "" }) {
  return html`<pre class=${`text ${more}`} tabindex="0" role="region" aria-label=${label}>${text}</pre>`;
}
