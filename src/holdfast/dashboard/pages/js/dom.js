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
import { Component, Fragment, createContext, h, render } from "../vendor/preact.js";
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
