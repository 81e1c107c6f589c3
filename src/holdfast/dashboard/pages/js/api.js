// How do pages ask the dashboard? JSON over fetch, same origin, with errors that say what to do.
//
//   await get("/api/workers/web")                        → the answer
//   await post("/api/orders", { do: "restart", worker })   → the answer, or null when there is none (204)
//   const { data, error, isOld, reload } = useGet(path, { everyMs })   in a component; path null: nothing is asked
//
// An error is a Failure {message, hint, status}; <Failed error=${…}/> of ui.js shows one. 401 is told to onSignedOut(…).
import { useEffect, useRef, useState } from "./dom.js";

export class Failure extends Error {
  constructor(says, hint, status) {
    super(says);
    this.hint = hint ?? "";
    this.status = status;
  }
}

let signedOut = () => {};
export function onSignedOut(listener) {
  signedOut = listener;
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("The dashboard does not answer", "It is started again by itself; this page goes on when it is back.", 0);
  }
  if (answer.status === 204) return null;
  const text = await answer.text();
  let said = null;
  try {
    said = text ? JSON.parse(text) : null;
  } catch {
    said = null;
  }
  if (!answer.ok) {
    if (answer.status === 401 && path !== "/api/enter") signedOut();
    throw new Failure(said?.error ?? `The dashboard answers with status ${answer.status}`, said?.hint, answer.status);
  }
  if (said === null) throw new Failure("The answer is no JSON", "Is something between this page and the dashboard?", answer.status);
  return said;
}

export const get = (path, signal) => ask(path, { signal });

export const post = (path, body) =>
  ask(path, {
    method: "POST",
    headers: { "content-type": "application/json", "x-holdfast": "1" },
    body: JSON.stringify(body),
  });

/** Return a path with a query; what is null, undefined, "" or false is left out. */
export function withQuery(path, query) {
  const pairs = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false);
  return pairs.length ? `${path}?${new URLSearchParams(pairs)}` : path;
}

/** Ask for `path` now, when it changes, and every so often while the page is seen. Keeps the last answer when one fails. */
export function useGet(path, { everyMs = 0 } = {}) {
  const [found, setFound] = useState({ path: null, data: null, error: null });
  const again = useRef(() => {});
  useEffect(() => {
    if (!path) return undefined;
    const stop = new AbortController();
    let timer = 0;
    let asked = 0;
    async function look() {
      clearTimeout(timer);
      asked += 1;
      const mine = asked;
      try {
        const data = await get(path, stop.signal);
        if (!stop.signal.aborted && mine === asked) setFound({ path, data, error: null });
      } catch (error) {
        if (stop.signal.aborted || mine !== asked) return;
        setFound((before) => ({ path, data: before.path === path ? before.data : null, error }));
      }
      if (everyMs && mine === asked) timer = setTimeout(() => (document.hidden ? undefined : look()), everyMs);
    }
    const seen = () => {
      if (!document.hidden && everyMs) look();
    };
    again.current = look;
    document.addEventListener("visibilitychange", seen);
    look();
    return () => {
      stop.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", seen);
    };
  }, [path, everyMs]);
  const isCurrent = found.path === path;
  return {
    data: isCurrent ? found.data : null,
    error: isCurrent ? found.error : null,
    isOld: isCurrent && found.error !== null && found.data !== null,
    reload: () => again.current(),
  };
}
