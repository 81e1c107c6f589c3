// Which keys does the page know, and which are known right now? The same letters as `holdfast top`.
//
// A component says what it takes; the innermost level that knows a key gets it, and `?` (dialogs.js) shows them all:
//
//   useKeys("Workers", [
//     ["r", "restart it", () => …],
//     ["g n", "go to Now", () => …],               two keys after another
//     ["j ArrowDown", "one row down", () => …, { isEither: true }],   one or the other
//   ], LEVEL.screen);
//
// Nothing is taken while somebody types, while a dialog is open, or with Ctrl, Alt or Meta. A person who uses speech input can
// switch letters off (WCAG 2.1.4): `?` has the switch. Names are KeyboardEvent.key: "j", "G", "Enter", "ArrowDown", "Escape".
import { useEffect, useRef } from "./dom.js";

export const LEVEL = { shell: 0, screen: 1, part: 2 };
const PATIENCE_MS = 1000;
const OFF_KEY = "holdfast.keys";
const layers = [];
let first = "";
let timer = 0;

/** Take keys as long as the component is there. An entry whose function is null is not shown and does nothing. */
export function useKeys(section, entries, level = LEVEL.screen) {
  const kept = useRef(entries);
  kept.current = entries;
  useEffect(() => {
    const layer = { section, level, entries: () => kept.current };
    layers.push(layer);
    return () => layers.splice(layers.indexOf(layer), 1);
  }, [section, level]);
}

/** Return [{section, rows: [[keys, says]]}] of what is known now, for the help. */
export function known() {
  const found = new Map();
  for (const layer of [...layers].sort((a, b) => b.level - a.level)) {
    const rows = layer
      .entries()
      .filter(([, , does]) => does)
      .map(([keys, says, , options]) => [options?.isEither ? keys.split(" ") : [keys], says]);
    if (rows.length) found.set(layer.section, [...(found.get(layer.section) ?? []), ...rows]);
  }
  return [...found].map(([section, rows]) => ({ section, rows }));
}

export function areLettersOn() {
  try {
    return localStorage.getItem(OFF_KEY) !== "off";
  } catch {
    return true;
  }
}

export function setLettersOn(isOn) {
  try {
    localStorage.setItem(OFF_KEY, isOn ? "on" : "off");
  } catch {
    // then they stay on: storage is forbidden
  }
}

const isTyping = (element) =>
  element.isContentEditable || element.tagName === "TEXTAREA" || element.tagName === "SELECT" ||
  (element.tagName === "INPUT" && !["checkbox", "radio", "button", "submit"].includes(element.type));

function find(keys) {
  const ordered = layers.map((layer, at) => ({ layer, at })).sort((a, b) => b.layer.level - a.layer.level || b.at - a.at);
  for (const { layer } of ordered) {
    for (const [names, , does, options] of layer.entries()) {
      if (does && (names === keys || (options?.isEither && names.split(" ").includes(keys)))) return does;
    }
  }
  return null;
}

const isFirst = (key) =>
  layers.some((layer) => layer.entries().some(([names, , does, options]) => does && !options?.isEither && names.startsWith(`${key} `)));

function pressed(event) {
  if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
  if (document.querySelector("dialog[open]")) return; // it has keys of its own
  const target = event.target instanceof Element ? event.target : document.body;
  if (isTyping(target)) {
    if (event.key === "Escape") target.blur();
    return;
  }
  const { key } = event;
  // A button or link that has the focus is pressed by Enter and the space bar, whatever else they mean.
  if ((key === "Enter" || key === " ") && target.closest("button, a, summary, [role=tab]")) return;
  if (key.length === 1 && !areLettersOn() && key !== "?") return;
  clearTimeout(timer);
  const does = (first && find(`${first} ${key}`)) || find(key);
  const begins = !first && isFirst(key);
  first = "";
  if (begins) {
    first = key;
    // Alone it may mean something as well: after a moment.
    timer = setTimeout(() => {
      first = "";
      does?.(event);
    }, PATIENCE_MS);
    return;
  }
  if (does) {
    event.preventDefault();
    does(event);
  }
}

export function start() {
  document.addEventListener("keydown", pressed);
}
