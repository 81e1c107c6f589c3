// Which screen does an address mean, and how does one get to another? The History API; the server answers every one of these
// paths with index.html.
//
//   route()            → { screen, params, query }      params: NAME, ID or JID, decoded; query: URLSearchParams
//   go("/workers/web") ; go(path, { isReplacing: true }) ; back("/workers")
//   <a href="/workers/web"> needs nothing more: clicks on links of our own are taken here (not with Ctrl, not target=_blank)
//   workerPath(name), incidentPath(id), jobPath(jid)    → addresses, encoded
//   setQuery({ q: "web" })   changes the address without a new entry in the history

const ROUTES = [
  [/^\/$/, "now"],
  [/^\/workers\/?$/, "workers"],
  [/^\/workers\/([^/]+)$/, "worker", "name"],
  [/^\/incidents\/?$/, "incidents"],
  [/^\/incidents\/([^/]+)$/, "incident", "id"],
  [/^\/bus\/?$/, "bus"],
  [/^\/jobs\/?$/, "jobs"],
  [/^\/jobs\/([^/]+)$/, "job", "jid"],
  [/^\/machine\/?$/, "machine"],
];

export const workerPath = (name) => `/workers/${encodeURIComponent(name)}`;
export const incidentPath = (id) => `/incidents/${encodeURIComponent(id)}`;
export const jobPath = (jid) => `/jobs/${encodeURIComponent(jid)}`;

export function route(path = location.pathname) {
  for (const [pattern, screen, param] of ROUTES) {
    const found = pattern.exec(path);
    if (!found) continue;
    let value = found[1];
    try {
      value = value && decodeURIComponent(value);
    } catch {
      // not what encodeURIComponent makes: as it is
    }
    return { screen, params: param ? { [param]: value } : {}, query: new URLSearchParams(location.search) };
  }
  return { screen: "nowhere", params: {}, query: new URLSearchParams() };
}

let changed = () => {};
let depth = 0;
let wantedTop = null;

/** Where the page was when one went away from this address; once, for whoever has drawn it again (main.js). */
export function takeTop() {
  const top = wantedTop;
  wantedTop = null;
  return top;
}

export function go(path, { isReplacing = false } = {}) {
  if (path === location.pathname + location.search) return;
  if (isReplacing) {
    history.replaceState({ depth }, "", path);
  } else {
    history.replaceState({ depth, top: scrollY }, "");
    depth += 1;
    history.pushState({ depth }, "", path);
    wantedTop = 0;
  }
  changed();
}

/** Go to where one came from; from outside, to `otherwise`. */
export function back(otherwise) {
  if (depth > 0) history.back();
  else go(otherwise);
}

export function setQuery(pairs) {
  const query = new URLSearchParams(location.search);
  for (const [key, value] of Object.entries(pairs)) {
    if (value === null || value === undefined || value === "" || value === false) query.delete(key);
    else query.set(key, value === true ? "1" : value);
  }
  const text = query.toString();
  go(location.pathname + (text ? `?${text}` : ""), { isReplacing: true });
}

export function start(listener) {
  changed = listener;
  depth = history.state?.depth ?? 0;
  history.scrollRestoration = "manual"; // the browser would do it before the table is drawn
  addEventListener("popstate", (event) => {
    depth = event.state?.depth ?? 0;
    wantedTop = event.state?.top ?? 0;
    listener();
  });
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target.closest?.("a[href]");
    if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (route(link.pathname).screen === "nowhere") return; // /api/…, /flame/: the browser's
    event.preventDefault();
    go(link.pathname + link.search);
  });
}
