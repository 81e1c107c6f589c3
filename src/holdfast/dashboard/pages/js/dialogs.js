// What does the page ask, say in passing, and explain about keys? One host (in the shell) shows what anything asks for:
//
//   if (await confirm({ title: "Restart web?", says: "It is ended and started again.", button: "Restart", isGrave: true })) …
//   toast("web is being restarted")        toast("…", { kind: "good" | "bad", href: "/workers/web", link: "look" })
//   showKeys()     showText("Stacks of web", text, href, "what is behind it")
//   <Dialog title="…" onClose=${…}>…</Dialog>    a dialog of one's own: native <dialog>, so focus stays in and Escape closes
import { areLettersOn, known, setLettersOn } from "./keys.js";
import { html, useEffect, useId, useLayoutEffect, useRef, useState } from "./dom.js";

let show = { ask: null, toasts: [], isHelp: false, text: null };
let draw = () => {};
let lastToast = 0;

function change(next) {
  show = { ...show, ...next };
  draw(show);
}

/** Ask; resolves to true or false. */
export function confirm(question) {
  return new Promise((resolve) => {
    change({ ask: { ...question, resolve } });
  });
}

/** Say something in passing; screen readers read it out. What failed stays until it is put away. */
export function toast(says, { kind = "plain", href = "", link = "", forMs = kind === "bad" ? 0 : 8000, key = "" } = {}) {
  lastToast += 1;
  const made = { id: lastToast, says, kind, href, link, key };
  change({ toasts: [...show.toasts.filter((one) => !key || one.key !== key), made].slice(-4) });
  if (forMs) setTimeout(() => dropToast(made.id), forMs);
}

/** Say what failed, and what to do about it. */
export function toastFailure(failure, options = {}) {
  toast([failure.message, failure.hint].filter(Boolean).join(". "), { kind: "bad", ...options });
}

function dropToast(id) {
  change({ toasts: show.toasts.filter((one) => one.id !== id) });
}

export const showKeys = () => change({ isHelp: true });
export const showText = (title, text, href = "", link = "") => change({ text: { title, text, href, link } });

export function Dialog({ title, onClose, children, isWide = false }) {
  const ref = useRef(null);
  const isGone = useRef(false);
  const id = useId();
  useLayoutEffect(() => {
    const before = document.activeElement;
    const dialog = ref.current;
    dialog.showModal();
    return () => {
      isGone.current = true;
      dialog.close(); // as long as it is open, nothing else takes the focus
      if (before instanceof HTMLElement && before.isConnected) before.focus({ preventScroll: true });
    };
  }, []);
  const outside = (event) => {
    if (event.target === ref.current) onClose();
  };
  return html`<dialog ref=${ref} class=${isWide ? "dialog wide" : "dialog"} aria-labelledby=${id} onClose=${() => isGone.current || onClose()} onClick=${outside}>
    <div class="dialog-in">
      <h2 id=${id}>${title}</h2>
      ${children}
    </div>
  </dialog>`;
}

function Question({ ask }) {
  const answer = (isYes) => {
    change({ ask: null });
    ask.resolve(isYes);
  };
  return html`<${Dialog} title=${ask.title} onClose=${() => answer(false)}>
    <p>${ask.says}</p>
    ${ask.detail && html`<p class="dim">${ask.detail}</p>`}
    <div class="buttons end">
      <button type="button" class="button" onClick=${() => answer(false)}>Cancel</button>
      <button type="button" class=${ask.isGrave ? "button bad" : "button first"} autofocus onClick=${() => answer(true)}>${ask.button}</button>
    </div>
  <//>`;
}

function Keys({ onClose }) {
  const [isOn, setOn] = useState(areLettersOn());
  const flip = () => {
    setLettersOn(!isOn);
    setOn(!isOn);
  };
  useEffect(() => {
    const typed = (event) => {
      if (event.key === "?" || event.key === "q") onClose();
    };
    document.addEventListener("keydown", typed);
    return () => document.removeEventListener("keydown", typed);
  }, []);
  return html`<${Dialog} title="Keys" onClose=${onClose} isWide>
    <p class="dim">The same as in <code>holdfast top</code>.</p>
    <div class="keys">
      ${known().map(
        ({ section, rows }) => html`<section key=${section}>
          <h3>${section}</h3>
          <dl>
            ${rows.map(
              ([keys, says]) => html`<div key=${says}>
                <dt>${keys.map((key) => html`<kbd key=${key}>${NAMES[key] ?? key}</kbd> `)}</dt>
                <dd>${says}</dd>
              </div>`,
            )}
          </dl>
        </section>`,
      )}
    </div>
    <div class="buttons spread">
      <label class="check"><input type="checkbox" checked=${isOn} onChange=${flip} /> letters are keys</label>
      <button type="button" class="button" autofocus onClick=${onClose}>Close</button>
    </div>
  <//>`;
}

const NAMES = {
  ArrowDown: "↓", ArrowUp: "↑", ArrowLeft: "←", ArrowRight: "→", Escape: "Esc", PageDown: "PgDn", PageUp: "PgUp",
};
const MARKS = { good: "✓", bad: "✕", plain: "·" };

function Reading({ title, text, href, link, onClose }) {
  return html`<${Dialog} title=${title} onClose=${onClose} isWide>
    <pre class="text tall" tabindex="0" role="region" aria-label=${title}>${text}</pre>
    <div class="buttons end">
      ${href && html`<a class="button first" href=${href} target="_blank" rel="noopener">${link}</a>`}
      <button type="button" class="button" autofocus onClick=${onClose}>Close</button>
    </div>
  <//>`;
}

/** The one place where all this is shown. */
export function Dialogs() {
  const [now, setNow] = useState(show);
  useLayoutEffect(() => {
    draw = setNow;
    setNow(show);
    return () => {
      draw = () => {};
    };
  }, []);
  return html`${now.isHelp && html`<${Keys} onClose=${() => change({ isHelp: false })} />`}
    ${now.text && html`<${Reading} ...${now.text} onClose=${() => change({ text: null })} />`}
    ${now.ask && html`<${Question} ask=${now.ask} />`}
    <div class="toasts" role="status" aria-live="polite">
      ${now.toasts.map(
        (one) => html`<div key=${one.id} class=${`toast ${one.kind}`}>
          <span aria-hidden="true">${MARKS[one.kind]}</span>
          <span class="toast-says">${one.says} ${one.href && html`<a href=${one.href} target=${one.href.startsWith("/flame") ? "_blank" : undefined}>${one.link}</a>`}</span>
          <button type="button" class="plain" aria-label="Put away" onClick=${() => dropToast(one.id)}>✕</button>
        </div>`,
      )}
    </div>`;
}
