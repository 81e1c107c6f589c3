// What the page consists of, and what it shows when: signing in, who is online, search, activity, and how it stands.

import { backoff, Bus, Outbox, pause } from "./bus.js";
import { Board } from "./board.js";
import { hueOf } from "./page.js";
import { Pointers } from "./pointers.js";

const find = (selector) => document.querySelector(selector);
const show = (view) => {
  document.body.dataset.view = view;
  find("#sign-in").hidden = view !== "sign-in";
  find("#missing").hidden = view !== "missing";
};

if (typeof Wampy === "undefined") show("missing");
else start();

function start() {
  const bus = new Bus();
  const outbox = new Outbox(bus);
  const board = new Board(bus, outbox);
  new Pointers(bus, board);
  showState(bus, outbox);
  signIn(bus);
  showOnline(bus);
  search(bus, board);
  activity(bus);
  addEventListener("online", () => bus.retryNow());
  document.addEventListener("visibilitychange", () => document.hidden || bus.retryNow());
  bus.run();
}

function showState(bus, outbox) {
  const status = find("#status");
  const tell = () => {
    const waiting = outbox.pending.length;
    document.body.dataset.state = bus.state;
    document.body.dataset.waiting = waiting;
    let text = "";
    if (bus.state === "reconnecting") text = waiting ? `Reconnecting… ${waiting} ${waiting === 1 ? "change is" : "changes are"} kept` : "Reconnecting…";
    else if (waiting) text = "Saving…";
    status.firstElementChild.textContent = text;
    status.classList.toggle("told", text !== "");
  };
  bus.addEventListener("state", tell);
  outbox.addEventListener("change", tell);
  tell();
}

function signIn(bus) {
  const form = find("#sign-in form");
  const error = form.querySelector(".error");
  const button = find("#sign-out");
  const attempt = async (name, password) => {
    error.textContent = "";
    form.inert = true;
    try {
      await bus.signIn(name, password);
      form.reset();
    } catch (failure) {
      error.textContent = failure.uri ? failure.message : "The site cannot be reached just now. Please try again.";
    } finally {
      form.inert = false;
    }
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(form.elements.name.value.trim(), form.elements.password.value);
  });
  find("#demo").addEventListener("click", () => attempt("demo", ""));
  button.addEventListener("click", () => bus.signOut());
  bus.addEventListener("join", () => {
    button.title = `Signed in as ${bus.name}`;
    document.body.dataset.name = bus.name;
    show("board");
  });
  bus.addEventListener("state", () => {
    if (bus.state !== "signed-out") return;
    show("sign-in");
    form.elements.name.focus();
  });
}

function showOnline(bus) {
  const list = find("#online");
  let newest = 0;
  const tell = (names) => {
    const others = names.filter((name) => name !== bus.name);
    const shown = [bus.name, ...others].slice(0, 6);
    list.replaceChildren(...shown.map((name) => {
      const item = document.createElement("li");
      const face = document.createElement("span");
      face.setAttribute("aria-hidden", "true");
      face.textContent = initials(name);
      const whole = document.createElement("span");
      whole.className = "unseen";
      whole.textContent = name === bus.name ? `${name} (you)` : name;
      item.append(face, whole);
      item.title = whole.textContent;
      item.dataset.name = name;
      item.style.setProperty("--hue", hueOf(name));
      return item;
    }));
    const more = others.length + 1 - shown.length;
    if (more > 0) {
      const item = document.createElement("li");
      item.className = "more";
      item.textContent = `+${more}`;
      item.title = others.slice(5).join(", ");
      list.append(item);
    }
    list.dataset.count = others.length + 1;
  };
  bus.subscribe("clandeck.presence.on_change", ([names]) => {
    newest++;
    tell(names);
  });
  bus.addEventListener("join", async () => {
    const asked = ++newest;
    try {
      const names = await bus.insist("clandeck.presence.list");
      if (asked === newest) tell(names);
    } catch (failure) {
      console.warn("who is online:", failure.message);
    }
  });
}

function initials(name) {
  const words = name.split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  return (words.length > 1 ? words[0][0] + words[1][0] : name.slice(0, 2)).toUpperCase();
}

function search(bus, board) {
  const input = find("#search");
  let round = 0;
  const look = async (wait) => {
    const mine = ++round;
    await pause(wait);
    for (let attempt = 1; mine === round; attempt++) {
      const text = input.value.trim();
      if (!text) {
        board.show(null);
        input.classList.remove("away");
        input.removeAttribute("title");
        return;
      }
      try {
        const found = await bus.call("clandeck.search.find", text);
        if (mine !== round) return;
        input.classList.remove("away");
        input.title = `${found.length} found`;
        board.show(new Set(found));
        return;
      } catch (failure) {
        // The search alone is away: everything else goes on, and this comes back.
        input.classList.add("away");
        input.title = "The search is away; trying again";
        if (!failure.isPassing) return;
        await pause(backoff(attempt, 1500));
      }
    }
  };
  input.addEventListener("input", () => look(120));
  bus.subscribe("clandeck.board", () => input.value && look(400), { match: "prefix" });
  bus.addEventListener("join", () => input.value && look(0));
}

function activity(bus) {
  const panel = find("#activity");
  const button = find("#activity-button");
  let round = 0;
  const says = {
    add: (entry) => `added “${entry.text}”`,
    move: (entry) => `moved a card to ${{ todo: "To do", doing: "Doing", done: "Done" }[entry.column]}`,
    edit: (entry) => `wrote “${entry.text}”`,
    delete: (entry) => `deleted “${entry.text}”`,
    begin: () => "came back",
  };
  const look = async (wait) => {
    if (panel.hidden) return;
    const mine = ++round;
    await pause(wait);
    for (let attempt = 1; mine === round && !panel.hidden; attempt++) {
      try {
        const entries = await bus.call("clandeck.audit.recent", 40);
        panel.querySelector(".hint").textContent = entries.length ? "" : "Nothing has happened yet.";
        panel.querySelector("ol").replaceChildren(...entries.filter((entry) => says[entry.what]).map((entry) => {
          const item = document.createElement("li");
          const who = document.createElement("b");
          who.textContent = entry.by ?? "the board";
          who.style.setProperty("--hue", hueOf(entry.by ?? ""));
          const when = document.createElement("time");
          when.dateTime = new Date(entry.at_unix_s * 1000).toISOString();
          when.textContent = new Date(entry.at_unix_s * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
          item.append(when, " ", who, ` ${says[entry.what](entry)}`);
          return item;
        }));
        return;
      } catch (failure) {
        panel.querySelector(".hint").textContent = "The audit is away; trying again.";
        if (!failure.isPassing) return;
        await pause(backoff(attempt, 1500));
      }
    }
  };
  button.addEventListener("click", () => {
    panel.hidden = !panel.hidden;
    button.setAttribute("aria-expanded", String(!panel.hidden));
    look(0);
  });
  bus.subscribe("clandeck.board", () => look(500), { match: "prefix" });
  bus.addEventListener("join", () => look(0));
}
