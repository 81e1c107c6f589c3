// Workers: the table of all of them, thousands if need be; filter, sort, tree, and orders by key for the marked one.
import { LEVEL, useKeys } from "../keys.js";
import { Segments, StateWords } from "../ui.js";
import { Spark } from "../spark.js";
import { Table } from "../table.js";
import { bytes, count, grouped, number, share, span, words } from "../format.js";
import { h, html, memo, useEffect, useMemo, useRef, useState } from "../dom.js";
import { SORTS, inTree, isLargestFirst, matching, rowMaker, sorted } from "../rows.js";
import { back, go, setQuery, workerPath } from "../route.js";
import { mayOrder, order } from "../orders.js";
import { nowUnixS } from "../store.js";

export const title = () => "Workers";

//: What changes with every look is sorted anew this often only: rows that jump about cannot be read.
const SORT_MS = 5000;

const flagsOf = (worker) => (worker.flags ?? []).map((flag) => words(flag.flag)).join(", ");

const Name = memo(({ name }) => h("a", { href: workerPath(name), title: name }, name));

// Made for each row once a second: h() and memo() instead of html, which is half as fast.
const COLUMNS = [
  { id: "worker", title: "Worker", isName: true, cell: ({ name }) => h(Name, { name }) },
  { id: "state", title: "State", width: "11.6rem", cell: ({ glyph, word, level }) => h(StateWords, { glyph, word, level }) },
  { id: "flags", title: "Flags", width: "11rem", from: 900, sorts: false, cell: ({ worker }) => (worker.flags?.length ? html`<span class="flags" title=${flagsOf(worker)}>${flagsOf(worker)}</span>` : null) },
  { id: "kind", title: "Kind", width: "6rem", from: 1100, sorts: false, cell: ({ worker }) => worker.kind },
  { id: "pid", title: "Pid", width: "5.5rem", from: 760, isRight: true, cell: ({ worker }) => worker.pid ?? "–" },
  { id: "uptime", title: "Up", width: "5.5rem", from: 560, isRight: true, cell: ({ worker }) => (worker.pid && worker.started_at_unix_s ? span(nowUnixS() - worker.started_at_unix_s) : "–") },
  { id: "restarts", title: "Restarts", width: "6rem", from: 640, isRight: true, cell: ({ worker }) => number(worker.restarts) },
  { id: "memory", title: "Memory", width: "5.5rem", from: 480, isRight: true, cell: ({ worker }) => bytes(worker.rss_bytes) },
  { id: "cpu", title: "CPU", width: "4.6rem", from: 330, isRight: true, cell: ({ worker }) => share(worker.cpu_share) },
  { id: "line", title: html`<span class="unseen">CPU lately</span>`, width: "5rem", from: 680, sorts: false, cell: ({ worker }) => h(Spark, { values: worker.cpu_line, most: 0.1 }) },
];

export function Screen({ state, query, me }) {
  const pattern = query.get("q") ?? "";
  const id = SORTS.includes(query.get("sort")) ? query.get("sort") : "urgency";
  const isTurned = query.has("turned");
  const isTree = query.has("tree");
  const field = useRef(null);
  const [marked, setMarked] = useState(null);
  const make = useMemo(rowMaker, []);
  const all = useMemo(() => make(state.workers), [state.workers]);
  const sort = useMemo(() => ({ id, isDown: isLargestFirst(id) !== isTurned }), [id, isTurned]);
  const names = useCalmOrder(all, sort);
  const rows = useMemo(() => {
    const shown = matching(names.map((name) => all.rows.get(name)).filter(Boolean), pattern);
    return isTree ? inTree(shown, state.splits) : shown;
  }, [all, pattern, names, isTree, state.splits]);

  const choose = (next) => {
    if (next === id) setQuery({ turned: !isTurned });
    else setQuery({ sort: next === "urgency" ? null : next, turned: null });
  };
  const step = (by) => choose(SORTS[(SORTS.indexOf(id) + by + SORTS.length) % SORTS.length]);
  const worker = marked && state.workers[marked];
  const may = worker ? mayOrder(me, worker) : [];
  const does = (name) => (may.includes(name) ? () => order(name, marked) : null);
  useKeys(
    "Workers",
    [
      ["/", "filter: words in name, state, kind, group, flags; !word: not", () => field.current.focus()],
      ["< ,", "the column to the left to sort by", () => step(-1), { isEither: true }],
      ["> .", "the column to the right to sort by", () => step(1), { isEither: true }],
      ["s", "the other way round", () => setQuery({ turned: !isTurned })],
      ["t", "tree: groups, and what a worker was split into", () => setQuery({ tree: !isTree })],
      ["l", "log of the worker", worker ? () => go(`${workerPath(marked)}?tab=log`) : null],
      ["r", "restart it", does("restart")],
      ["S", "stop it, or start it", does("stop") ?? does("start")],
      ["p", "profile: 5 s, a flame graph", does("profile")],
      ["x", "stacks: where each thread is now", does("stacks")],
      ["Escape q", pattern ? "take the filter away" : "back", () => (pattern ? setQuery({ q: null }) : back("/")), { isEither: true }],
    ],
    LEVEL.screen,
  );
  const shown = rows.filter((row) => !row.heading).length;
  const total = all.rows.size;
  return html`<div class="screen">
    <div class="screen-head">
      <h1>Workers</h1>
      <p class="dim" role="status">${shown === total ? count(total, "worker") : `${grouped(shown)} of ${count(total, "worker")}`}</p>
      <div class="tools">
        <input ref=${field} type="search" class="field" placeholder="Filter  /" aria-label="Filter the workers" value=${pattern}
          spellcheck="false" autocomplete="off" onInput=${(event) => setQuery({ q: event.target.value })} onKeyDown=${leaveField} />
        <label class="sort-choice">Sort
          <select class="field" value=${id} onChange=${(event) => choose(event.target.value)}>
            ${SORTS.map((name) => html`<option key=${name} value=${name}>${name === "urgency" ? "needs a look" : name}</option>`)}
          </select>
        </label>
        <${Segments} label="Layout" options=${[[false, "List"], [true, "Tree"]]} chosen=${isTree} onChoose=${(is) => setQuery({ tree: is })} />
      </div>
    </div>
    <${Table} label="Workers" section="Table" rows=${rows} keyOf=${nameOf} columns=${COLUMNS} sort=${sort} onSort=${choose}
      onOpen=${(row) => go(workerPath(row.name))} onMark=${(row) => setMarked(row.name)}
      empty=${total ? `No worker has "${pattern}" in its name, state, kind, group or flags.` : "No worker is in the configuration. They would be listed here, those first that need a look."} />
  </div>`;
}

const nameOf = (row) => row.name;

function leaveField(event) {
  if (event.key === "Enter" || event.key === "Escape") event.target.blur();
}

/** Return the names in order, taken anew when the choice, the set or a state changes, else every few seconds. */
function useCalmOrder(all, sort) {
  const [tick, setTick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => setTick((n) => n + 1), SORT_MS);
    return () => clearInterval(timer);
  }, []);
  return useMemo(() => sorted([...all.rows.values()], sort).map(({ name }) => name), [all.version, tick, sort]);
}
