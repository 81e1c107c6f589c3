// What may a person order of a worker, how are they asked first, and how do they see what came of it?
//
//   await order("restart", worker, { component, for_s })    asks where that is right, posts, then tells in a toast
//   mayOrder(me, worker)   → the orders that make sense now, in the order of the buttons
//   ORDERS[name]           → { says, meanwhile, key, … } for buttons
//   isUnderWay(name, worker, component)    whoever gave it: two people at two pages see the same
//
// Only an operator sees any of it; the server refuses others whatever the page shows. Progress comes as `order` events
// (live.js); where the connection is lost, the order itself is asked for.
import * as store from "./store.js";
import { confirm, showText, toast, toastFailure } from "./dialogs.js";
import { get, post } from "./api.js";

export const ORDERS = {
  start: { says: "Start", meanwhile: "Starting …", key: "S", under: "is being started" },
  restart: {
    says: "Restart", meanwhile: "Restarting …", key: "r", isGrave: true, under: "is being restarted",
    title: (name) => `Restart ${name}?`,
    asks: "It is asked to end, then ended, and started again at once. Evidence is not taken first; for that: stacks or a profile.",
  },
  profile: { says: "Profile 5 s", meanwhile: "Profiling …", key: "p", under: "is being profiled for 5 s", for_s: 5 },
  stacks: { says: "Stacks", meanwhile: "Taking stacks …", key: "x", under: "is asked for its stacks" },
  stop: {
    says: "Stop", meanwhile: "Stopping …", key: "S", isGrave: true, under: "is being stopped",
    title: (name) => `Stop ${name}?`,
    asks: "It stays down until somebody starts it: nothing restarts it.",
  },
  isolate: {
    says: "Isolate", meanwhile: "Isolating …", isGrave: true, isOfComponent: true, under: "is being isolated",
    title: (name) => `Run ${name} in a process of its own?`,
    asks: "The container is started again as two processes: this component, and all others. So a component that breaks stands alone.",
  },
  join: {
    says: "Join again", meanwhile: "Joining …", isGrave: true, under: "is being joined",
    title: (name) => `Run ${name} as one process again?`,
    asks: "Its parts end, and the container is started as it was written.",
  },
};

export const canOrder = (me) => me?.role === "operator";

/** Return the names of the orders that make sense for a worker as it is; `may` is what the server said of it, if it was asked. */
export function mayOrder(me, worker, may = null) {
  if (!canOrder(me) || !worker) return [];
  const isThere = worker.pid !== null && worker.pid !== undefined;
  if (may) return Object.keys(ORDERS).filter((name) => may.includes(name) && !ORDERS[name].isOfComponent);
  if (isThere) return ["restart", "profile", "stacks", "stop"];
  return worker.state === "backoff" ? ["start", "stop"] : ["start"];
}

export const isUnderWay = (name, worker, component = null) =>
  Object.values(store.orders()).some((one) => one.state === "under way" && one.do === name && one.worker === worker && (one.component ?? null) === component);

export async function order(name, worker, more = {}) {
  const kind = ORDERS[name];
  const target = more.component ? `${worker} / ${more.component}` : worker;
  if (kind.title && !(await confirm({ title: kind.title(target), says: kind.asks, button: kind.says, isGrave: kind.isGrave }))) return null;
  const key = `order ${name} ${target}`;
  try {
    const { order: id } = await post("/api/orders", { do: name, worker, ...(kind.for_s ? { for_s: kind.for_s } : {}), ...more });
    toast(`${target} ${kind.under} …`, { key, forMs: 60_000 });
    const result = await outcome(id);
    tellResult(result, target, key);
    return result;
  } catch (failure) {
    toastFailure(failure, { key });
    return null;
  }
}

//: A profile opens in the page that draws flame graphs, in a tab of its own.
const hrefOf = (url) => (!url?.startsWith("/") ? "" : url.endsWith(".speedscope.json") ? `/flame/#profileURL=${encodeURIComponent(url)}` : url);

function tellResult(result, target, key) {
  const isDone = result.state === "done";
  const href = hrefOf(result.result?.url);
  const link = "Open the flame graph";
  if (result.result?.text) showText(`${target}: ${result.says}`, result.result.text, href, link);
  toast(result.says || (isDone ? `${target}: done` : `${target}: failed`), {
    kind: isDone ? "good" : "bad",
    key,
    href,
    link,
    forMs: isDone && !href ? 8000 : 0,
  });
}

const LONGEST_MS = 120_000;
const LOOK_MS = 1500;

/** Wait for the end of an order: by events, and by asking now and then. */
function outcome(id) {
  return new Promise((resolve, reject) => {
    const began = performance.now();
    let timer = 0;
    const end = (settle, value) => {
      clearTimeout(timer);
      unsubscribe();
      store.dropOrder(id);
      settle(value);
    };
    const take = (one) => {
      if (one && one.state !== "under way") end(resolve, one);
    };
    const unsubscribe = store.subscribe(() => take(store.orders()[id]));
    const ask = async () => {
      try {
        const one = await get(`/api/orders/${encodeURIComponent(id)}`);
        if (one.state !== "under way") return take(one);
      } catch (failure) {
        if (failure.status !== 0 && failure.status !== 503) return end(reject, failure);
      }
      if (performance.now() - began > LONGEST_MS) {
        return end(resolve, { state: "failed", says: "Nothing was heard of the order for two minutes; the worker's page shows how it is." });
      }
      timer = setTimeout(ask, LOOK_MS);
      return undefined;
    };
    timer = setTimeout(ask, LOOK_MS);
    take(store.orders()[id]); // the event may have come before the answer
  });
}
