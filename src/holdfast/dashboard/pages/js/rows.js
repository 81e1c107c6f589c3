// Which workers are shown, in which order, under which headings: filter, sort, tree. The same rules as `holdfast top`.
//
// Pure. A row: { name, worker, level, state, urgency } or { heading: true, name, says }. Rows of workers that did not change are
// the same objects as before, so that the table draws only what is new: keep the function that rowMaker() returns. All this runs
// once a second for a thousand workers, so nothing here is made that is not needed.
import { stateOf } from "./ui.js";

//: Those first that need a look: who is not there, who is flagged, who is on its way, and the rest.
const URGENCY = { failed: 0, backoff: 1, starting: 2, stopping: 3, waiting: 4, down: 5, running: 6, done: 7, idle: 7 };
const LARGEST_FIRST = new Set(["memory", "cpu", "restarts"]);

export const isLargestFirst = (id) => LARGEST_FIRST.has(id);

/** Return a function from the state's workers to { rows: Map of name to row, version }. `version` is new when the set of workers
 * is another, or the state or flags of one: when the order by urgency may be another. */
export function rowMaker() {
  let kept = { rows: new Map(), version: 0 };
  return (workers) => {
    const rows = new Map();
    let isOther = false;
    for (const name in workers) {
      const worker = workers[name];
      const before = kept.rows.get(name);
      if (before !== undefined && before.worker === worker) {
        rows.set(name, before);
        continue;
      }
      const row = rowOf(name, worker);
      isOther ||= before === undefined || before.urgency !== row.urgency || before.state !== row.state;
      rows.set(name, row);
    }
    isOther ||= rows.size !== kept.rows.size;
    kept = { rows, version: kept.version + (isOther ? 1 : 0) };
    return kept;
  };
}

function rowOf(name, worker) {
  const { glyph, word, level, state } = stateOf(worker);
  const rank = URGENCY[state] ?? 0;
  const isFlagged = worker.flags?.length > 0;
  const urgency = (isFlagged ? Math.min(2, rank) : rank + 1) * 2 + (worker.ready ? 1 : 0);
  return { name, worker, glyph, word, level, state, urgency };
}

/** Words that are all in its name, state, kind, group or flags; "!" in front: not. */
export function matching(rows, pattern) {
  const wanted = pattern.toLowerCase().split(/\s+/).filter(Boolean);
  if (!wanted.length) return rows;
  return rows.filter((row) => {
    const text = textOf(row);
    return wanted.every((word) => (word.length > 1 && word[0] === "!" ? !text.includes(word.slice(1)) : text.includes(word)));
  });
}

function textOf({ name, state, word, worker }) {
  const flags = (worker.flags ?? []).map((flag) => `${flag.flag} ${flag.flag.replaceAll("_", " ")}`).join(" "); // as it is written, and as it is read
  return `${name} ${state} ${word} ${worker.kind ?? ""} ${worker.group ?? ""} ${flags}`.toLowerCase();
}

const KEYS = {
  urgency: ({ urgency }) => urgency,
  worker: ({ name }) => name,
  state: ({ state }) => state,
  pid: ({ worker }) => worker.pid ?? 0,
  uptime: ({ worker }) => (worker.pid ? -(worker.started_at_unix_s ?? 0) : 0),
  restarts: ({ worker }) => worker.restarts ?? 0,
  memory: ({ worker }) => worker.rss_bytes ?? -1,
  cpu: ({ worker }) => worker.cpu_share ?? -1,
};
export const SORTS = Object.keys(KEYS);

/** Return the rows in an order; stable, so that equals stay as they were. */
export function sorted(rows, { id, isDown }) {
  const key = KEYS[id] ?? KEYS.urgency;
  const keyed = rows.map((row) => [key(row), row]);
  const sign = isDown ? -1 : 1;
  keyed.sort(([a], [b]) => (a < b ? -sign : a > b ? sign : 0));
  return keyed.map(([, row]) => row);
}

/** Return the rows under headings: their group, and the worker whose parts or processes they are. */
export function inTree(rows, splits = []) {
  const groups = new Map();
  for (const row of rows) {
    const group = row.worker.group ?? "";
    if (!groups.has(group)) groups.set(group, new Map());
    const families = groups.get(group);
    const whole = familyOf(row);
    if (!families.has(whole)) families.set(whole, []);
    families.get(whole).push(row);
  }
  const found = [];
  for (const [group, families] of groups) {
    if (group) found.push(headingOf(`@group ${group}`, `${group}/`, [...families.values()].flat()));
    for (const [whole, members] of families) {
      if (members.length > 1 || members[0].name !== whole) {
        const isSplit = splits.some((one) => one.worker === whole);
        found.push(headingOf(`@whole ${whole}`, `${whole}/ (${isSplit ? "split" : "processes"})`, members));
      }
      found.push(...members);
    }
  }
  return found;
}

//: A part of a split worker is called WORKER+COMPONENT; one of several processes says which worker it is of.
const familyOf = ({ name, worker }) => worker.family ?? name.split("+")[0];

function headingOf(key, says, members) {
  const ready = members.filter(({ worker }) => worker.ready).length;
  return { heading: true, name: key, says: `${says}  ${ready} of ${members.length} ready` };
}
