// Now: is anything wrong, what is broken for users, what did Holdfast do about it, and did it help? The sentence comes from the
// server (dashboard/now.py). When all is well there is one green sentence and a quiet strip of workers, and nothing else.
import { Ago, Moment, Panel, State, Verdict, stateOf } from "../ui.js";
import { AlertButtons, alertSays } from "../alerting.js";
import { count, grouped as digits, spanWords } from "../format.js";
import { html, memo, useMemo, useState } from "../dom.js";
import { incidentPath, workerPath } from "../route.js";
import { nowUnixS } from "../store.js";

export const title = () => "Now";

const GLYPHS = { well: "✓", care: "!", trouble: "✕", lost: "✕" };
const LEVELS = { well: "good", care: "care", trouble: "bad", lost: "bad" };
//: So many workers have their names in the strip; more of them are squares.
const MOST_NAMES = 60;

export function Screen({ state, me }) {
  const { now } = state;
  const level = LEVELS[now.level] ?? "care";
  return html`<div class="now">
    <h1 class="unseen">Now</h1>
    <div class=${`verdict ${level}`} role="status" aria-live="polite">
      <span class="verdict-glyph" aria-hidden="true">${GLYPHS[now.level] ?? "?"}</span>
      <p class="verdict-says">${now.broken?.length === 1 ? named(now.broken[0].worker, now.says) : now.says}</p>
    </div>
    ${now.broken?.length > 0 && html`<${Things} title="Broken now" rows=${now.broken} state=${state} me=${me} level="bad" isSaid=${now.broken.length === 1} />`}
    ${now.doubtful?.length > 0 && html`<${Things} title="Being looked at" rows=${now.doubtful} state=${state} me=${me} level="care" />`}
    <${Alerts} alerts=${state.alerts} me=${me} shown=${[...(now.broken ?? []), ...(now.doubtful ?? [])]} />
    <${Done} rows=${now.done} />
    <${Strip} workers=${state.workers} />
  </div>`;
}

/** A flag's sentence may leave out whose it is; a person who is woken must not have to look for that. */
const named = (worker, says) => (!worker || says.includes(worker) || worker.startsWith("@") ? says : `${worker}: ${says}`);

const bare = (worker, says) => upper(says.replace(`worker "${worker}" `, "").replace(`worker "${worker}": `, ""));
const upper = (says) => (says ? says[0].toUpperCase() + says.slice(1) : says);

/** `isSaid`: the sentence above has said it; here stands what was seen. */
function Things({ title: says, rows, state, me, level, isSaid = false }) {
  return html`<${Panel} title=${says}>
    <ul class="things">
      ${rows.map((row) => {
        const worker = state.workers[row.worker];
        const alert = state.alerts?.find((one) => one.cause === row.worker);
        // What the flag says is often how its incident is called.
        const because = row.because && !row.because.includes(row.says.split(";")[0]) ? bare(row.worker, row.because) : "";
        return html`<li key=${`${row.worker} ${row.says}`} class=${`thing ${level}`}>
          ${!(isSaid && because) && html`<p class="thing-says">${named(row.worker, row.says)}</p>`}
          ${because && html`<p class=${isSaid ? "thing-says" : "thing-because"}>${because}</p>`}
          <p class="thing-more">
            ${worker ? html`<a href=${workerPath(row.worker)}>${row.worker}</a> <${State} worker=${worker} />` : row.worker.startsWith("@") ? html`<a href="/machine">the machine</a>` : row.worker}
            ${row.since_unix_s && html`<span class="dim">since <${Moment} at=${row.since_unix_s} />, for ${spanWords(nowUnixS() - row.since_unix_s)}</span>`}
            ${row.incident && html`<a class="button small" href=${incidentPath(row.incident)}>Why? The incident</a>`}
          </p>
          ${alert && html`<${Answer} alert=${alert} me=${me} />`}
        </li>`;
      })}
    </ul>
  <//>`;
}

/** That somebody was told, and what a person can say to that. */
function Answer({ alert, me }) {
  return html`<p class="thing-more">
    <span class="dim"><span aria-hidden="true">✉ </span>${alert.severity} alert, ${alertSays(alert)}${alert.members?.length > 1 ? `, ${alert.members.length} affected` : ""}</span>
    <span class="buttons"><${AlertButtons} alert=${alert} me=${me} isSmall /></span>
  </p>`;
}

const SEVERITIES = ["critical", "error", "warning", "info"];
const LEVEL_OF = { critical: "bad", error: "bad" };

/** Those of which nothing stands above. */
function Alerts({ alerts, me, shown }) {
  const rest = (alerts ?? []).filter((alert) => !shown.some((row) => row.worker === alert.cause));
  if (!rest.length) return null;
  rest.sort((a, b) => SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity) || a.since_unix_s - b.since_unix_s);
  return html`<${Panel} title=${shown.length ? "More alerts" : "Alerts"}>
    <ul class="things">
      ${rest.map(
        (alert) => html`<li key=${alert.id} class=${`thing ${LEVEL_OF[alert.severity] ?? "care"}`}>
          <p class="thing-says">${alert.cause}${signsOf(alert)}</p>
          <p class="thing-more">
            <span class="dim">since <${Moment} at=${alert.since_unix_s} />, for ${spanWords(nowUnixS() - alert.since_unix_s)}</span>
            ${alert.incidents?.slice(-1).map((id) => html`<a key=${id} class="button small" href=${incidentPath(id)}>Why? The incident</a>`)}
          </p>
          <${Answer} alert=${alert} me=${me} />
        </li>`,
      )}
    </ul>
  <//>`;
}

function signsOf({ signs }) {
  if (!signs?.length) return ": its signs are away for now";
  return `: ${signs[0].says}${signs.length > 1 ? `, and ${count(signs.length - 1, "more sign")}` : ""}`;
}

/** The same thing again and again is one line: the newest, and how often. */
function grouped(rows) {
  const found = new Map();
  for (const row of rows) {
    const key = `${row.worker} ${row.says}`;
    const known = found.get(key);
    if (known) known.times += 1;
    else found.set(key, { ...row, times: 1 });
  }
  return [...found.values()];
}

function Done({ rows }) {
  if (!rows?.length) return null;
  return html`<${Panel} title="What Holdfast did" aside=${html`<a href="/incidents">all incidents</a>`}>
    <ul class="done">
      ${grouped(rows).map(
        (row) => html`<li key=${row.incident}>
          <span><a href=${incidentPath(row.incident)}>${row.says}</a>${row.times > 1 && html` <strong title="as often among the newest">${row.times} times</strong>`}</span>
          <span class="done-verdict" title=${row.helped}><${Verdict} is=${row.verdict} /></span><span class="done-at dim"><${Ago} at=${row.at_unix_s} /></span>
        </li>`,
      )}
    </ul>
  <//>`;
}

/** All workers at a glance; quiet, because the sentence has said what matters. */
const Strip = memo(function Strip({ workers }) {
  const rows = useMemo(() => Object.entries(workers).map(([name, worker]) => ({ name, ...stateOf(worker) })), [workers]);
  if (!rows.length) {
    return html`<${Panel} title="Workers"><p class="empty">No worker is in the configuration. Each one would be a square here.</p><//>`;
  }
  const counts = new Map();
  for (const row of rows) counts.set(row.word, (counts.get(row.word) ?? 0) + 1);
  const summary = [...counts].map(([word, amount]) => `${digits(amount)} ${word}`).join(" · ");
  return html`<${Panel} title=${count(rows.length, "worker")} aside=${html`<a href="/workers">table</a>`} class="quiet">
    ${rows.length <= MOST_NAMES
      ? html`<ul class="chips">
          ${rows.map((row) => html`<li key=${row.name}><a class=${`chip ${row.level}`} href=${workerPath(row.name)} title=${row.word}><span class="glyph" aria-hidden="true">${row.glyph}</span>${row.name}<span class="unseen">, ${row.word}</span></a></li>`)}
        </ul>`
      : html`<${Squares} rows=${rows} summary=${summary} />`}
    ${rows.length <= MOST_NAMES && html`<p class="dim strip-says">${summary}</p>`}
  <//>`;
});

/** A thousand workers as squares; pointing at one names it. Whoever does not see them has the counts and the table. */
function Squares({ rows, summary }) {
  const [named, setNamed] = useState("");
  const point = (event) => setNamed(event.target.dataset?.name ?? "");
  return html`<div class="squares" aria-hidden="true" onMouseOver=${point} onMouseLeave=${() => setNamed("")}>
      ${rows.map((row) => html`<${Square} key=${row.name} name=${row.name} level=${row.level} word=${row.word} />`)}
    </div>
    <p class="dim strip-says">${named || summary}</p>`;
}

const Square = memo(({ name, level, word }) => html`<a class=${`square ${level}`} href=${workerPath(name)} tabindex="-1" data-name=${`${name}: ${word}`}></a>`);
