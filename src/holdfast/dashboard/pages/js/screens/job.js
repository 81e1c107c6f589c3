// What is with this job? Its arguments, its lives, its error, and the incident of the death that it caused.
//
// Leaves out changing the arguments: that is `holdfast jobs edit`.
import { post, useGet } from "../api.js";
import { confirm, toast, toastFailure } from "../dialogs.js";
import { html } from "../dom.js";
import { LEVEL, useKeys } from "../keys.js";
import { canOrder } from "../orders.js";
import { back, incidentPath, workerPath } from "../route.js";
import { Copy, Facts, Found, Moment, Panel, Text } from "../ui.js";
import { words } from "../format.js";

export const title = ({ jid }) => `Job ${jid}`;

const EVERY_MS = 2000;

export function Screen({ params, me }) {
  const found = useGet(`/api/jobs/job/${encodeURIComponent(params.jid)}`, { everyMs: EVERY_MS });
  useKeys("Job", [["u Escape q", "back to the jobs", () => back("/jobs"), { isEither: true }]], LEVEL.screen);
  return html`<div class="screen job">
    <p class="crumbs"><a href="/jobs">Jobs</a> / <span class="mono">${params.jid}</span></p>
    <${Found} of=${found} what="the job">${(job) => html`<${Whole} job=${job} me=${me} again=${found.reload} />`}<//>
  </div>`;
}

const WHERE = { dead: "dead", retry: "to be tried again", schedule: "scheduled", busy: "running", done: "done" };

function Whole({ job, me, again }) {
  const notes = job.notes ?? {};
  const rows = [
    ["State", WHERE[job.where] ?? (job.where?.startsWith("queue:") ? "waiting" : words(job.where))],
    ["Queue", job.queue],
    ["Id", html`<span class="mono">${job.jid}</span>`],
    ["Put in", job.created_at_unix_s && html`<${Moment} at=${job.created_at_unix_s} />`],
    ["Runs next", job.due_at_unix_s && html`<${Moment} at=${job.due_at_unix_s} />`],
    ["Running since", job.running_since_unix_s && html`<${Moment} at=${job.running_since_unix_s} />`],
    ["Died", job.died_at_unix_s && html`<${Moment} at=${job.died_at_unix_s} />`],
    ["Failures", job.failures],
    ["Deaths under it", job.strikes],
    ["Progress", notes.progress && JSON.stringify(notes.progress)],
    ["Worker", notes.worker && html`<a href=${workerPath(notes.worker)}>${notes.worker}</a>`],
    ["Incident", notes.incident && html`<a href=${incidentPath(notes.incident)}>${notes.incident}</a>`],
  ];
  const args = [...(job.args ?? []).map((value) => JSON.stringify(value)), ...Object.entries(job.kwargs ?? {}).map(([key, value]) => `${key}=${JSON.stringify(value)}`)];
  return html`<div class="screen-head"><h1>${job.class ?? "A job that is over"}</h1><${Copy} text=${job.jid} says="Copy its id" /></div>
    ${job.where === "dead" && job.strikes > 1 && html`<p class="note bad" role="status"><strong>Poison:</strong> its process died under it ${job.strikes} times, so it is not run again by itself.
      ${notes.incident && html` <a href=${incidentPath(notes.incident)}>Why? The incident has the evidence</a>`}</p>`}
    <${Panel} title="The job"><${Facts} rows=${rows} /><//>
    ${canOrder(me) && job.may?.length > 0 && html`<${Buttons} job=${job} again=${again} />`}
    ${args.length > 0 && html`<${Panel} title="Arguments"><${Text} text=${args.join("\n")} label="Arguments" /><//>`}
    ${job.trouble && html`<${Panel} title="Error"><${Text} text=${[job.trouble, ...(job.backtrace ?? [])].join("\n")} label="Error" /><//>`}
    ${notes.result !== null && notes.result !== undefined && html`<${Panel} title="Result"><${Text} text=${typeof notes.result === "string" ? notes.result : JSON.stringify(notes.result, null, 2)} label="Result" /><//>`}`;
}

function Buttons({ job, again }) {
  const send = async (verb, question) => {
    if (question && !(await confirm(question))) return;
    try {
      const { says } = await post("/api/jobs", { do: verb, ids: [job.jid] });
      toast(says, { kind: "good" });
      again();
    } catch (failure) {
      toastFailure(failure);
    }
  };
  const tidy = { title: `Delete ${job.class}?`, says: "It is gone for good.", button: "Delete", isGrave: true };
  const anew = job.strikes > 1 ? { title: "Run it again?", says: "Its process died under it before; it runs alone, so that no neighbour dies with it.", button: "Run again" } : null;
  return html`<div class="buttons job-buttons">
    ${job.may.includes("retry") && html`<button type="button" class="button" onClick=${() => send("retry", anew)}>Run again now</button>`}
    ${job.may.includes("delete") && html`<button type="button" class="button bad" onClick=${() => send("delete", tidy)}>Delete</button>`}
  </div>`;
}
