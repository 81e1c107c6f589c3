// How do our modules make elements? Preact with htm (both from vendor/, fetched by script/frontend), from here only.
//
//   import { html, useState } from "./dom.js";
//   const Hello = ({ name }) => html`<p class="dim">Hello ${name}</p>`;
//
// Conventions of all pages:
// - Data is always a child or an attribute in `html`, so it is text. There is no innerHTML and no markup from data anywhere.
// - Looks come from classes (app.css, screens.css); a width that is data goes through style=${{ width: "40%" }} (CSSOM: the
//   content security policy forbids style attributes in HTML text).
// - A component is a function with a capital letter; one with heavy content that rarely changes is wrapped in memo().
// - Names as in the JSON: `*_unix_s` wall clock, `*_s` spans, `*_bytes`; null is "unknown" and is shown as "–" (format.js).
import { Component, Fragment, createContext, h, options, render } from "../vendor/preact.js";
import {
  useCallback,
  useContext,
  useEffect,
  useId,
  useLayoutEffect,
  useMemo,
  useReducer,
  useRef,
  useState,
} from "../vendor/hooks.js";
import htm from "../vendor/htm.js";

export const html = htm.bind(h);
export {
  Component,
  Fragment,
  createContext,
  h,
  render,
  useCallback,
  useContext,
  useEffect,
  useId,
  useLayoutEffect,
  useMemo,
  useReducer,
  useRef,
  useState,
};

/**
 * Draw, and leave the focus where it was: an element that is moved (a row that is sorted anew) loses it, and one that goes away
 * takes it along; whoever has no mouse would begin at the top again, once a second.
 */
export function keepingFocus(draw) {
  const before = document.activeElement;
  const around = [];
  for (let element = before?.parentElement; element; element = element.parentElement) around.push(element);
  draw();
  const isLost = before && before !== document.body && (!document.activeElement || document.activeElement === document.body);
  if (!isLost) return;
  const next = before.isConnected ? before : around.find((element) => element.isConnected && element.tabIndex >= -1 && element.hasAttribute("tabindex"));
  next?.focus({ preventScroll: true });
}

// What components change by themselves is drawn by the library, whenever it likes: then as well.
options.debounceRendering = (drawAll) => queueMicrotask(() => keepingFocus(drawAll));

/** What a button has that cannot be pressed at the moment: not `disabled`, which takes the focus away from whoever has just pressed it. */
export const pressed = (isBusy, does) => ({ "aria-disabled": isBusy ? "true" : undefined, onClick: isBusy ? undefined : does });

/** Whether two objects have the same values under the same keys. */
export function isShallowEqual(a, b) {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => Object.is(a[key], b[key]));
}

/** Return a component that is made anew only when its properties change. The store keeps the identity of what did not change. */
export function memo(component, isSame = isShallowEqual) {
  return class extends Component {
    shouldComponentUpdate(next) {
      return !isSame(this.props, next);
    }

    render(props) {
      return h(component, props);
    }
  };
}

/** Shows what `fallback(error, again)` makes of it when something inside breaks, instead of an empty page. */
export class Guard extends Component {
  componentDidCatch(error) {
    console.error(error);
    this.setState({ error });
  }

  render({ children, fallback }, { error }) {
    return error ? fallback(error, () => this.setState({ error: null })) : children;
  }
}
