// Everybody's mouse: ours goes out, theirs come in. They go from browser to browser, through the router alone.

import { hueOf } from "./page.js";

const TOPIC = "clandeck.pointer";
const EVERY_MS = 40;
const IDLE_MS = 8000;

export class Pointers {
  #bus;
  #board;
  #layer = document.querySelector("#pointers");
  #others = new Map();
  #spot = null;
  #sent = "";
  #sending = false;

  constructor(bus, board) {
    this.#bus = bus;
    this.#board = board;
    bus.subscribe(TOPIC, ([column, share, below, card], { publisher, publisher_authid }) => {
      this.#show(publisher, publisher_authid, column, share, below, card);
    });
    addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse" || board.dragged) {
        this.#spot = board.spotAt(event.clientX, event.clientY);
        this.#send();
      }
    });
    addEventListener("pointerup", () => setTimeout(() => this.#send()));
    const place = () => this.#others.forEach((other) => this.#place(other));
    addEventListener("scroll", place, { capture: true, passive: true });
    addEventListener("resize", place);
    setInterval(() => this.#tidy(), 1000);
  }

  async #send() {
    if (this.#sending || !this.#spot || this.#bus.state !== "joined") return;
    this.#sending = true;
    try {
      // One is on its way at a time: a slow line carries fewer, not later ones.
      for (;;) {
        const { column, share, below } = this.#spot;
        const now = [column, Math.round(share * 1000) / 1000, Math.round(below), this.#board.dragged?.id ?? null];
        if (this.#sent === `${now}` || this.#bus.state !== "joined") break;
        this.#sent = `${now}`;
        await Promise.all([this.#bus.publish(TOPIC, ...now), new Promise((resolve) => setTimeout(resolve, EVERY_MS))]);
      }
    } catch {
      // The connection is being made anew: the next movement is as good as this one.
      this.#sent = "";
    } finally {
      this.#sending = false;
    }
  }

  #show(session, name, column, share, below, card) {
    let other = this.#others.get(session);
    if (!other) {
      const element = document.createElement("div");
      element.className = "pointer";
      element.dataset.name = name;
      element.style.setProperty("--hue", hueOf(name));
      element.innerHTML = '<svg viewBox="0 0 16 20" width="16" height="20"><path d="M1 1l13 11-6 .7L5 19z"/></svg><span></span>';
      element.querySelector("span").textContent = name;
      this.#layer.append(element);
      other = { element, session, name };
      this.#others.set(session, other);
    }
    Object.assign(other, { column, share, below, at: performance.now() });
    const text = this.#board.hold(card, other);
    other.element.querySelector("span").textContent = text ? `${name}: ${text.slice(0, 24)}` : name;
    this.#place(other);
  }

  #place({ element, column, share, below }) {
    const point = this.#board.pointOf(column, share, below);
    if (point) element.style.transform = `translate(${point.x}px, ${point.y}px)`;
  }

  #tidy() {
    for (const [session, other] of this.#others) {
      if (performance.now() - other.at > IDLE_MS) {
        this.#board.hold(null, other);
        other.element.remove();
        this.#others.delete(session);
      }
    }
  }
}
