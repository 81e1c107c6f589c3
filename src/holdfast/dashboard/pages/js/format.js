// How do figures read to a person? The same words as in the terminal (holdfast/cli/words.py): 3m12s, 9.4M, 12%.
//
// Pure: no element, no clock. null and undefined are unknown and read "–".

export const NONE = "–";
const isUnknown = (value) => value === null || value === undefined || Number.isNaN(value);
const two = (value) => String(value).padStart(2, "0");

/** A span: 0.3s, 42s, 3m12s, 4h05m, 12d03h. */
export function span(seconds) {
  if (isUnknown(seconds)) return NONE;
  const value = Math.max(0, seconds);
  if (value < 9.95) return `${value.toFixed(1)}s`;
  const whole = Math.floor(value);
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m${two(whole % 60)}s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)}h${two(Math.floor((whole % 3600) / 60))}m`;
  const days = Math.floor(whole / 86400);
  return days < 100 ? `${days}d${two(Math.floor((whole % 86400) / 3600))}h` : `${days}d`;
}

/** A span in words that stands in a sentence: 0.3 s, 40 s, 3 min, 2 h 5 min, 3 days. */
export function spanWords(seconds) {
  if (isUnknown(seconds)) return "unknown";
  if (seconds > 0 && seconds < 0.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) {
    const minutes = Math.floor((whole % 3600) / 60);
    return minutes ? `${Math.floor(whole / 3600)} h ${minutes} min` : `${Math.floor(whole / 3600)} h`;
  }
  const days = Math.floor(whole / 86400);
  return days === 1 ? "1 day" : `${days} days`;
}

/** How long ago: "just now", "40 s ago", "3 min ago", "2 h ago". */
export function ago(unixS, nowS) {
  if (isUnknown(unixS)) return NONE;
  const seconds = nowS - unixS;
  if (seconds < 2) return "just now";
  return seconds < 3600 || seconds >= 86400 ? `${spanWords(seconds)} ago` : `${Math.floor(seconds / 3600)} h ago`;
}

/** Bytes: 312K, 9.4M, 1.2G. */
export function bytes(count) {
  if (isUnknown(count)) return NONE;
  let value = count;
  for (const unit of "BKMGT") {
    if (value < 9.95 && unit !== "B" && unit !== "K") return `${value.toFixed(1)}${unit}`;
    if (value < 999.5) return `${Math.round(value)}${unit}`;
    value /= 1024;
  }
  return `${Math.round(value)}P`;
}

/** A share of one core, or of anything: 4.2%, 85%. */
export const share = (value) => (isUnknown(value) ? NONE : value < 0.0995 ? `${(value * 100).toFixed(1)}%` : `${Math.round(value * 100)}%`);

/** A number in few characters: 0.25, 8.4, 312, 12.3k. */
export function number(value) {
  if (isUnknown(value)) return NONE;
  const size = Math.abs(value);
  if (size >= 1e6) return `${(value / 1e6).toFixed(1)}M`;
  if (size >= 1e4) return `${(value / 1e3).toFixed(1)}k`;
  if (Number.isInteger(value) || size >= 100) return String(Math.round(value));
  return size >= 10 ? value.toFixed(1) : String(Number(value.toFixed(2)));
}

const whole = new Intl.NumberFormat("en");

/** "1,000". */
export const grouped = (amount) => whole.format(amount);

/** "1 worker", "7 workers", "1,000 workers". */
export const count = (amount, noun) => `${whole.format(amount)} ${noun}${amount === 1 ? "" : "s"}`;

/** A clock time of today, else with its day: 14:03:07, Nov 3 14:03:07. In the time zone of whoever looks. */
export function clock(unixS, nowS) {
  if (isUnknown(unixS)) return NONE;
  const at = new Date(unixS * 1000);
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  const isToday = new Date((nowS ?? Date.now() / 1000) * 1000).toDateString() === at.toDateString();
  return isToday ? time : `${at.toLocaleString("en", { month: "short", day: "numeric" })} ${time}`;
}

/** A moment in full, for titles: 2024-11-03 14:03:07. */
export function moment(unixS) {
  if (isUnknown(unixS)) return "unknown";
  const at = new Date(unixS * 1000);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** A name from the wire in words: gave_up → gave up. */
export const words = (name) => (name ? String(name).replaceAll("_", " ") : NONE);
