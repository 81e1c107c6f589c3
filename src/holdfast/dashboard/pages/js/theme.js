// Dark or light? What the person chose with the switch, else what their system says. Runs before the first paint (it is
// no module, so that it is not deferred), and offers `holdfastTheme` to the switch. Leaves out the colours (app.css).
"use strict";
(() => {
  const KEY = "holdfast.theme";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage may be forbidden; then the system decides
    }
  };
  const show = () => {
    const wanted = chosen();
    const theme = wanted === "dark" || wanted === "light" ? wanted : dark.matches ? "dark" : "light";
    document.documentElement.dataset.theme = theme;
    document.dispatchEvent(new CustomEvent("holdfast-theme", { detail: theme })); // charts are drawn anew
  };
  dark.addEventListener("change", show);
  window.holdfastTheme = {
    get: () => document.documentElement.dataset.theme,
    toggle() {
      const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
      try {
        localStorage.setItem(KEY, next);
      } catch {
        // then it holds until the page is left
      }
      document.documentElement.dataset.theme = next;
      document.dispatchEvent(new CustomEvent("holdfast-theme", { detail: next }));
    },
  };
  show();
})();
