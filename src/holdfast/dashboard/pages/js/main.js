// Where does it all begin? Signs in, connects, and shows the screen that the address means, anew after each change.
//
// A screen is screens/NAME.js; it exports
//   Screen({ state, params, query, me })    called after each change of the state (once a second), of the address, or of who one is
//   title(params)                           the title of the page
// and is loaded when it is first shown. `state` is that of /api/state (store.js) and never null here.
import * as live from "./live.js";
import * as route from "./route.js";
import * as store from "./store.js";
import { Guard, h, html, keepingFocus, render } from "./dom.js";
import { Failure, get, onSignedOut, post } from "./api.js";
import { Dialogs, toast } from "./dialogs.js";
import { Failed, Loading } from "./ui.js";
import { Shell } from "./shell.js";
import { start as startKeys } from "./keys.js";

const root = document.getElementById("page");
root.replaceChildren(); // the words that stand there until this runs
let me = null; // as /api/me says; null: not asked yet
let frame = 0;
let isReady = false;
let drawnMs = 0;
let shownPath = null;
const screens = {};

function loaded(name) {
  const known = screens[name];
  if (known) return known;
  const made = { module: null, error: null };
  screens[name] = made;
  import(`./screens/${name}.js`).then(
    (module) => {
      made.module = module;
      paint();
    },
    (error) => {
      console.error(error);
      made.error = new Failure("This screen could not be loaded", "Reload the page; the dashboard may have been started again with another version.");
      paint();
    },
  );
  return made;
}

function Place({ state, place }) {
  const { module, error } = loaded(place.screen);
  if (error) return html`<${Failed} error=${error} again=${() => location.reload()} />`;
  if (!module || !state) return html`<${Loading} what="the node" />`;
  document.title = `${sign(state)}${module.title(place.params)} · ${state.node.name || "Holdfast"}`;
  isReady = true;
  const broken = (failure, again) => html`<${Failed} error=${new Failure("This screen broke", String(failure?.message ?? failure))} again=${again} />`;
  // By place: what a screen remembers (a tab, a filter) belongs to the thing that it shows.
  return h(Guard, { key: location.pathname, fallback: broken }, h(module.Screen, { state, params: place.params, query: place.query, me }));
}

/** What the tab of a page says that nobody looks at. */
function sign(state) {
  if (store.connection().is === "lost") return "✕ ";
  return { trouble: "✕ ", lost: "✕ ", care: "! " }[state.now?.level] ?? "";
}

function App() {
  const place = route.route();
  const isOut = me !== null && !me.user;
  if (isOut) {
    const { module } = loaded("enter");
    document.title = module ? module.title() : "Holdfast";
    return html`${module && h(module.Screen, { me, onEntered: entered })}<${Dialogs} />`;
  }
  const state = store.get();
  return html`<${Shell} state=${state} link=${store.connection()} me=${me} screen=${place.screen} onLeave=${leave}>
      <${Place} state=${state} place=${place} />
    <//><${Dialogs} />`;
}

function draw() {
  frame = 0;
  const startMs = performance.now();
  drawnMs = startMs;
  keepingFocus(() => render(h(App), root));
  arrived();
  const spentMs = performance.now() - startMs + store.takeSpentMs();
  if (isReady && !performance.getEntriesByName("holdfast ready").length) performance.mark("holdfast ready");
  performance.clearMeasures("holdfast update"); // a page that is open for days keeps one, not a million
  performance.measure("holdfast update", { start: performance.now() - spentMs, duration: spentMs });
}

/** On another screen: begin at its top, or where one was; who hears the page goes on from its beginning. */
function arrived() {
  if (!isReady) return;
  const top = route.takeTop();
  if (top !== null) scrollTo(0, top);
  if (shownPath !== null && shownPath !== location.pathname) document.getElementById("main")?.focus({ preventScroll: true });
  shownPath = location.pathname;
}

/** Draw in the next frame; a page that nobody sees is drawn when it is seen. */
function paint() {
  frame ||= requestAnimationFrame(draw);
}

async function ask() {
  me = await get("/api/me");
  paint();
  return Boolean(me.user);
}

async function entered() {
  if (await ask()) connect();
}

function connect() {
  live.start(async () => {
    const isIn = await ask();
    if (!isIn) out();
    return isIn;
  });
}

function out() {
  live.stop();
  store.clear();
  paint();
}

async function leave() {
  try {
    await post("/api/leave", {});
  } catch (failure) {
    toast(failure.message, { kind: "bad" });
    return;
  }
  await ask();
  out();
}

/** A one-time link has its token behind `#`, where it is in no log and no Referer. It leaves the address before anything else. */
async function enterByLink() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return;
  history.replaceState(history.state, "", location.pathname + location.search);
  try {
    await post("/api/enter", { token });
  } catch (failure) {
    toast([failure.message, failure.hint].filter(Boolean).join(": "), { kind: "bad" });
  }
}

let isAsking = false;
onSignedOut(async () => {
  if (isAsking) return;
  isAsking = true;
  try {
    if (!(await ask())) out();
  } catch {
    // the dashboard is away; live.js says so and asks again
  } finally {
    isAsking = false;
  }
});

async function begin() {
  startKeys();
  route.start(paint);
  store.subscribe(paint);
  document.addEventListener("visibilitychange", paint);
  // Without news the clock goes on: "3 min ago" has to stay true.
  setInterval(() => performance.now() - drawnMs > 1500 && paint(), 1000);
  loaded(route.route().screen);
  await enterByLink();
  if (live.hasBegun()) connect(); // early.js got through: somebody is signed in
  for (let wait = 300; ; wait = Math.min(5000, wait * 2)) {
    try {
      if (!(await ask())) out();
      else if (!live.isOn()) connect();
      return;
    } catch {
      store.setConnection("lost");
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
}

begin();
