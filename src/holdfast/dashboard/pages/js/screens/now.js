// Now: is anything wrong, what is broken for users, what did Holdfast do about it, and did it help? The sentence comes from the
// server (dashboard/now.py). When all is well there is one green sentence and a quiet strip of workers, and nothing else.
import { Ago, Panel, State, Verdict, stateOf } from "../ui.js";
import { canOrder } from "../orders.js";
import { clock, count, grouped as digits, spanWords, words } from "../format.js";
import { html, memo, useMemo, useState } from "../dom.js";
import { incidentPath, workerPath } from "../route.js";
import { nowUnixS } from "../store.js";
import { post } from "../api.js";
import { toast, toastFailure } from "../dialogs.js";

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
    ${now.broken?.length > 0 && html`<${Things} title="Broken now" rows=${now.broken} state=${state} level="bad" />`}
    ${now.doubtful?.length > 0 && html`<${Things} title="Being looked at" rows=${now.doubtful} state=${state} level="care" />`}
    <${Alerts} alerts=${state.alerts} me=${me} />
    <${Done} rows=${now.done} />
    <${Strip} workers=${state.workers} />
  </div>`;
}

/** A flag's sentence may leave out whose it is; a person who is woken must not have to look for that. */
const named = (worker, says) => (!worker || says.includes(worker) || worker.startsWith("@") ? says : `${worker}: ${says}`);

function Things({ title: says, rows, state, level }) {
  return html`<${Panel} title=${says}>
    <ul class="things">
      ${rows.map((row) => {
        const worker = state.workers[row.worker];
        return html`<li key=${`${row.worker} ${row.says}`} class=${`thing ${level}`}>
          <p class="thing-says">${named(row.worker, row.says)}</p>
          <p class="thing-more">
            ${worker ? html`<a href=${workerPath(row.worker)}>${row.worker}</a> <${State} worker=${worker} />` : html`<a href="/machine">the machine</a>`}
            ${row.since_unix_s && html`<span class="dim">for ${spanWords(nowUnixS() - row.since_unix_s)}</span>`}
            ${row.incident && html`<a class="button small" href=${incidentPath(row.incident)}>Why? The incident</a>`}
          </p>
        </li>`;
      })}
    </ul>
  <//>`;
}

function Alerts({ alerts, me }) {
  if (!alerts?.length) return null;
  return html`<${Panel} title="Alerts">
    <ul class="things">${alerts.map((alert) => html`<${Alert} key=${alert.id} alert=${alert} me=${me} />`)}</ul>
  <//>`;
}

function Alert({ alert, me }) {
  const [isBusy, setBusy] = useState(false);
  const act = async (body, says) => {
    setBusy(true);
    try {
      await post(`/api/alerts/${encodeURIComponent(alert.id)}`, body);
      toast(`${alert.cause}: ${says}`, { kind: "good" });
    } catch (failure) {
      toastFailure(failure);
    }
    setBusy(false);
  };
  const isSnoozed = alert.state === "snoozed";
  return html`<li class="thing care">
    <p class="thing-says">${words(alert.severity)}: ${alert.cause}${signsOf(alert)}</p>
    <p class="thing-more">
      <span class="dim">${isSnoozed ? `snoozed until ${clock(alert.snoozed_until_unix_s, nowUnixS())}` : words(alert.state)}, for ${spanWords(nowUnixS() - alert.since_unix_s)}${alert.members?.length > 1 ? `, ${alert.members.length} affected` : ""}</span>
      ${alert.incidents?.slice(-1).map((id) => html`<a key=${id} href=${incidentPath(id)}>${id}</a>`)}
      ${canOrder(me) &&
      html`<span class="buttons">
        ${alert.state !== "acknowledged" && html`<button type="button" class="button small" disabled=${isBusy} onClick=${() => act({ do: "ack" }, "acknowledged")}>Acknowledge</button>`}
        ${!isSnoozed && html`<button type="button" class="button small" disabled=${isBusy} onClick=${() => act({ do: "snooze", for_s: 3600 }, "snoozed for an hour")}>Snooze 1 h</button>`}
      </span>`}
    </p>
  </li>`;
}

function signsOf({ signs }) {
  if (!signs?.length) return "";
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
