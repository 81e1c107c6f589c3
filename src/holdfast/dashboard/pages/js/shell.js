// What is around every screen: name of the node, ways to the others, whether we are connected, who one is, theme, keys.
//
// Leaves out the screens (screens/*.js) and where data comes from (live.js, store.js).
import { html, memo } from "./dom.js";
import { LEVEL, useKeys } from "./keys.js";
import { clock } from "./format.js";
import { go } from "./route.js";
import { nowUnixS } from "./store.js";
import { showKeys } from "./dialogs.js";

//: Path, name, letter after `g`, glyph (on a phone), screens that belong to it.
const PLACES = [
  ["/", "Now", "n", "◎", ["now"]],
  ["/incidents", "Incidents", "i", "⚑", ["incidents", "incident"]],
  ["/workers", "Workers", "w", "▤", ["workers", "worker"]],
  ["/bus", "Bus", "b", "⇄", ["bus"]],
  ["/jobs", "Jobs", "j", "☰", ["jobs", "job"]],
  ["/machine", "Machine", "m", "▣", ["machine"]],
];

export function Shell({ state, link, me, screen, onLeave, children }) {
  useKeys(
    "Everywhere",
    [
      ...PLACES.map(([path, name, letter]) => [`g ${letter}`, `go to ${name}`, () => go(path)]),
      ["i", "incidents", () => go("/incidents")],
      ["?", "this help", showKeys],
      ["d", "dark or light", () => window.holdfastTheme.toggle()],
    ],
    LEVEL.shell,
  );
  return html`<a class="skip" href="#main" onClick=${toMain}>Skip to the content</a>
    <header class="top">
      <div class="top-in">
        <a class="brand" href="/"><${Sign} /><span class="brand-name">${state?.node?.name || "Holdfast"}</span></a>
        <nav class="places" aria-label="Screens">
          ${PLACES.map(
            ([path, name, , glyph, screens]) => html`<a key=${path} href=${path} aria-current=${screens.includes(screen) ? "page" : undefined}>
              <span class="place-glyph" aria-hidden="true">${glyph}</span><span>${name}</span><${Count} of=${countOf(name, state)} />
            </a>`,
          )}
        </nav>
        <div class="top-right">
          <${Connection} link=${link} state=${state} />
          <button type="button" class="plain wide-only" onClick=${showKeys} title="Keys (?)" aria-label="Keys">?</button>
          <button type="button" class="plain" onClick=${() => window.holdfastTheme.toggle()} title="Dark or light (d)" aria-label="Dark or light">◐</button>
          ${me?.user && html`<${Person} me=${me} onLeave=${onLeave} />`}
        </div>
      </div>
    </header>
    ${link.is === "lost" && html`<${Lost} link=${link} />`}
    ${link.is !== "lost" && state && state.node.is_up !== false && state.node.keeper_answers === false && html`<div class="banner bad" role="alert">
      <strong>The keeper does not answer.</strong> ${state.node.trouble || "Workers go on; nobody restarts them until it is back."}
    </div>`}
    ${state?.node?.drills && html`<div class="banner care">Drills are allowed on this node: faults may be made on purpose.</div>`}
    <main id="main" tabindex="-1">${children}</main>`;
}

function toMain(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

const Sign = memo(
  () => html`<svg class="sign" viewBox="0 0 32 32" aria-hidden="true"><path d="M10 7v18M22 7v18M10 16h12" /></svg>`,
);

function countOf(name, state) {
  if (!state) return null;
  if (name === "Incidents") {
    const open = (state.incidents ?? []).filter((one) => one.status === "open").length;
    return open ? { amount: open, says: "open" } : null;
  }
  if (name === "Workers") {
    const bad = (state.now?.broken ?? []).length;
    return bad ? { amount: bad, says: "broken" } : null;
  }
  return null;
}

const Count = ({ of }) => (of ? html`<span class="count">${of.amount}<span class="unseen"> ${of.says}</span></span>` : null);

function Connection({ link, state }) {
  if (link.is === "lost") return html`<span class="link bad" role="status"><span aria-hidden="true">✕ </span>not connected</span>`;
  if (link.is === "connecting" || !state) return html`<span class="link" role="status">connecting …</span>`;
  return html`<span class="link" title="Connected: the node is looked at once a second"><span class="pulse" aria-hidden="true">●</span><span class="unseen">connected, </span><span class="num wide-only">${clock(nowUnixS())}</span></span>`;
}

function Lost({ link }) {
  return html`<div class="banner bad" role="alert">
    <strong>Not connected since ${clock(link.sinceMs / 1000)}.</strong> What you see is from then. The workers do not depend on this
    page; it comes back by itself. In a terminal: <code>holdfast status</code>
  </div>`;
}

function Person({ me, onLeave }) {
  return html`<details class="person">
    <summary title="Who you are"><span class="wide-only">${me.user}</span><span class="narrow-only" aria-hidden="true">☺</span><span class="unseen narrow-only">${me.user}</span></summary>
    <div class="menu">
      <p><strong>${me.user}</strong><br /><span class="dim">${me.role === "operator" ? "operator: may order" : "reader: may look"}</span></p>
      ${me.expires_unix_s && html`<p class="dim">signed in until ${clock(me.expires_unix_s)}</p>`}
      <button type="button" class="button" onClick=${showKeys}>Keys</button>
      <button type="button" class="button" onClick=${onLeave}>Sign out</button>
    </div>
  </details>`;
}
