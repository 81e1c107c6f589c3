// The board: cards in columns, as the site has them, with this browser's own changes that are still on their way on top.

import { speak, toast, hueOf } from "./page.js";

const TITLES = { todo: "To do", doing: "Doing", done: "Done" };
const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class Board {
  #bus;
  #outbox;
  #server = new Map();
  #view = new Map();
  #number = -1;
  #loading = false;
  #again = false;
  #element = document.querySelector("#board");
  #columns = new Map();
  #cards = new Map();
  #held = new Map();
  #found = null;
  #area = null;
  #isRendering = false;
  dragged = null;

  constructor(bus, outbox) {
    this.#bus = bus;
    this.#outbox = outbox;
    for (const name of Object.keys(TITLES)) this.#addColumn(name);
    bus.subscribe("clandeck.board", ([change]) => this.#follow(change), { match: "prefix" });
    bus.addEventListener("join", () => this.#load());
    outbox.addEventListener("change", () => this.#render());
    outbox.addEventListener("done", ({ detail: { what, args, answer } }) => {
      // Where the event comes later than the answer, the card would jump back in between.
      if (answer.number <= this.#number) return;
      if (what === "delete") this.#server.delete(args[0]);
      else this.#server.set(answer.card.id, answer.card);
    });
    outbox.addEventListener("refused", ({ detail }) => {
      toast(detail.text);
      this.#load();
    });
    this.#element.addEventListener("dblclick", (event) => this.#edit(event.target.closest(".card")));
    this.#element.addEventListener("keydown", (event) => this.#key(event));
    this.#element.addEventListener("click", (event) => this.#click(event));
    this.#element.addEventListener("pointerdown", (event) => this.#grab(event));
  }

  // -- what is known ---------------------------------------------------------------------------------

  async #load() {
    this.#again = true;
    if (this.#loading) return;
    this.#loading = true;
    try {
      while (this.#again) {
        this.#again = false;
        const all = await this.#bus.insist("clandeck.board.list");
        // An event may have overtaken the answer; then it is newer.
        if (all.number < this.#number) this.#again = true;
        this.#server = new Map(all.cards.map((card) => [card.id, card]));
        this.#number = all.number;
        this.#render();
        document.body.dataset.loaded = "yes";
      }
    } catch (failure) {
      if (this.#bus.state === "joined") toast(`The board could not be read: ${failure.message}`);
    } finally {
      this.#loading = false;
    }
  }

  #follow(change) {
    if (change.what === "begin" ? change.number !== this.#number : change.number > this.#number + 1) {
      this.#load(); // something was missed
      return;
    }
    if (change.what === "begin" || change.number <= this.#number) return;
    this.#number = change.number;
    if (change.what === "delete") this.#server.delete(change.card);
    else {
      const { column, place, text } = change;
      const news = Object.fromEntries(Object.entries({ column, place, text }).filter(([, value]) => value !== undefined));
      this.#server.set(change.card, { id: change.card, author: change.by, ...this.#server.get(change.card), ...news });
    }
    this.#render();
  }

  #overlay() {
    const view = new Map([...this.#server].map(([id, card]) => [id, { ...card }]));
    for (const { what, args } of this.#outbox.pending) {
      const [id, ...rest] = args;
      const card = view.get(id);
      if (what === "add" && !card) view.set(id, { id, author: this.#bus.name, column: rest[0], place: rest[1], text: rest[2], isWaiting: true });
      else if (what === "move" && card) Object.assign(card, { column: rest[0], place: rest[1], isWaiting: true });
      else if (what === "edit" && card) Object.assign(card, { text: rest[0], isWaiting: true });
      else if (what === "delete") view.delete(id);
    }
    return view;
  }

  #inColumn(name, without) {
    return [...this.#view.values()].filter((card) => card.column === name && card.id !== without)
      .sort((a, b) => a.place - b.place || (a.id < b.id ? -1 : 1));
  }

  #placeAt(column, index, card) {
    const others = this.#inColumn(column, card);
    const before = others[index - 1]?.place;
    const after = others[index]?.place;
    if (before === undefined) return after === undefined ? 0 : after - 1;
    return after === undefined ? before + 1 : (before + after) / 2;
  }

  // -- showing it ------------------------------------------------------------------------------------

  #addColumn(name) {
    const column = document.querySelector("#column").content.cloneNode(true).firstElementChild;
    column.dataset.column = name;
    column.querySelector("h2").id = `column-${name}`;
    column.querySelector("h2 span").textContent = TITLES[name];
    column.querySelector("ol").setAttribute("aria-labelledby", `column-${name}`);
    this.#element.append(column);
    this.#columns.set(name, column);
  }

  #render() {
    // Where everything is now, to let it slide to where it will be.
    const was = new Map([...this.#cards].map(([id, element]) => [id, element.getBoundingClientRect()]));
    const focused = document.activeElement?.closest?.(".card");
    this.#isRendering = true;
    this.#view = this.#overlay();
    for (const [id, element] of this.#cards) {
      if (!this.#view.has(id)) {
        if (element.contains(this.#area)) this.#area = null;
        element.remove();
        this.#cards.delete(id);
      }
    }
    for (const [name, column] of this.#columns) {
      const list = column.querySelector("ol");
      const cards = this.#inColumn(name);
      cards.forEach((card, index) => {
        const element = this.#elementOf(card);
        if (list.children[index] !== element) list.insertBefore(element, list.children[index] ?? null);
      });
      column.querySelector("small").textContent = cards.length;
    }
    if (this.dragged) this.#aim(this.dragged, this.dragged.nowX, this.dragged.nowY);
    this.#isRendering = false;
    // An element that is put elsewhere loses the focus, and whoever is typing must not notice.
    if (this.#area) {
      if (document.activeElement !== this.#area) this.#area.focus({ preventScroll: true });
    } else if (focused?.isConnected && document.activeElement !== focused && !focused.contains(document.activeElement)) focused.focus({ preventScroll: true });
    for (const [id, element] of this.#cards) this.#slide(element, was.get(id));
  }

  #elementOf(card) {
    let element = this.#cards.get(card.id);
    if (!element) {
      element = document.querySelector("#card").content.cloneNode(true).firstElementChild;
      element.dataset.card = card.id;
      this.#cards.set(card.id, element);
    }
    const text = element.querySelector(".text");
    if (text.textContent !== card.text) text.textContent = card.text;
    element.querySelector("small").textContent = card.author;
    element.style.setProperty("--hue", hueOf(card.author));
    element.classList.toggle("waiting", Boolean(card.isWaiting));
    element.classList.toggle("dim", this.#found !== null && !this.#found.has(card.id));
    return element;
  }

  #slide(element, was) {
    if (!was || calm.matches || element === this.dragged?.element) return;
    const is = element.getBoundingClientRect();
    const [x, y] = [was.left - is.left, was.top - is.top];
    if (x || y) element.animate([{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }], { duration: 180, easing: "ease-out" });
  }

  show(found) {
    // The cards that a search has found; null: all.
    this.#found = found;
    this.#render();
  }

  hold(id, by) {
    // Somebody else has this card in hand, or (null) has put it down.
    const before = this.#held.get(by.session);
    if (before && before !== id) {
      this.#cards.get(before)?.classList.remove("held");
      this.#held.delete(by.session);
    }
    const element = id && this.#cards.get(id);
    if (!element) return "";
    this.#held.set(by.session, id);
    element.classList.add("held");
    element.dataset.by = by.name;
    element.style.setProperty("--holder", hueOf(by.name));
    return this.#view.get(id)?.text ?? "";
  }

  // -- changing it -----------------------------------------------------------------------------------

  #move(id, column, index) {
    const card = this.#view.get(id);
    const place = this.#placeAt(column, index, id);
    const others = this.#inColumn(column, id);
    speak(`${card.text.slice(0, 40)}: ${TITLES[column]}, ${Math.min(index, others.length) + 1} of ${others.length + 1}`);
    if (card.column === column && this.#inColumn(column).findIndex((one) => one.id === id) === index) return;
    this.#outbox.put("move", id, column, place);
  }

  #delete(id) {
    const { column, place, text } = this.#view.get(id);
    const element = this.#cards.get(id);
    const next = element.nextElementSibling ?? element.previousElementSibling ?? element.closest(".column").querySelector(".add");
    this.#outbox.put("delete", id);
    next.focus();
    toast(`Deleted “${text.slice(0, 30)}”`, "Undo", () => this.#outbox.put("add", crypto.randomUUID?.() ?? anId(), column, place, text));
  }

  #click(event) {
    const card = event.target.closest(".card");
    if (event.target.closest(".edit")) this.#edit(card);
    else if (event.target.closest(".delete")) this.#delete(card.dataset.card);
    else if (event.target.closest(".add")) this.#add(event.target.closest(".column"));
  }

  #key(event) {
    const element = event.target;
    if (!element.matches(".card") || event.ctrlKey || event.metaKey || event.altKey) return;
    const id = element.dataset.card;
    const { column } = this.#view.get(id);
    const names = [...this.#columns.keys()];
    const index = this.#inColumn(column).findIndex((card) => card.id === id);
    const across = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const along = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (across) {
      const target = names[names.indexOf(column) + across];
      if (target) this.#move(id, target, Math.min(index, this.#inColumn(target).length));
    } else if (along) {
      if (index + along >= 0 && index + along < this.#inColumn(column).length) this.#move(id, column, index + along);
    } else if (event.key === "Enter") this.#edit(element);
    else if (event.key === "Delete") this.#delete(id);
    else return;
    event.preventDefault();
    this.#cards.get(id)?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  #edit(element) {
    if (!element || element.querySelector("textarea")) return;
    const id = element.dataset.card;
    const text = this.#view.get(id).text;
    element.classList.add("editing");
    this.#ask(element, text, (typed) => {
      element.classList.remove("editing");
      if (typed !== null && typed !== text && this.#view.has(id)) this.#outbox.put("edit", id, typed);
      element.focus({ preventScroll: true });
    });
  }

  #add(column) {
    const button = column.querySelector(".add");
    const item = document.createElement("div");
    item.className = "card editing new";
    button.before(item);
    this.#ask(item, "", (typed) => {
      item.remove();
      button.focus({ preventScroll: true });
      const name = column.dataset.column;
      if (typed) this.#outbox.put("add", crypto.randomUUID?.() ?? anId(), name, this.#placeAt(name, this.#inColumn(name).length), typed);
    });
  }

  #ask(element, text, then) {
    const area = document.createElement("textarea");
    area.maxLength = 500;
    area.rows = 3;
    area.value = text;
    area.setAttribute("aria-label", "Text of the card");
    let isOver = false;
    const end = (typed) => {
      if (isOver) return;
      isOver = true;
      this.#area = null;
      area.remove();
      then(typed);
    };
    area.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Escape") end(null);
      else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        end(area.value.trim() || null);
      }
    });
    area.addEventListener("blur", () => {
      if (!this.#isRendering && document.hasFocus()) end(area.value.trim() || null);
    });
    element.prepend(area);
    area.focus();
    this.#area = area;
    area.select();
  }

  // -- dragging --------------------------------------------------------------------------------------

  #grab(event) {
    const element = event.target.closest(".card");
    const isTouch = event.pointerType !== "mouse";
    if (!element || event.button !== 0 || element.classList.contains("editing") || event.target.closest("button, textarea")) return;
    if (isTouch && !event.target.closest(".grip")) return; // a finger on a card scrolls
    const start = element.getBoundingClientRect();
    const drag = { id: element.dataset.card, element, ghost: null, x: event.clientX, y: event.clientY, column: null, index: 0 };
    const move = (now) => {
      if (!drag.ghost) {
        if (Math.hypot(now.clientX - drag.x, now.clientY - drag.y) < 4) return;
        drag.ghost = element.cloneNode(true);
        drag.ghost.classList.add("ghost");
        drag.ghost.style.width = `${start.width}px`;
        document.body.append(drag.ghost);
        element.classList.add("dragged");
        document.body.classList.add("dragging");
        this.dragged = drag;
        this.#scrollAlong(drag);
      }
      drag.ghost.style.transform = `translate(${start.left + now.clientX - drag.x}px, ${start.top + now.clientY - drag.y}px) rotate(2deg)`;
      this.#aim(drag, now.clientX, now.clientY);
    };
    const end = (now) => {
      removeEventListener("pointermove", move);
      removeEventListener("pointerup", end);
      removeEventListener("pointercancel", end);
      removeEventListener("keydown", escape, true);
      if (!drag.ghost) return;
      drag.ghost.remove();
      element.classList.remove("dragged");
      document.body.classList.remove("dragging");
      this.#element.querySelectorAll(".target").forEach((one) => one.classList.remove("target"));
      this.dragged = null;
      if (now?.type === "pointerup" && drag.column && this.#view.has(drag.id)) this.#move(drag.id, drag.column, drag.index);
      else this.#render();
    };
    const escape = (key) => {
      if (key.key === "Escape") end(null);
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", end);
    addEventListener("pointercancel", end);
    addEventListener("keydown", escape, true);
  }

  #aim(drag, x, y) {
    [drag.nowX, drag.nowY] = [x, y];
    const { column } = this.spotAt(x, y);
    const list = this.#columns.get(column).querySelector("ol");
    const others = [...list.children].filter((one) => one !== drag.element);
    const below = others.findIndex((one) => {
      const box = one.getBoundingClientRect();
      return y < box.top + box.height / 2;
    });
    drag.column = column;
    drag.index = below < 0 ? others.length : below;
    for (const [name, element] of this.#columns) element.classList.toggle("target", name === column);
    // The card itself shows where it would be.
    const before = others[drag.index] ?? null;
    if (drag.element.parentElement !== list || drag.element.nextElementSibling !== before) list.insertBefore(drag.element, before);
  }

  #scrollAlong(drag) {
    // What is beyond the edge of the screen comes in while a card is held there.
    if (this.dragged !== drag) return;
    const at = (value, from, to) => (value < from + 40 ? -10 : value > to - 40 ? 10 : 0);
    const column = this.#columns.get(drag.column);
    if (column) {
      const box = column.getBoundingClientRect();
      const before = [column.scrollTop, this.#element.scrollLeft].join();
      column.scrollTop += at(drag.nowY, box.top, box.bottom);
      this.#element.scrollLeft += at(drag.nowX, 0, innerWidth);
      if (before !== [column.scrollTop, this.#element.scrollLeft].join()) this.#aim(drag, drag.nowX, drag.nowY);
    }
    requestAnimationFrame(() => this.#scrollAlong(drag));
  }

  // -- places that mean the same on every screen: a column, a share of its width, pixels below its top -----

  spotAt(x, y) {
    let best = null;
    for (const [column, element] of this.#columns) {
      const box = element.getBoundingClientRect();
      const far = Math.max(box.left - x, 0, x - box.right) + Math.max(box.top - y, 0, y - box.bottom) / 4;
      if (!best || far < best.far) best = { far, column, share: (x - box.left) / box.width, below: y - box.top + element.scrollTop };
    }
    return best;
  }

  pointOf(column, share, below) {
    const element = this.#columns.get(column);
    if (!element) return null;
    const box = element.getBoundingClientRect();
    return { x: box.left + share * box.width, y: box.top + below - element.scrollTop };
  }
}

function anId() {
  // randomUUID is there on https and on localhost only.
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
