// What is known about the node right now: the whole of /api/state, kept fresh by deltas.
//
//   get()                 → the state, or null before the first; replaced, never changed in place: what did not change
//                           keeps its identity (`state.workers.web` is the same object until web changes; see memo)
//   replace(whole), apply(delta)   called by live.js only
//   subscribe(listener)   → stop(); called after each change, at most once a frame in a visible page
//   nowUnixS()            → the node's clock, which goes on while we are not connected
//   connection()          → { is: "connecting" | "live" | "lost", sinceMs }
//   orders()              → { ID: {state, says, result} } of orders under way (orders.js)
//
// Screens do not subscribe: they are called with `state` after each change (main.js). Leaves out the network (live.js).

let state = null;
let takenMs = 0;
let link = { is: "connecting", sinceMs: Date.now() };
let underWay = {};
let spentMs = 0;
const listeners = new Set();

export const get = () => state;
export const connection = () => link;
export const orders = () => underWay;

export function nowUnixS() {
  return state ? state.at_unix_s + (performance.now() - takenMs) / 1000 : Date.now() / 1000;
}

export function subscribe(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function tell() {
  for (const listener of listeners) listener();
}

export function replace(whole) {
  state = whole;
  underWay = {}; // what ended while we were not connected is told by nobody; whoever waits for an order asks (orders.js)
  takenMs = performance.now();
  setConnection("live");
  tell();
}

/** Lay the changes over the state. One that is older than what is there is left out. */
export function apply(delta) {
  if (state === null || delta.seq <= state.seq) return;
  const startMs = performance.now();
  const { workers, ...rest } = delta;
  const next = { ...state, ...rest };
  if (workers) next.workers = merged(state.workers, workers);
  state = next;
  takenMs = performance.now();
  setConnection("live");
  spentMs += performance.now() - startMs;
  tell();
}

/** Return the workers with the changed keys of some, without those that are gone (null). */
export function merged(before, changes) {
  const next = { ...before };
  for (const name in changes) {
    const change = changes[name];
    const known = before[name];
    if (change === null) {
      delete next[name];
    } else if (known === undefined) {
      next[name] = change;
    } else {
      // Key by key: a second spread costs the first thousand of these ten times as much.
      const worker = { ...known };
      for (const key in change) worker[key] = change[key];
      next[name] = worker;
    }
  }
  return next;
}

export function setConnection(is) {
  if (link.is === is) return;
  link = { is, sinceMs: Date.now() };
  tell();
}

export function setOrder(order) {
  underWay = { ...underWay, [order.order ?? order.id]: order };
  tell();
}

export function dropOrder(id) {
  const { [id]: _, ...rest } = underWay;
  underWay = rest;
  tell();
}

/** Forget everything: somebody signed out. */
export function clear() {
  state = null;
  underWay = {};
  tell();
}

/** Return the milliseconds that applying has taken since the last question: main.js adds them to those of rendering. */
export function takeSpentMs() {
  const spent = spentMs;
  spentMs = 0;
  return spent;
}
