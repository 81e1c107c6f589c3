// How are the jobs? Queues first (what waits, for how long), then what runs, what will be tried again, what is dead.
//
// Asked for every two seconds while it is seen. Buttons change something only after a question, and only for operators.
import { post, useGet, withQuery } from "../api.js";
import { confirm, toast, toastFailure } from "../dialogs.js";
import { html, pressed, useEffect, useState } from "../dom.js";
import { LEVEL, useKeys } from "../keys.js";
import { canOrder } from "../orders.js";
import { jobPath, setQuery } from "../route.js";
import { Ago, Empty, Found, Moment, Panel, Tabs, TabPanel } from "../ui.js";
import { bytes, span } from "../format.js";
import { nowUnixS } from "../store.js";

export const title = () => "Jobs";

const EVERY_MS = 2000;
const STATES = [
  ["busy", "Running"],
  ["retry", "To be tried again"],
  ["scheduled", "Scheduled"],
  ["dead", "Dead"],
];
const EMPTY = {
  busy: "No job runs at this moment.",
  retry: "No job waits to be tried again.",
  scheduled: "No job is planned for later.",
  dead: "No job is dead. One that fails too often, or that kills its worker twice, will be here with its evidence.",
};

export function Screen({ me, query }) {
  const found = useGet("/api/jobs", { everyMs: EVERY_MS });
  return html`<div class="screen jobs">
    <div class="screen-head"><h1>Jobs</h1></div>
    <${Found} of=${found} what="the jobs">${(data) =>
      data.stores.length
        ? data.stores.map((store) => html`<${Store} key=${store.name} store=${store} isOnly=${data.stores.length === 1} me=${me} query=${query} again=${found.reload} />`)
        : html`<${Empty}>This node runs no jobs. A worker of kind <code>jobs</code> does; its queues are here then.<//>`}<//>
  </div>`;
}

async function order(body, question, says, again) {
  if (question && !(await confirm(question))) return;
  try {
    const answer = await post("/api/jobs", body);
    toast(answer?.says ?? says, { kind: "good" });
    again();
  } catch (failure) {
    toastFailure(failure);
  }
}

function Store({ store, isOnly, me, query, again }) {
  const chosen = (query ?? new URLSearchParams(location.search)).get("state") || (store.counts?.dead ? "dead" : "busy");
  const base = `jobs-${store.name}`;
  const tabs = STATES.map(([key, says]) => [key, `${says} (${(countIn(store, key) ?? 0).toLocaleString("en")})`]);
  useKeys("Jobs", STATES.map(([key, says], at) => [String(at + 1), says.toLowerCase(), () => setQuery({ state: key })]), LEVEL.screen);
  return html`${!isOnly && html`<h2 class="mono">${store.name}</h2>`}
    ${store.warnings?.map((says) => html`<p key=${says} class="note" role="status">${says}</p>`)}
    <p class="rates">${FIGURES.map(([key, says]) => html`<span key=${key}><strong class="num">${(store.counts[key] ?? 0).toLocaleString("en")}</strong> ${says}</span> `)}</p>
    <${Panel} title="Queues">
      ${store.queues?.length ? html`<${Queues} store=${store} me=${me} again=${again} />` : html`<${Empty}>No job was ever put into a queue here.<//>`}
    <//>
    <${Tabs} label="Jobs by state" tabs=${tabs} chosen=${chosen} onChoose=${(state) => setQuery({ state })} base=${base} />
    <${TabPanel} base=${base} id=${chosen}><${List} state=${chosen} me=${me} /><//>
    ${store.processes?.length > 0 && html`<${Panel} title="Processes"><${Processes} rows=${store.processes} /><//>`}`;
}

const FIGURES = [["waiting", "waiting"], ["busy", "running"], ["retries", "to be tried again"], ["scheduled", "scheduled"], ["dead", "dead"], ["processed", "done"], ["failed", "failures on the way"]];
const COUNTS = { busy: "busy", retry: "retries", scheduled: "scheduled", dead: "dead" };
const countIn = (store, state) => store.counts?.[COUNTS[state]];
/** The moment that matters for a job of a list. */
const atOf = (job, state) => ({ busy: job.running_since_unix_s, dead: job.died_at_unix_s })[state] ?? job.due_at_unix_s;

function Queues({ store, me, again }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Queues">
    <table class="table plain-table">
      <thead><tr><th scope="col">Queue</th><th scope="col">Waiting</th><th scope="col">Running</th><th scope="col">Oldest waits for</th>${canOrder(me) && html`<th scope="col"><span class="unseen">Orders</span></th>`}</tr></thead>
      <tbody>
        ${store.queues.map(
          (queue) => html`<tr key=${queue.name}>
            <th scope="row" class="mono">${queue.name}${queue.paused && html` <span class="state care"><span class="glyph" aria-hidden="true">‖</span>paused</span>`}</th>
            <td class="num">${queue.waiting?.toLocaleString("en") ?? "–"}</td>
            <td class="num">${queue.busy?.toLocaleString("en") ?? "–"}</td>
            <td class="num">${queue.waiting ? span(queue.latency_s) : "–"}</td>
            ${canOrder(me) && html`<td><${Pause} queue=${queue} again=${again} /></td>`}
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

function Pause({ queue, again }) {
  const verb = queue.paused ? "resume" : "pause";
  const question = queue.paused
    ? null
    : { title: `Pause ${queue.name}?`, says: "What runs goes on; nothing more is taken out of the queue until it is resumed.", button: "Pause" };
  return html`<button type="button" class="button small" onClick=${() => order({ do: verb, queue: queue.name }, question, `${queue.name}: ${verb}d`, again)}>
    ${queue.paused ? "Resume" : "Pause"}</button>`;
}

function List({ state, me }) {
  const [picked, setPicked] = useState(new Set());
  const found = useGet(withQuery("/api/jobs/list", { state, limit: 100 }), { everyMs: EVERY_MS });
  useEffect(() => setPicked(new Set()), [state]);
  const mayChange = canOrder(me) && (state === "dead" || state === "retry" || state === "scheduled");
  return html`<${Found} of=${found} what="the jobs">${({ rows: jobs, total }) => {
    if (!jobs.length) return html`<${Empty}>${EMPTY[state]}<//>`;
    const ids = jobs.filter((job) => picked.has(job.jid)).map((job) => job.jid);
    const flip = (jid) => {
      const next = new Set(picked);
      if (!next.delete(jid)) next.add(jid);
      setPicked(next);
    };
    return html`${mayChange && html`<${Bulk} ids=${ids} again=${found.reload} />`}
      <div class="scroll" tabindex="0" role="region" aria-label="Jobs">
        <table class="table plain-table">
          <thead><tr>${mayChange && html`<th scope="col"><span class="unseen">Chosen</span></th>`}<th scope="col">Job</th><th scope="col">Queue</th><th scope="col">${WHEN[state]}</th><th scope="col">${state === "busy" ? "In" : "Error"}</th></tr></thead>
          <tbody>${jobs.map((job) => html`<${JobRow} key=${job.jid} job=${job} state=${state} isPicked=${picked.has(job.jid)} onPick=${mayChange ? flip : null} />`)}</tbody>
        </table>
      </div>
      ${total !== null && total !== undefined && total > jobs.length && html`<p class="dim">${jobs.length} of ${total.toLocaleString("en")}</p>`}`;
  }}<//>`;
}

const WHEN = { busy: "Since", retry: "Again", scheduled: "When", dead: "Died" };

function JobRow({ job, state, isPicked, onPick }) {
  return html`<tr>
    ${onPick && html`<td><input type="checkbox" checked=${isPicked} onChange=${() => onPick(job.jid)} aria-label=${`Choose ${job.class} ${job.about}`} /></td>`}
    <td class="cut"><a href=${jobPath(job.jid)}>${job.class}</a> <span class="dim">${job.about}</span></td>
    <td class="mono">${job.queue}</td>
    <td>${state === "busy" || state === "dead" ? html`<${Ago} at=${atOf(job, state)} />` : html`<${Moment} at=${atOf(job, state)} />`}</td>
    <td class="cut" title=${job.trouble || undefined}>${state === "busy" ? job.owner || "–" : job.trouble || "–"}</td>
  </tr>`;
}

function Bulk({ ids, again }) {
  const many = ids.length === 1 ? "this job" : `${ids.length} jobs`;
  const tidy = { title: `Delete ${many}?`, says: "They are gone for good.", button: "Delete", isGrave: true };
  return html`<div class="buttons">
    <button type="button" class="button small" ...${pressed(!ids.length, () => order({ do: "retry", ids }, null, `${many}: back in the queue`, again))}>Run again now</button>
    <button type="button" class="button small bad" ...${pressed(!ids.length, () => order({ do: "delete", ids }, tidy, `${many}: deleted`, again))}>Delete</button>
    <span class="dim" role="status">${ids.length ? `${many} chosen` : ""}</span>
  </div>`;
}

function Processes({ rows }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Processes that run jobs">
    <table class="table plain-table">
      <thead><tr><th scope="col">Process</th><th scope="col">Pid</th><th scope="col">Runs</th><th scope="col">Memory</th><th scope="col">Queues</th><th scope="col">Up</th></tr></thead>
      <tbody>${rows.map(
        (row) => html`<tr key=${row.owner}><th scope="row" class="mono">${row.worker ?? row.owner}${row.quiet && html` <span class="state care"><span class="glyph" aria-hidden="true">‖</span>takes no more</span>`}</th>
          <td class="num">${row.pid}</td><td class="num">${row.busy}</td><td class="num">${bytes(row.rss_bytes)}</td><td class="mono">${row.queues.join(" ")}</td><td class="num">${span(nowUnixS() - row.started_at_unix_s)}</td></tr>`,
      )}</tbody>
    </table>
  </div>`;
}
