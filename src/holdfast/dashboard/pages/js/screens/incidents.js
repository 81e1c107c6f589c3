// Which incidents were there? A feed, newest first, that can be filtered; new ones appear by themselves.
//
// The filter is in the address, so that a link shows the same. Rows of the newest fifty come live with the state; older ones, and
// everything that is filtered, are asked for. Leaves out what is in one (incident.js).
import { get, withQuery } from "../api.js";
import { html, pressed, useEffect, useMemo, useRef, useState } from "../dom.js";
import { LEVEL, useKeys } from "../keys.js";
import { go, incidentPath, setQuery, workerPath } from "../route.js";
import { Ago, Empty, Failed, Loading, Verdict } from "../ui.js";
import { clock, words } from "../format.js";
import { nowUnixS } from "../store.js";

export const title = () => "Incidents";

const PAGE = 50;
const VERDICTS = [
  ["", "all"],
  ["open", "being watched"],
  ["cured", "cured"],
  ["came_back", "came back"],
  ["did_not_help", "did not help"],
  ["closed", "closed"],
  ["gave_up", "gave up"],
];
const SINCE = [
  ["", "ever"],
  ["3600", "last hour"],
  ["86400", "last day"],
  ["604800", "last week"],
];

/** The filter as it stands in the address. */
function filterOf(query) {
  return {
    q: query.get("q") ?? "",
    worker: query.get("worker") ?? "",
    kind: query.get("kind") ?? "",
    verdict: query.get("verdict") ?? "",
    for_s: query.get("for_s") ?? "",
  };
}

const isEmpty = (filter) => Object.values(filter).every((value) => !value);

function pathOf(filter, before) {
  const { for_s: forS, ...rest } = filter;
  const since = forS ? Math.floor(Date.now() / 1000) - Number(forS) : null;
  return withQuery("/api/incidents", { ...rest, since, before, limit: PAGE });
}

/** Rows of the feed: what was asked for, page after page, and above it what came live since. */
function useFeed(filter, live) {
  const [found, setFound] = useState({ rows: [], before: null, total: null, error: null, isThere: false });
  const [isBusy, setBusy] = useState(false);
  const asked = useRef(0);
  const key = JSON.stringify(filter);
  // Each incident that is new, and each verdict, changes the live rows; then the first page is asked for again.
  const stamp = live.length ? `${live[0].id} ${live.map((row) => row.verdict ?? "").join()}` : "";

  async function load(before) {
    asked.current += 1;
    const mine = asked.current;
    setBusy(true);
    try {
      const page = await get(pathOf(filter, before));
      if (mine !== asked.current) return;
      setFound((old) => {
        const kept = before ? old.rows : [];
        const known = new Set(kept.map((row) => row.id));
        const rows = [...kept, ...page.rows.filter((row) => !known.has(row.id))];
        return { rows, before: page.before, total: page.total, error: null, isThere: true };
      });
    } catch (error) {
      if (mine === asked.current) setFound((old) => ({ ...old, error }));
    } finally {
      if (mine === asked.current) setBusy(false);
    }
  }

  useEffect(() => {
    setFound({ rows: [], before: null, total: null, error: null, isThere: false });
    load(null);
  }, [key]);
  useEffect(() => {
    // Not while somebody reads further down: rows must not move under the eyes.
    if (found.isThere && found.rows.length <= PAGE && !isEmpty(filter)) load(null);
  }, [stamp]);

  const rows = useMemo(() => {
    if (!isEmpty(filter)) return found.rows;
    const fresh = new Map(live.map((row) => [row.id, row]));
    const older = found.rows.filter((row) => !fresh.has(row.id));
    return [...live, ...older];
  }, [found.rows, live, key]);
  return { ...found, rows, isBusy, more: () => load(found.before), again: () => load(null) };
}

export function Screen({ state, query }) {
  const filter = filterOf(query ?? new URLSearchParams(location.search));
  const live = state?.incidents ?? [];
  const feed = useFeed(filter, live);
  const [at, setAt] = useState(-1);
  const search = useRef(null);
  const list = useRef(null);
  const rows = useMemo(() => inRuns(feed.rows), [feed.rows]);
  const at0 = rows[at]?.[0];

  const move = (to) => {
    const next = Math.max(0, Math.min(rows.length - 1, to));
    setAt(next);
    list.current?.querySelectorAll("a.incident-link")[next]?.focus();
  };
  useKeys(
    "Incidents",
    [
      ["/", "filter", () => search.current?.focus()],
      ["j ArrowDown", "one down", () => move(at + 1), { isEither: true }],
      ["k ArrowUp", "one up", () => move(at - 1), { isEither: true }],
      ["G", "the last one", () => move(rows.length - 1)],
      ["Enter", "open it", at0 ? () => go(incidentPath(at0.id)) : null],
      ["w", "its worker", at0 && at0.worker !== "@node" ? () => go(workerPath(at0.worker)) : null],
    ],
    LEVEL.screen,
  );

  return html`<div class="screen incidents">
    <div class="screen-head"><h1>Incidents</h1></div>
    <form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>
      <label class="grow"><span class="label">Filter</span>
        <input ref=${search} class="field" type="search" value=${filter.q} placeholder="worker, words of the title, signature"
          onInput=${(event) => setQuery({ q: event.target.value })} /></label>
      <label><span class="label">Verdict</span>
        <select class="field" value=${filter.verdict} onChange=${(event) => setQuery({ verdict: event.target.value })}>
          ${VERDICTS.map(([value, says]) => html`<option key=${value} value=${value} selected=${value === filter.verdict}>${says}</option>`)}
        </select></label>
      <label><span class="label">Since</span>
        <select class="field" value=${filter.for_s} onChange=${(event) => setQuery({ for_s: event.target.value })}>
          ${SINCE.map(([value, says]) => html`<option key=${value} value=${value} selected=${value === filter.for_s}>${says}</option>`)}
        </select></label>
      ${filter.worker && html`<button type="button" class="button small" onClick=${() => setQuery({ worker: "" })}>only ${filter.worker} ✕</button>`}
      ${filter.kind && html`<button type="button" class="button small" onClick=${() => setQuery({ kind: "" })}>only ${words(filter.kind)} ✕</button>`}
    </form>
    ${feed.error && html`<${Failed} error=${feed.error} again=${feed.again} />`}
    ${!feed.isThere && !rows.length && !feed.error && html`<${Loading} what="the incidents" />`}
    ${feed.isThere && !rows.length && html`<${Empty}>${isEmpty(filter) ? "There was no incident yet. Each death, freeze, leak or bomb of a worker will be here, with its evidence." : "No incident fits this filter."}<//>`}
    ${rows.length > 0 &&
    html`<ol class="feed" ref=${list} aria-label="Incidents, newest first">
      ${rows.map((group) => html`<${Group} key=${group.at(-1).id} rows=${group} />`)}
    </ol>`}
    ${feed.before && html`<div class="buttons"><button type="button" class="button" ...${pressed(feed.isBusy, feed.more)}>Older ones</button>
      ${feed.total !== null && html`<span class="dim">${feed.rows.length.toLocaleString("en")} of ${feed.total.toLocaleString("en")}</span>`}</div>`}
  </div>`;
}

/** The same thing again and again, with nothing else between, is one entry: the newest, and those before it. */
function inRuns(rows) {
  const found = [];
  for (const row of rows) {
    const run = found.at(-1);
    if (run && run[0].worker === row.worker && run[0].title === row.title) run.push(row);
    else found.push([row]);
  }
  return found;
}

function Group({ rows: [row, ...before] }) {
  const where = row.worker === "@node" ? "the machine" : row.component ? `${row.worker} / ${row.component}` : row.worker;
  return html`<li class="feed-row">
    <div class="feed-head">
      <a class="incident-link" href=${incidentPath(row.id)}>${row.title}</a>
      <span title=${row.says}><${Verdict} is=${row.verdict} /></span>
    </div>
    <div class="feed-more dim">
      <${Ago} at=${row.opened_unix_s} />
      <span>${where}</span>
      <span>${words(row.kind)}</span>
    </div>
    ${before.length > 0 &&
    html`<details class="feed-again">
      <summary>the same ${before.length === 1 ? "once" : `${before.length} times`} before, since ${clock(before.at(-1).opened_unix_s, nowUnixS())}</summary>
      <ol>${before.map((one) => html`<li key=${one.id}><a href=${incidentPath(one.id)}>${clock(one.opened_unix_s, nowUnixS())}</a> <${Verdict} is=${one.verdict} /></li>`)}</ol>
    </details>`}
  </li>`;
}
