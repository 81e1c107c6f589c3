// Who are you? Shown instead of everything else while nobody is signed in: a password, or a one-time link from the terminal.
import { html, useState } from "../dom.js";
import { post } from "../api.js";

export const title = () => "Sign in · Holdfast";

export function Screen({ me, onEntered }) {
  const ways = me?.ways ?? [];
  const [wrong, setWrong] = useState(null);
  const [isBusy, setBusy] = useState(false);
  const enter = async (body) => {
    setBusy(true);
    setWrong(null);
    try {
      await post("/api/enter", body);
      onEntered();
    } catch (failure) {
      setWrong(failure);
    }
    setBusy(false);
  };
  const byPassword = (event) => {
    event.preventDefault();
    const fields = new FormData(event.target);
    enter({ user: fields.get("user"), password: fields.get("password") });
  };
  const byLink = (event) => {
    event.preventDefault();
    const text = new FormData(event.target).get("link").trim();
    enter({ token: text.includes("token=") ? text.split("token=").pop() : text });
  };
  return html`<main id="main" class="enter">
    <h1><svg class="sign" viewBox="0 0 32 32" aria-hidden="true"><path d="M10 7v18M22 7v18M10 16h12" /></svg>Holdfast</h1>
    ${ways.includes("password") &&
    html`<form class="enter-form" onSubmit=${byPassword}>
      <label>Name<input class="field" name="user" autocomplete="username" autocapitalize="none" spellcheck="false" required autofocus /></label>
      <label>Password<input class="field" name="password" type="password" autocomplete="current-password" required /></label>
      <button type="submit" class="button first" disabled=${isBusy}>Sign in</button>
    </form>`}
    ${ways.includes("link") &&
    html`<form class="enter-form" onSubmit=${byLink}>
      <p>${ways.includes("password") ? "Or by a one-time link." : "You come in by a one-time link."} On the machine of the node, in a terminal:</p>
      <pre class="text">holdfast dashboard</pre>
      <label>It prints a link: open that, or put it here<input class="field" name="link" autocomplete="off" spellcheck="false" required autofocus=${!ways.includes("password")} /></label>
      <button type="submit" class=${ways.includes("password") ? "button" : "button first"} disabled=${isBusy}>Come in</button>
    </form>`}
    ${ways.includes("proxy") && html`<p>The proxy in front of this page says who you are, and it has not.</p>`}
    ${!ways.length && html`<p>Nobody can sign in here: the configuration has neither users nor links.</p>`}
    ${wrong && html`<p class="failed" role="alert"><span aria-hidden="true">✕ </span>${wrong.message}${wrong.hint && html`<br /><span class="dim">${wrong.hint}</span>`}</p>`}
  </main>`;
}
