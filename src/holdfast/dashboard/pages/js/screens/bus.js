// Who talks to whom? Routers, their realms, and in each: sessions, topics, procedures, calls, with rates.
//
// Asked for every two seconds while it is seen, so its rates are over two seconds; a bus of thousands is cut to what fits the filter. Leaves out the messages themselves.
import { useGet } from "../api.js";
import { html, useMemo, useRef, useState } from "../dom.js";
import { LEVEL, useKeys } from "../keys.js";
import { setQuery, workerPath } from "../route.js";
import { Empty, Found, Panel, Tabs, TabPanel } from "../ui.js";
import { number } from "../format.js";

export const title = () => "Bus";

const EVERY_MS = 2000;
/** More rows than these nobody reads: the filter is for that. */
const MOST = 200;

export function Screen({ query }) {
  const found = useGet("/api/bus", { everyMs: EVERY_MS });
  const search = useRef(null);
  const q = (query ?? new URLSearchParams(location.search)).get("q") ?? "";
  useKeys("Bus", [["/", "filter", () => search.current?.focus()]], LEVEL.screen);
  return html`<div class="screen bus">
    <div class="screen-head"><h1>Bus</h1></div>
    <${Found} of=${found} what="the bus">${(data) =>
      data.routers.length
        ? html`<form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>
              <label class="grow"><span class="label">Filter</span>
                <input ref=${search} class="field" type="search" value=${q} placeholder="URI, session, authid" onInput=${(event) => setQuery({ q: event.target.value })} /></label>
            </form>
            ${data.routers.map((router) => html`<${Router} key=${router.worker} router=${router} q=${q.toLowerCase()} />`)}`
        : html`<${Empty}>No router runs on this node. A worker of kind <code>router</code> carries the bus; then sessions, topics and procedures are here.<//>`}<//>
  </div>`;
}

function Router({ router, q }) {
  const rates = Object.entries(router.rates ?? {}).filter(([, value]) => value !== null && value !== undefined);
  const aside = html`<a href=${workerPath(router.worker)}>${router.worker}</a>`;
  return html`<${Panel} title=${router.worker === "router" ? "Router" : `Router ${router.worker}`} aside=${aside}>
    ${router.trouble && html`<p class="failed">${router.trouble}</p>`}
    ${rates.length > 0 && html`<p class="rates">${rates.map(([what, value]) => html`<span key=${what}><strong class="num">${number(value)}</strong> ${WORDS[what] ?? what.replaceAll("_", " ")}</span> `)}</p>`}
    ${(router.realms ?? []).map((realm) => html`<${Realm} key=${realm.name} realm=${realm} q=${q} base=${`${router.worker}-${realm.name}`} />`)}
    ${!router.realms?.length && !router.trouble && html`<${Empty}>It has no realm yet.<//>`}
  <//>`;
}

const perSecond = (rate) => (rate === null || rate === undefined ? "–" : `${number(rate)}/s`);
const rateOf = (row) => perSecond(row.rate);
/** What a router says of itself, as a person says it. */
const WORDS = { calls_per_s: "calls/s", events_per_s: "events/s delivered", publications_per_s: "events/s published" };
const fits = (q, ...texts) => !q || texts.some((text) => text !== null && text !== undefined && String(text).toLowerCase().includes(q));

const TABLES = {
  sessions: {
    says: "Sessions",
    columns: ["Session", "Who", "Role", "From", "By", "Calls", "Publishes"],
    row: (one) => [one.session, one.authid, one.authrole, one.component ?? one.worker ?? one.transport?.peer ?? one.peer, one.authmethod, perSecond(one.calls_per_s), perSecond(one.publications_per_s)],
    empty: "Nobody is connected to this realm.",
  },
  registrations: {
    says: "Procedures",
    columns: ["Procedure", "Match", "Invoke", "Callees", "Rate"],
    row: (one) => [one.uri, one.match, one.invoke, countOf(one.callees), rateOf(one)],
    empty: "Nobody offers a procedure.",
  },
  subscriptions: {
    says: "Topics",
    columns: ["Topic", "Match", "Subscribers", "Rate"],
    row: (one) => [one.uri, one.match, countOf(one.subscribers), rateOf(one)],
    empty: "Nobody listens to a topic.",
  },
  calls: {
    says: "Who calls whom",
    columns: ["Caller", "Callee", "Procedure", "Rate", "Calls"],
    row: (one) => [one.caller, one.callee, one.uri, rateOf(one), one.count.toLocaleString("en")],
    areNames: true,
    empty: "Nobody has called anybody yet.",
  },
};

const countOf = (value) => (Array.isArray(value) ? value.length : value);

function Realm({ realm, q, base }) {
  const tabs = Object.entries(TABLES)
    .filter(([key]) => realm[key] !== undefined && realm[key] !== null)
    .map(([key, table]) => [key, `${table.says} (${realm[key].length.toLocaleString("en")})`]);
  const [chosen, setChosen] = useState("registrations");
  const shown = tabs.some(([key]) => key === chosen) ? chosen : tabs[0]?.[0];
  const trouble = realm.trouble && html`<p class="failed">${realm.trouble}</p>`;
  if (!shown) return html`<div class="realm"><h3 class="mono">${realm.name}</h3>${trouble}</div>`;
  return html`<div class="realm">
    <h3 class="mono">${realm.name}</h3>
    ${trouble}
    <${Tabs} label=${`Realm ${realm.name}`} tabs=${tabs} chosen=${shown} onChoose=${setChosen} base=${base} />
    <${TabPanel} base=${base} id=${shown}><${Table} table=${TABLES[shown]} rows=${realm[shown]} q=${q} label=${`${TABLES[shown].says} of ${realm.name}`} /><//>
  </div>`;
}

function Table({ table, rows, q, label }) {
  const fitting = useMemo(() => rows.map((one) => table.row(one)).filter((cells) => fits(q, ...cells)), [rows, q, table]);
  if (!fitting.length) return html`<${Empty}>${q && rows.length ? "Nothing fits the filter." : table.empty}<//>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${label}>
      <table class="table plain-table">
        <thead><tr>${table.columns.map((name) => html`<th key=${name} scope="col">${name}</th>`)}</tr></thead>
        <tbody>${fitting.slice(0, MOST).map((cells, at) => html`<tr key=${at}>${cells.map((cell, n) => html`<td key=${n} class=${n || table.areNames ? "" : "mono"}>${cell ?? "–"}</td>`)}</tr>`)}</tbody>
      </table>
    </div>
    ${fitting.length > MOST && html`<p class="dim">The first ${MOST} of ${fitting.length.toLocaleString("en")}; the filter finds the others.</p>`}`;
}
