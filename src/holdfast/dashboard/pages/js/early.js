// What is asked for before anything else is there? The live connection: the node's state is under way while the modules load.
//
// No module, so that it runs at once. live.js takes the connection over, with what has come meanwhile. Somebody who comes by a
// one-time link has no session yet: nothing is asked then.
"use strict";
addEventListener(
  "error",
  (event) => {
    // A module that is not there: a checkout without script/frontend, or a dashboard that has just been killed.
    if (event.target?.localName !== "script") return;
    const place = document.getElementById("page");
    if (place?.querySelector(".boot")) {
      place.firstElementChild.textContent =
        "This page could not be loaded as a whole. Reload it; in a checkout: script/frontend gets what it uses. In a terminal, holdfast status tells the same.";
    }
  },
  true,
);
if (!location.hash.includes("token=")) {
  const source = new EventSource("/api/live");
  const early = { source, events: [] };
  for (const name of ["state", "delta", "order"]) {
    source.addEventListener(name, (event) => early.events?.push([name, event.data]));
  }
  window.holdfastEarly = early;
}
