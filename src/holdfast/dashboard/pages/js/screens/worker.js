// One worker: how it is, its life as a strip of lives and deaths, charts, log, components, incidents, plan; and the orders.
import { Ago, Facts, Failed, Found, Panel, Segments, State, TabPanel, Tabs, Text, Verdict } from "../ui.js";
import { Chart } from "../charts.js";
import { LEVEL, useKeys } from "../keys.js";
import { Lives } from "../spark.js";
import { Log } from "../log.js";
import { ORDERS, canOrder, isUnderWay, mayOrder, order } from "../orders.js";
import { back, incidentPath, setQuery, workerPath } from "../route.js";
import { bytes, number, share, span, words } from "../format.js";
import { html, memo, pressed, useEffect } from "../dom.js";
import { nowUnixS } from "../store.js";
import { useGet, withQuery } from "../api.js";

export const title = ({ name }) => name;

//: The watchdog keeps the last 600 samples of each worker: ten minutes, more on a large node.
const SPANS = [[120, "2 min"], [600, "10 min"], [3600, "1 h"]];
const TABS = [["charts", "Charts"], ["log", "Log"], ["incidents", "Incidents"], ["plan", "Plan"]];
const SPAN_VALUES = SPANS.map(([seconds]) => seconds);

export function Screen({ state, params: { name }, query, me }) {
  const worker = state.workers[name];
  const found = useGet(`/api/workers/${encodeURIComponent(name)}`, { everyMs: 10_000 });
  const detail = found.data;
  // A life that began or ended, or a flag, is news: the page of it is asked for at once.
  const news = worker ? `${worker.n} ${worker.state} ${(worker.flags ?? []).length}` : "";
  useEffect(() => {
    if (detail) found.reload();
  }, [news]);
  const tab = TABS.some(([id]) => id === query.get("tab")) ? query.get("tab") : "charts";
  const choose = (id) => setQuery({ tab: id === "charts" ? null : id });
  const forS = SPAN_VALUES.includes(Number(query.get("for"))) ? Number(query.get("for")) : 600;
  const zoom = (step) => setQuery({ for: SPAN_VALUES[Math.max(0, Math.min(SPAN_VALUES.length - 1, SPAN_VALUES.indexOf(forS) + step))] });
  const may = mayOrder(me, worker, detail?.may);
  const does = (what) => (may.includes(what) ? () => order(what, name) : null);
  useKeys(
    name,
    [
      ["l", "log", () => choose("log")],
      ["c", "charts", () => choose("charts")],
      ["i", "its incidents", () => choose("incidents")],
      ["+", "more time in the charts", () => zoom(1)],
      ["-", "less time in the charts", () => zoom(-1)],
      ["r", "restart it", does("restart")],
      ["S", "stop it, or start it", does("stop") ?? does("start")],
      ["p", "profile: 5 s, a flame graph", does("profile")],
      ["x", "stacks: where each thread is now", does("stacks")],
      ["Escape q", "back", () => back("/workers"), { isEither: true }],
    ],
    LEVEL.screen,
  );
  const whole = name.split("+")[0];
  if (!worker && found.error && whole !== name && state.workers[whole]) {
    return html`<div class="screen"><p class="crumbs"><a href="/workers">Workers</a></p><h1>${name}</h1>
      <p class="empty">It was a part of <a href=${workerPath(whole)}>${whole}</a>, and is one with it again. <a href=${withQuery("/incidents", { worker: name })}>Its incidents</a> are kept.</p></div>`;
  }
  if (!worker && found.error) {
    return html`<div class="screen"><h1>${name}</h1><${Failed} error=${found.error} again=${found.reload} /><p><a href="/workers">All workers</a></p></div>`;
  }
  return html`<div class="screen worker">
    <p class="crumbs"><a href="/workers">Workers</a> <span aria-hidden="true">›</span></p>
    <div class="screen-head">
      <h1>${name}</h1>
      ${worker ? html`<${State} worker=${worker} />` : html`<span class="state quiet">not in the configuration any more</span>`}
      <${Buttons} may=${may} name=${name} />
    </div>
    ${worker && html`<${Trouble} worker=${worker} explain=${detail?.explain} />`}
    ${worker && html`<${Facts} rows=${factsOf(worker, detail)} />`}
    ${detail && html`<${Life} lives=${detail.lives} isUp=${state.node.is_up !== false} tick=${Math.floor(nowUnixS() / 10)} />`}
    <${Tabs} base="worker" label=${`About ${name}`} tabs=${TABS} chosen=${tab} onChoose=${choose} />
    <${TabPanel} base="worker" id=${tab}>
      ${tab === "charts" && html`<${Charts} name=${name} forS=${forS} limit=${memoryLimitOf(detail)} />`}
      ${tab === "log" && html`<${Log} name=${name} />`}
      ${tab === "incidents" && html`<${Incidents} found=${found} name=${name} />`}
      ${tab === "plan" && html`<${Found} of=${found} what="the plan">${(data) => html`<${Plan} detail=${data} worker=${worker} me=${me} name=${name} />`}<//>`}
    <//>
  </div>`;
}

function Buttons({ may, name }) {
  const under = Object.keys(ORDERS).filter((what) => !may.includes(what) && isUnderWay(what, name));
  const shown = [...may, ...under]; // what was ordered may make no sense any more, and is still under way
  if (!shown.length) return null;
  return html`<div class="buttons" role="group" aria-label="Orders">
    ${shown.map((what) => html`<${OrderButton} key=${what} what=${what} name=${name} />`)}
  </div>`;
}

function OrderButton({ what, name, component = null }) {
  const { says, meanwhile, key } = ORDERS[what];
  const isBusy = isUnderWay(what, name, component);
  return html`<button type="button" class=${component ? "button small" : "button"} title=${key && !component ? `key ${key}` : undefined}
    ...${pressed(isBusy, () => order(what, name, component ? { component } : {}))}>${isBusy ? meanwhile : says}${component && html`<span class="unseen"> ${component}</span>`}</button>`;
}

function Trouble({ worker, explain }) {
  const flags = worker.flags ?? [];
  if (!flags.length && !worker.why && worker.state !== "backoff" && worker.state !== "failed") return null;
  return html`<div class=${`note ${worker.state === "failed" || worker.state === "backoff" ? "bad" : "care"}`} role="status">
    ${flags.map(
      (flag) => html`<p key=${flag.flag}><strong>${words(flag.flag)}</strong>: ${flag.says} <span class="dim">for ${span(nowUnixS() - flag.since_unix_s)}</span> ${flag.incident && html`<a href=${incidentPath(flag.incident)}>the incident</a>`}</p>`,
    )}
    ${worker.why && html`<p>${worker.why}</p>`}
    ${worker.delay_s > 0 && html`<p>Its next start is ${span(worker.delay_s)} after its death.</p>`}
    ${!flags.length && !worker.why && explain && html`<p>${explain}</p>`}
  </div>`;
}

function factsOf(worker, detail) {
  const isThere = worker.pid !== null && worker.pid !== undefined;
  return [
    ["Up", isThere && worker.started_at_unix_s ? span(nowUnixS() - worker.started_at_unix_s) : "–"],
    ["CPU", share(worker.cpu_share)],
    ["Memory", bytes(worker.rss_bytes)],
    ["Restarts", number(worker.restarts)],
    ["Lag", worker.lag_ms === null || worker.lag_ms === undefined ? null : `${number(worker.lag_ms)} ms`],
    ["Tasks", worker.tasks === null || worker.tasks === undefined ? null : number(worker.tasks)],
    ["Throughput", worker.work_rate === null || worker.work_rate === undefined ? null : `${number(worker.work_rate)}/s`],
    ["In flight", worker.in_flight === null || worker.in_flight === undefined ? null : number(worker.in_flight)],
    ["Pid", isThere ? worker.pid : "–"],
    ["Life", worker.n ? `#${worker.n}` : null],
    ["Kind", worker.kind],
    ["Group", worker.group],
  ];
}

// The strip moves slowly: every ten seconds will do.
const Life = memo(
  function Life({ lives, isUp }) {
    const now = nowUnixS();
    const first = lives.reduce((least, life) => Math.min(least, life.started_unix_s ?? now), now - 60);
    const from = Math.max(first, now - 24 * 3600);
    return html`<${Panel} title="Its life" aside=${html`<span class="dim">the last ${span(now - from)}</span>`}>
      ${lives.length ? html`<${Lives} lives=${lives} from=${from} to=${now} />` : html`<p class="empty">${isUp ? "It was never started. Each of its lives would be a bar here, each death a mark that leads to its incident." : "The node does not run: its journal, which tells of lives and deaths, ends with it."}</p>`}
    <//>`;
  },
  (a, b) => a.tick === b.tick && a.lives === b.lives && a.isUp === b.isUp,
);

//: Column of the chart, heading, unit; shown where anything is known.
const COLUMNS = [
  ["cpu", "CPU", "share"],
  ["rss_bytes", "Memory", "bytes"],
  ["lag_ms", "Lag of its loop", "ms"],
  ["tasks", "Tasks", "number"],
  ["work_rate", "Throughput per second", "number"],
  ["latency_ms", "Latency", "ms"],
  ["threads", "Threads", "number"],
  ["fds", "Open files", "number"],
];

function Charts({ name, forS, limit }) {
  const path = withQuery(`/api/workers/${encodeURIComponent(name)}/chart`, { for: forS });
  const found = useGet(path, { everyMs: forS < 600 ? 2000 : 5000 });
  return html`<div class="charts-tools">
      <${Segments} label="Time shown" options=${SPANS} chosen=${forS} onChoose=${(value) => setQuery({ for: value })} />
      <span class="dim">dashed: a start · red: an incident</span>
    </div>
    <${Found} of=${found} what="the figures">${(chart) => html`<${ChartGrid} chart=${chart} limit=${limit} />`}<//>`;
}

const ChartGrid = memo(function ChartGrid({ chart, limit }) {
  const known = COLUMNS.filter(([key]) => chart[key]?.some((value) => value !== null));
  if (!known.length) return html`<p class="empty">Nothing was measured in this time. CPU, memory, lag, tasks and throughput would be drawn here.</p>`;
  return html`<div class="charts">
      ${known.map(([key, says, unit]) => html`<${Chart} key=${key} title=${says} unit=${unit} at=${chart.at_unix_s} values=${chart[key]} starts=${chart.starts} marks=${chart.marks} limit=${key === "rss_bytes" ? limit : null} />`)}
    </div>
    ${chart.marks?.length > 0 &&
    html`<ul class="marks">${[...chart.marks].sort((a, b) => b.at_unix_s - a.at_unix_s).slice(0, 8).map((mark) => html`<li key=${`${mark.at_unix_s} ${mark.incident}`}><span class="dim"><${Ago} at=${mark.at_unix_s} /></span> ${mark.incident ? html`<a href=${incidentPath(mark.incident)}>${mark.says}</a>` : mark.says}</li>`)}</ul>`}`;
});

function memoryLimitOf(detail) {
  return detail?.plan.limits?.memory_bytes ?? null;
}

function Incidents({ found, name }) {
  return html`<${Found} of=${found} what="its incidents">
    ${(detail) =>
      detail.incidents?.length
        ? html`<ul class="done">
              ${detail.incidents.map((one) => html`<li key=${one.id}><a href=${incidentPath(one.id)}>${one.title}</a><span class="done-verdict"><${Verdict} is=${one.verdict} /></span><span class="done-at dim"><${Ago} at=${one.opened_unix_s} /></span></li>`)}
            </ul>
            <p><a href=${withQuery("/incidents", { worker: name })}>All incidents of ${name}</a></p>`
        : html`<p class="empty">It has had no incident. What broke, why, and what was done would be listed here.</p>`}
  <//>`;
}

function Plan({ detail, worker, me, name }) {
  const { plan, components } = detail;
  return html`${components.length > 0 &&
    html`<${Panel} title="Components" level=${3}>
      <ul class="components">
        ${components.map(
          (one) => html`<li key=${one.name}><span class="mono">${one.name}</span> <span class="dim">${one.use ? `${one.use} · ` : ""}${words(one.state)}</span>
            ${canOrder(me) && worker?.pid && html`<${OrderButton} what="restart" name=${name} component=${one.name} />`}
            ${canOrder(me) && detail.may.includes("isolate") && html`<${OrderButton} what="isolate" name=${name} component=${one.name} />`}</li>`,
        )}
      </ul>
    <//>`}
    ${detail.explain && html`<${Panel} title="In words" level=${3}><${Text} text=${detail.explain} label=${`${name} explained`} /><//>`}
    <${Panel} title="As it was written" level=${3}><${Facts} rows=${planRows(plan)} /><//>`;
}

function planRows(plan) {
  return Object.entries(plan)
    .map(([key, value]) => [key, plain(value)])
    .filter(([, text]) => text)
    .map(([key, text]) => [words(key), html`<span class="mono">${text}</span>`]);
}

function plain(value) {
  if (value === null || value === undefined) return "";
  if (Array.isArray(value)) return value.map((one) => (typeof one === "object" ? JSON.stringify(one) : String(one))).join(" ");
  if (typeof value === "object") {
    const pairs = Object.entries(value).filter(([, one]) => one !== null && one !== "");
    return pairs.length ? pairs.map(([key, one]) => `${key} = ${typeof one === "object" ? JSON.stringify(one) : one}`).join("\n") : "";
  }
  return String(value);
}

