// What does a worker write? The end of its log as it grows, what was before on request, and a filter. Text only, whatever is in it.
//
// The live part is an EventSource of its own; it ends with the component. At most KEPT lines are in the page.
import { html, memo, pressed, useEffect, useLayoutEffect, useRef, useState } from "./dom.js";
import { LEVEL, useKeys } from "./keys.js";
import { clock } from "./format.js";
import { get, withQuery } from "./api.js";

const FIRST = 200;
const MORE = 500;
const KEPT = 5000;
const NEAR_PX = 60;
const AGAIN_MS = 3000;
let lastNumber = 0;

const numbered = (lines) =>
  lines.map((line) => {
    lastNumber += 1;
    return { ...line, key: lastNumber };
  });

/** A connection begins with the last lines, some of which are here: return the others. Lines taken in one go share their time. */
export function newOf(known, told) {
  if (!known.length) return told;
  const last = known[known.length - 1].at_unix_s;
  const atLast = new Map();
  for (let at = known.length - 1; at >= 0 && known[at].at_unix_s === last; at -= 1) {
    const key = `${known[at].stream} ${known[at].text}`;
    atLast.set(key, (atLast.get(key) ?? 0) + 1);
  }
  return told.filter((line) => {
    if (line.at_unix_s !== last) return line.at_unix_s > last;
    const key = `${line.stream} ${line.text}`;
    const left = atLast.get(key) ?? 0;
    atLast.set(key, left - 1);
    return left <= 0;
  });
}

export function Log({ name }) {
  const base = `/api/workers/${encodeURIComponent(name)}/log`;
  const [grep, setGrep] = useState("");
  const [found, setFound] = useState({ lines: [], before: null, error: null, isRead: false });
  const [isLive, setLive] = useState(false);
  const [isBusy, setBusy] = useState(false);
  const box = useRef(null);
  const field = useRef(null);
  const isAtEnd = useRef(true);
  const heightBefore = useRef(null);

  useEffect(() => {
    const stop = new AbortController();
    let source = null;
    let timer = 0;
    const follow = () => {
      let isFirst = true;
      const mine = new EventSource(`${base}/live`);
      source = mine;
      mine.onopen = () => {
        isFirst = true;
        setLive(true);
      };
      mine.onerror = () => {
        setLive(false); // a broken line it tries again by itself; one that was refused it does not
        if (mine.readyState === EventSource.CLOSED && !stop.signal.aborted) timer = setTimeout(follow, AGAIN_MS);
      };
      mine.addEventListener("lines", (event) => {
        const told = JSON.parse(event.data).lines.filter((line) => !grep || line.text.toLowerCase().includes(grep.toLowerCase()));
        const isEnd = isFirst;
        isFirst = false;
        setFound((before) => {
          const fresh = isEnd ? newOf(before.lines, told) : told;
          return fresh.length ? { ...before, lines: [...before.lines, ...numbered(fresh)].slice(-KEPT) } : before;
        });
      });
    };
    timer = setTimeout(async () => {
      try {
        const { lines, before } = await get(withQuery(base, { lines: FIRST, grep }), stop.signal);
        if (stop.signal.aborted) return;
        isAtEnd.current = true;
        setFound({ lines: numbered(lines), before, error: null, isRead: true });
      } catch (error) {
        if (!stop.signal.aborted) setFound({ lines: [], before: null, error, isRead: true });
        return;
      }
      follow();
    }, grep ? 250 : 0);
    return () => {
      stop.abort();
      clearTimeout(timer);
      source?.close();
      setLive(false);
    };
  }, [base, grep]);

  const older = async () => {
    setBusy(true);
    try {
      const { lines, before } = await get(withQuery(base, { lines: MORE, before: found.before, grep }));
      heightBefore.current = box.current.scrollHeight;
      setFound((now) => ({ ...now, lines: [...numbered(lines), ...now.lines].slice(0, KEPT), before, error: null }));
    } catch (error) {
      setFound((now) => ({ ...now, error }));
    }
    setBusy(false);
  };
  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    if (heightBefore.current !== null) {
      element.scrollTop += element.scrollHeight - heightBefore.current; // what one reads stays where it is
      heightBefore.current = null;
    } else if (isAtEnd.current) {
      element.scrollTop = element.scrollHeight;
    }
  }, [found.lines]);
  const scrolled = () => {
    const { scrollHeight, scrollTop, clientHeight } = box.current;
    isAtEnd.current = scrollHeight - scrollTop - clientHeight < NEAR_PX;
  };
  const toEnd = () => {
    isAtEnd.current = true;
    box.current.scrollTop = box.current.scrollHeight;
  };
  useKeys(
    "Log",
    [
      ["/", "filter the lines", () => field.current.focus()],
      ["j ArrowDown", "down", () => box.current.scrollBy(0, 60), { isEither: true }],
      ["k ArrowUp", "up", () => box.current.scrollBy(0, -60), { isEither: true }],
      ["End G", "the end, and stay there", toEnd, { isEither: true }],
      ["Home", "the beginning of what is here", () => box.current.scrollTo(0, 0)],
    ],
    LEVEL.part,
  );
  return html`<div class="log-box">
    <div class="tools">
      <input ref=${field} type="search" class="field" placeholder="Filter the lines  /" aria-label="Filter the lines" spellcheck="false" autocomplete="off"
        value=${grep} onInput=${(event) => setGrep(event.target.value)} onKeyDown=${(event) => event.key === "Enter" && event.target.blur()} />
      <span class="dim" role="status">${isLive ? html`<span class="pulse" aria-hidden="true">● </span>live` : "not live"}</span>
      ${found.before && html`<button type="button" class="button small" ...${pressed(isBusy, older)}>Older lines</button>`}
    </div>
    ${found.error && html`<p class="failed" role="alert">${found.error.message} <span class="dim">${found.error.hint}</span></p>`}
    <div class="log" ref=${box} onScroll=${scrolled} tabindex="0" role="log" aria-live="off" aria-label=${`Log of ${name}`}>
      ${found.lines.length
        ? found.lines.map((line) => html`<${Line} key=${line.key} line=${line} />`)
        : html`<p class="empty">${!found.isRead ? "Reading the log …" : grep ? `No line has "${grep}" in it.` : "It has written nothing yet. Its output and its errors would be here."}</p>`}
    </div>
  </div>`;
}

export const Line = memo(({ line }) => html`<div class=${line.stream === "err" ? "line err" : "line"}><span class="line-at">${clock(line.at_unix_s)}</span><span class="line-mark" title=${line.stream}>${line.stream === "err" ? "!" : " "}</span><span class="line-text">${line.text}</span></div>`);
