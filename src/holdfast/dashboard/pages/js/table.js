// A table of thousands of rows: only those in view are in the page, the page itself is scrolled, and keys move a mark.
//
//   <Table label="Workers" rows=${rows} keyOf=${(row) => row.name} columns=${COLUMNS} sort=${sort} onSort=${fn}
//          onOpen=${(row) => …} onMark=${(row) => …} empty="No worker has …" />
//
// A column: { id, title, cell: (row) => …, isRight, width: "9ch", from: 600 }. `from`: shown where the table is at least so
// many pixels wide. `sorts: false`: cannot be sorted by. One column has `isName: true`: its cell is the row's link and heading,
// and takes the room that is left. Keep `columns` the same array from call to call (a constant): rows are kept by identity.
// Rows come sorted and filtered: `rows` is the truth. `heading: true` in a row makes it a heading over the others (tree).
//
// Keys here: j k ↓ ↑ PgDn PgUp Home End (g g, G), Enter opens. Rows are as high as --row in app.css.
import { h, html, memo, useEffect, useLayoutEffect, useMemo, useReducer, useRef, useState } from "./dom.js";
import { LEVEL, useKeys } from "./keys.js";
import { nowUnixS } from "./store.js";

//: What is above the first row, with the table at the top of a screen.
const HEAD = 126;
const SPARE = 6; // rows beyond the edge, so that scrolling shows no holes
//: Figures that only grow older (uptimes) are written anew this often; what changes is written at once.
const EPOCH_S = 5;
//: The mark of each table, by label: who opens a row and comes back goes on from there.
const remembered = new Map();

export function Table({ label, rows, keyOf, columns, sort, onSort, onOpen, onMark, empty, section = "Table" }) {
  const box = useRef(null);
  const [marked, setMarked] = useState(remembered.get(label) ?? null);
  const hasMoved = useRef(false);
  const { from, to, rowHigh, wide } = useWindow(box, rows.length);
  const shown = useMemo(() => columns.filter((column) => !column.from || column.from <= wide), [columns, wide]);
  const at = useMemo(() => (marked === null ? -1 : rows.findIndex((row) => keyOf(row) === marked)), [rows, marked]);

  const mark = (row) => {
    remembered.set(label, keyOf(row));
    setMarked(keyOf(row));
    onMark?.(row);
  };
  useEffect(() => {
    if (at >= 0) onMark?.(rows[at]); // remembered from before
  }, []);
  const moveTo = (place) => {
    let next = Math.max(0, Math.min(rows.length - 1, place));
    const step = place >= at ? 1 : -1;
    while (rows[next]?.heading && rows[next + step]) next += step;
    if (!rows[next] || rows[next].heading) return;
    hasMoved.current = true;
    mark(rows[next]);
    reveal(box.current, next, rowHigh);
  };
  const page = () => Math.max(1, Math.floor(innerHeight / rowHigh) - 3);
  useKeys(
    section,
    [
      ["j ArrowDown", "one row down", () => moveTo(at + 1), { isEither: true }],
      ["k ArrowUp", "one row up", () => moveTo(at < 0 ? 0 : at - 1), { isEither: true }],
      ["PageDown", "a page down", () => moveTo(at + page())],
      ["PageUp", "a page up", () => moveTo(at - page())],
      ["Home", "the first row", () => moveTo(0)],
      ["g g", "the first row", () => moveTo(0)],
      ["End G", "the last row", () => moveTo(rows.length - 1), { isEither: true }],
      ["Enter", "open the row", onOpen && at >= 0 ? () => onOpen(rows[at]) : null],
    ],
    LEVEL.part,
  );
  useLayoutEffect(() => {
    if (!hasMoved.current) return;
    hasMoved.current = false;
    box.current.querySelector('tr[aria-current="true"] a')?.focus({ preventScroll: true });
  });

  if (!rows.length) return html`<p class="empty" ref=${box}>${empty}</p>`;
  const epoch = Math.floor(nowUnixS() / EPOCH_S);
  return html`<div class="table-box" ref=${box} tabindex="-1">
    <table class="table" aria-label=${label} aria-rowcount=${rows.length + 1}>
      <thead>
        <tr aria-rowindex="1">
          ${shown.map((column) => html`<${Heading} key=${column.id} column=${column} sort=${sort} onSort=${onSort} />`)}
        </tr>
      </thead>
      <tbody>
        ${from > 0 && html`<tr key="above" class="spacer" aria-hidden="true"><td colspan=${shown.length} style=${{ height: `${from * rowHigh}px` }}></td></tr>`}
        ${rows.slice(from, to).map((row, place) => {
          const key = keyOf(row);
          return html`<${Row} key=${key} row=${row} columns=${shown} index=${from + place + 2} isMarked=${key === marked} epoch=${epoch} onMark=${mark} />`;
        })}
        ${to < rows.length && html`<tr key="below" class="spacer" aria-hidden="true"><td colspan=${shown.length} style=${{ height: `${(rows.length - to) * rowHigh}px` }}></td></tr>`}
      </tbody>
    </table>
  </div>`;
}

function Heading({ column, sort, onSort }) {
  const look = `${column.isRight ? "right" : ""} ${column.isName ? "name" : ""}`;
  const style = column.width ? { width: column.width } : undefined;
  const isSorted = sort?.id === column.id;
  if (!onSort || column.sorts === false) return html`<th scope="col" class=${look} style=${style}>${column.title}</th>`;
  return html`<th scope="col" class=${look} style=${style} aria-sort=${isSorted ? (sort.isDown ? "descending" : "ascending") : undefined}>
    <button type="button" class="sort" onClick=${() => onSort(column.id)}>${column.title}<span aria-hidden="true">${isSorted ? (sort.isDown ? " ↓" : " ↑") : ""}</span></button>
  </th>`;
}

const isSameRow = (a, b) =>
  a.row === b.row && a.columns === b.columns && a.isMarked === b.isMarked && a.index === b.index && a.epoch === b.epoch;

const Row = memo(function Row({ row, columns, index, isMarked, onMark }) {
  if (row.heading) {
    return html`<tr class="row heading" aria-rowindex=${index}><th scope="rowgroup" colspan=${columns.length}>${row.says}</th></tr>`;
  }
  const cells = columns.map((column) =>
    column.isName
      ? h("th", { key: column.id, scope: "row", class: "name" }, column.cell(row))
      : h("td", { key: column.id, class: column.isRight ? "right" : "" }, column.cell(row)),
  );
  const looks = { class: `row ${row.level ?? ""}`, "aria-rowindex": index, "aria-current": isMarked ? "true" : undefined, onPointerDown: () => onMark(row) };
  return h("tr", looks, cells);
}, isSameRow);

/** Which rows are in view? Looks again when the page is scrolled or changes its size. */
function useWindow(box, count) {
  const [, again] = useReducer((n) => n + 1, 0);
  // What is too many is made and thrown away, what is too few is made in a second go: as many as measure() will find, where it begins at the top.
  const seen = useRef({ from: 0, to: Math.min(count, Math.ceil((innerHeight - HEAD) / 32) + SPARE), rowHigh: 32, wide: innerWidth });
  const measure = () => {
    const element = box.current;
    if (!element) return false;
    const body = element.querySelector("tbody");
    const rowHigh = parseFloat(getComputedStyle(element).getPropertyValue("--row")) || 32;
    const top = body ? -body.getBoundingClientRect().top : 0;
    const from = Math.max(0, Math.min(count - 1, Math.floor(top / rowHigh) - SPARE));
    const to = Math.min(count, Math.ceil((top + innerHeight) / rowHigh) + SPARE);
    const next = { from: Math.max(0, from), to: Math.max(to, Math.min(count, SPARE)), rowHigh, wide: element.clientWidth };
    const before = seen.current;
    const isSame = before.from === next.from && before.to === next.to && before.rowHigh === next.rowHigh && before.wide === next.wide;
    seen.current = next;
    return !isSame;
  };
  useLayoutEffect(() => {
    if (measure()) again();
  }, [count]);
  useEffect(() => {
    let frame = 0;
    const look = () => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        if (measure()) again();
      });
    };
    addEventListener("scroll", look, { passive: true });
    const watcher = new ResizeObserver(look);
    watcher.observe(document.documentElement);
    if (box.current) watcher.observe(box.current);
    return () => {
      cancelAnimationFrame(frame);
      removeEventListener("scroll", look);
      watcher.disconnect();
    };
  }, [count]);
  const { from, to } = seen.current;
  return { ...seen.current, from: Math.min(from, Math.max(0, count - 1)), to: Math.min(Math.max(to, from), count) };
}

/** Scroll the page so that a row is seen, below the fixed head and above the edge (or the bar of a phone). */
function reveal(box, place, rowHigh) {
  const body = box?.querySelector("tbody");
  if (!body) return;
  const head = box.querySelector("thead").getBoundingClientRect().height + (document.querySelector(".top")?.clientHeight ?? 0);
  const below = parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--bottom")) || 0;
  const top = body.getBoundingClientRect().top + place * rowHigh;
  if (top < head) scrollBy(0, top - head - rowHigh);
  else if (top + rowHigh > innerHeight - below) scrollBy(0, top + 2 * rowHigh - innerHeight + below);
}
