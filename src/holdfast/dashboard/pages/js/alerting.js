// How does a person answer an alert? Acknowledge it, or hear of it later; wherever it is shown, with the same words.
//
//   <AlertButtons alert=${alert} me=${me} isSmall />      nothing for who may only look
//   alertSays(alert)      → "firing", "acknowledged", "snoozed until 15:03:00"
//
// What a button did is seen in the state (`alerts`), which comes by itself; so a button says what is, not what was pressed.
import { html, pressed, useState } from "./dom.js";
import { post } from "./api.js";
import { clock, words } from "./format.js";
import { nowUnixS } from "./store.js";
import { canOrder } from "./orders.js";
import { toast, toastFailure } from "./dialogs.js";

const SNOOZE_S = 3600;

export const alertSays = (alert) =>
  alert.state === "snoozed" && alert.snoozed_until_unix_s ? `snoozed until ${clock(alert.snoozed_until_unix_s, nowUnixS())}` : words(alert.state);

export function AlertButtons({ alert, me, isSmall = false }) {
  const [under, setUnder] = useState("");
  if (!alert || !canOrder(me)) return null;
  const send = async (verb, body, says) => {
    setUnder(verb);
    try {
      await post(`/api/alerts/${encodeURIComponent(alert.id)}`, { do: verb, ...body });
      toast(`${alert.cause}: ${says}`, { kind: "good" });
    } catch (failure) {
      toastFailure(failure);
    }
    setUnder("");
  };
  const looks = isSmall ? "button small" : "button";
  const isKnown = alert.state === "acknowledged";
  const isSnoozed = alert.state === "snoozed";
  return html`
    <button type="button" class=${looks} title="No more word of it until it gets worse or is over"
      ...${pressed(under !== "" || isKnown, () => send("ack", {}, "acknowledged; no more word of it until it gets worse or is over"))}>
      ${under === "ack" ? "Acknowledging …" : isKnown ? "Acknowledged" : "Acknowledge"}</button>
    <button type="button" class=${looks} title="No more word of it for an hour"
      ...${pressed(under !== "" || isSnoozed, () => send("snooze", { for_s: SNOOZE_S }, "snoozed for an hour"))}>
      ${under === "snooze" ? "Snoozing …" : isSnoozed ? "Snoozed" : "Snooze 1 h"}</button>`;
}
