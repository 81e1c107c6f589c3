// How does the page stay fresh? One EventSource on /api/live: first `state` (everything), then `delta`s, and `order`s.
//
// The dashboard may be killed at any instant: the page shows what it last knew and "not connected since …" (shell.js), and
// comes back by itself with a growing delay; the first event is the whole state again, so nothing is missed. Leaves out what
// a delta means (store.js).
import * as store from "./store.js";

const FIRST_MS = 300;
const LONGEST_MS = 8000;
//: A node where nothing changes for so long is rare; a line that is dead without a word (a tunnel that broke) is not.
const SILENT_MS = 45_000;

let source = null;
let delayMs = FIRST_MS;
let timer = 0;
let heardMs = 0;
let isSignedIn = () => Promise.resolve(true);

/** Begin; `check` tells whether the session still holds, when the connection was refused. */
export function start(check) {
  isSignedIn = check;
  stop();
  connect();
  document.addEventListener("visibilitychange", wake);
  addEventListener("online", wake);
}

/** Whether early.js is connected, or about to be. */
export const hasBegun = () => Boolean(window.holdfastEarly) && window.holdfastEarly.source.readyState !== EventSource.CLOSED;

/** Whether there is a connection, or one is tried again. */
export const isOn = () => source !== null || timer !== 0;

export function stop() {
  clearTimeout(timer);
  timer = 0;
  source?.close();
  source = null;
  document.removeEventListener("visibilitychange", wake);
  removeEventListener("online", wake);
}

function connect() {
  clearTimeout(timer);
  source?.close();
  const early = window.holdfastEarly; // early.js has begun while we were being loaded
  window.holdfastEarly = undefined;
  const isOpen = early?.source.readyState !== undefined && early.source.readyState !== EventSource.CLOSED;
  const mine = isOpen ? early.source : new EventSource("/api/live");
  source = mine;
  heardMs = performance.now();
  const takers = {};
  const on = (name, take) => {
    takers[name] = take;
    mine.addEventListener(name, (event) => {
      if (source !== mine) return;
      heardMs = performance.now();
      take(JSON.parse(event.data));
    });
  };
  on("state", (whole) => {
    delayMs = FIRST_MS;
    store.replace(whole);
  });
  on("delta", store.apply);
  on("order", store.setOrder);
  mine.onerror = () => {
    if (source === mine) lost();
  };
  if (isOpen) for (const [name, data] of early.events) takers[name](JSON.parse(data));
  if (early) early.events = null;
  watch(mine);
}

function lost() {
  source?.close();
  source = null;
  store.setConnection("lost");
  clearTimeout(timer);
  timer = setTimeout(retry, delayMs * (0.75 + Math.random() / 2));
  delayMs = Math.min(LONGEST_MS, delayMs * 1.7);
}

async function retry() {
  // EventSource does not tell a 401 from a broken line; a question does. No answer at all: try again later.
  let isIn;
  try {
    isIn = await isSignedIn();
  } catch {
    lost();
    return;
  }
  if (isIn) connect();
  else stop();
}

function watch(mine) {
  timer = setTimeout(() => {
    if (source !== mine) return;
    // Nothing may have changed, or the line is dead: a new one tells.
    if (performance.now() - heardMs > SILENT_MS) connect();
    else watch(mine);
  }, 5000);
}

/** A page that is looked at again, or a network that is back, is no time to wait out a delay. */
function wake() {
  if (document.hidden || source !== null) return;
  delayMs = FIRST_MS;
  clearTimeout(timer);
  retry();
}
