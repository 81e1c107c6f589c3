// The page's place on the bus: a connection that comes back by itself, and a queue of changes that waits for it.
//
// Each attempt is a new Wampy, which speaks the protocol; when to try, and with which sign-in, is decided here.
// The first attempt and every later one signs in by the cookie of this browser. Only when the router says that the
// cookie stands for nobody is a person asked.

const REALM = "clandeck";
const LONGEST_PAUSE_MS = 4000;
const ATTEMPT_MS = 6000;
const CALL_MS = 8000;
// What an application or a router that is just being restarted answers; everything else is meant.
const MEANT = new Set(["invalid_argument", "invalid_uri", "not_authorized", "runtime_error", "invalid_payload", "payload_size_exceeded"]);

export function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

export function backoff(attempt, longest = LONGEST_PAUSE_MS) {
  // The first attempt is made at once; a hundred browsers do not come back in step.
  return attempt === 0 ? 0 : Math.min(longest, 60 * 2 ** attempt) * (0.7 + 0.6 * Math.random());
}

export class Failure extends Error {
  constructor(uri, text) {
    super(text || uri);
    this.uri = uri;
    // Worth another attempt: nobody has looked at what was asked.
    this.isPassing = !uri || (uri.startsWith("wamp.") && !MEANT.has(uri.replace("wamp.error.", "")));
  }
}

// Events: "state" (joined, reconnecting, signed-out), "join" (after each sign-in or reconnection).
export class Bus extends EventTarget {
  state = "connecting";
  name = "";
  #wampy = null;
  #socket = null;
  #topics = new Map();
  #wake = null;
  #running = false;

  async run() {
    // Connect by cookie until it holds or nobody is signed in; called again after each loss.
    if (this.#running) return;
    this.#running = true;
    for (let attempt = 0; ; attempt++) {
      await this.#rest(backoff(attempt));
      try {
        await this.#join({ helloCustomDetails: { authmethods: ["cookie"] } });
        break;
      } catch (failure) {
        if (failure.uri === "wamp.error.no_matching_auth_method") {
          this.name = "";
          this.#become("signed-out");
          break;
        }
        this.#become("reconnecting");
      }
    }
    this.#running = false;
    if (this.state === "joined" && !this.#wampy) this.run(); // lost again in the meantime
  }

  async signIn(name, password) {
    // The component that knows the passwords may be on its way back.
    for (let attempt = 0; ; attempt++) {
      await pause(backoff(attempt));
      try {
        return await this.#join({ authid: name, authmethods: ["ticket"], onChallenge: () => password });
      } catch (failure) {
        const isAway = !failure.uri || failure.uri === "wamp.error.authentication_failed";
        if (!isAway || attempt === 7) throw failure;
      }
    }
  }

  signOut() {
    if (this.#socket) this.#socket.isSigningOut = true;
    this.#wampy?.disconnect();
  }

  retryNow() {
    this.#wake?.();
  }

  subscribe(topic, handler, options) {
    // Remembered: made again whenever the connection is. One subscription for all who want the same.
    const key = `${topic} ${options?.match ?? "exact"}`;
    if (!this.#topics.has(key)) this.#topics.set(key, { topic, options, handlers: [] });
    this.#topics.get(key).handlers.push(handler);
  }

  async call(procedure, ...args) {
    if (!this.#wampy) throw new Failure("", "not connected");
    let timer;
    const limit = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Failure("", "no answer")), CALL_MS);
    });
    try {
      const answer = await Promise.race([this.#wampy.call(procedure, args), limit]);
      return answer.argsList?.[0];
    } catch (error) {
      throw failureOf(error);
    } finally {
      clearTimeout(timer);
    }
  }

  async insist(procedure, ...args) {
    // For questions: ask until there is an answer, whoever is being restarted.
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.call(procedure, ...args);
      } catch (failure) {
        if (!failure.isPassing || this.state === "signed-out") throw failure;
        await pause(backoff(attempt + 1, 2000));
      }
    }
  }

  publish(topic, ...args) {
    return this.#wampy ? this.#wampy.publish(topic, args) : Promise.reject(new Failure("", "not connected"));
  }

  async #join(how) {
    let socket;
    class Socket extends WebSocket {
      constructor(url, protocols) {
        super(url, protocols);
        socket = this;
      }

      send(message) {
        // Wampy's GOODBYE always names the same reason; ours makes the router forget the cookie.
        super.send(this.isSigningOut ? message.replace("wamp.close.system_shutdown", "wamp.close.logout") : message);
      }
    }
    const url = new URL("ws", document.baseURI);
    url.protocol = url.protocol.replace("http", "ws");
    const wampy = new Wampy(url.href, { realm: REALM, autoReconnect: false, ws: Socket, ...how });
    const details = await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Failure("", "no answer")), ATTEMPT_MS);
      wampy.setOptions({ onClose: () => reject(new Failure("", "the connection was closed")) });
      wampy.connect().then(resolve, (error) => reject(failureOf(error))).finally(() => clearTimeout(timer));
    }).catch((failure) => {
      socket?.close();
      throw failure;
    });
    wampy.setOptions({ onClose: () => this.#lost(wampy) });
    this.#wampy = wampy;
    this.#socket = socket;
    this.name = details.authid;
    socket.addEventListener("close", () => this.#lost(wampy));
    for (const { topic, options, handlers } of this.#topics.values()) {
      const tell = ({ argsList, details }) => handlers.forEach((handler) => handler(argsList ?? [], details ?? {}));
      wampy.subscribe(topic, tell, options).catch((error) => console.error(`${topic}:`, failureOf(error).message));
    }
    this.#become("joined");
    this.dispatchEvent(new Event("join"));
  }

  #lost(wampy) {
    if (this.#wampy !== wampy) return;
    this.#wampy = this.#socket = null;
    this.#become("reconnecting");
    this.run();
  }

  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }

  #rest(ms) {
    return Promise.race([pause(ms), new Promise((resolve) => { this.#wake = resolve; })]);
  }
}

// Changes that are to be made, in order; they survive a reload of the page and wait as long as it takes.
// Each can be made twice without harm, so one whose answer was lost is simply made again.
export class Outbox extends EventTarget {
  pending = [];
  #bus;
  #busy = false;

  constructor(bus) {
    super();
    this.#bus = bus;
    bus.addEventListener("join", () => this.#open());
    bus.addEventListener("state", () => {
      if (bus.state === "signed-out") this.#replace([]);
    });
  }

  put(what, ...args) {
    const last = this.pending.at(-1);
    const supersedes = what === "move" && last?.what === "move" && last.args[0] === args[0] && !(this.#busy && this.pending.length === 1);
    this.#replace([...(supersedes ? this.pending.slice(0, -1) : this.pending), { what, args }]);
    this.#flush();
  }

  #open() {
    const kept = JSON.parse(sessionStorage.getItem("outbox") ?? "null");
    if (!this.pending.length && kept?.name === this.#bus.name) this.#replace(kept.pending);
    this.#flush();
  }

  async #flush() {
    if (this.#busy) return;
    this.#busy = true;
    for (let attempt = 0; this.pending.length && this.#bus.state === "joined"; ) {
      const first = this.pending[0];
      const { what, args } = first;
      try {
        const answer = await this.#bus.call(`clandeck.board.${what}`, ...args);
        this.dispatchEvent(new CustomEvent("done", { detail: { what, args, answer } }));
      } catch (failure) {
        if (failure.isPassing) {
          await pause(backoff(++attempt, 2000));
          continue;
        }
        this.dispatchEvent(new CustomEvent("refused", { detail: { what, args, text: failure.message } }));
      }
      attempt = 0;
      if (this.pending[0] === first) this.#replace(this.pending.slice(1));
    }
    this.#busy = false;
  }

  #replace(pending) {
    this.pending = pending;
    sessionStorage.setItem("outbox", JSON.stringify({ name: this.#bus.name, pending }));
    this.dispatchEvent(new Event("change"));
  }
}

function failureOf(error) {
  if (error instanceof Failure) return error;
  // Wampy: AbortError has the reason in `errorUri`, CallError in `error`; that of a lost connection has a sentence there.
  const uri = [error?.errorUri, error?.error].find((one) => typeof one === "string" && /^\w+(\.\w+)+$/.test(one)) ?? "";
  return new Failure(uri, error?.argsList?.[0] ?? error?.details?.message ?? error?.message);
}
