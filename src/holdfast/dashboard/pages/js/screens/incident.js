// What happened? One incident: five answers first, then the timeline, then the evidence to read for oneself.
//
// Text of programs that went wrong is shown as text, never as markup. Files open from the bundle; nothing here changes anything but
// by the buttons (acknowledge, snooze: alerts; the worker's own are on its page).
import { AlertButtons } from "../alerting.js";
import { useGet } from "../api.js";
import { Chart } from "../charts.js";
import { html, useEffect, useState } from "../dom.js";
import { LEVEL, useKeys } from "../keys.js";
import { back, go, incidentPath, setQuery, workerPath } from "../route.js";
import { Ago, Copy, Empty, Facts, Found, Moment, Panel, TabPanel, Tabs, Text, Verdict, stateOf, verdictOf } from "../ui.js";
import { ago, bytes, clock, moment, spanWords, words } from "../format.js";
import { nowUnixS } from "../store.js";

export const title = ({ id }) => `Incident ${id}`;

/** The five answers: key, label, and what is said. */
const answersOf = ({ answers, record, finding }) => [
  ["what", "What broke", upper(answers.what)],
  ["since", "Since when", sinceOf(answers, record)],
  ["why", "Why", upper(finding?.confidence && finding.text ? `${finding.confidence}: ${answers.why}` : answers.why)],
  ["done", "What was done", upper(answers.done)],
  ["helped", "Did it help", upper(answers.helped)],
];
const upper = (text) => (text ? text[0].toUpperCase() + text.slice(1) : "–");

function sinceOf(answers, record) {
  const parts = [`${moment(answers.since_unix_s)}, ${ago(answers.since_unix_s, nowUnixS())}`];
  if (record.lived_s !== null && record.lived_s !== undefined) parts.push(`it had run for ${spanWords(record.lived_s)}`);
  const before = record.cause?.seen_before?.count;
  if (before) parts.push(`${before === 1 ? "once" : `${before} times`} before, since ${clock(record.cause.seen_before.first_unix_s, nowUnixS())}`);
  return parts.join("; ");
}
const STEPS = {
  symptom: ["!", "bad"],
  evidence: ["◉", "quiet"],
  remedy: ["↻", "care"],
  alert: ["✉", "quiet"],
};
/** While the watchdog still looks whether it helped, the page asks again. */
const OPEN_EVERY_MS = 2000;

export function Screen({ state, params, me }) {
  const { id } = params;
  const path = `/api/incidents/${encodeURIComponent(id)}`;
  const live = state?.incidents?.find((row) => row.id === id);
  const [everyMs, setEvery] = useState(OPEN_EVERY_MS);
  const found = useGet(path, { everyMs });
  const verdict = live?.verdict ?? found.data?.record.verdict;
  useEffect(() => {
    // Settled: once more, and then it stands still.
    if (found.data) setEvery(isSettled(found.data) ? 0 : OPEN_EVERY_MS);
  }, [found.data, verdict]);
  // As it is now: the page of an incident that is settled is not asked for again, and its alert goes on.
  const alert = state?.alerts?.find((one) => one.incidents?.includes(id) || isOfAlert(one, found.data?.record));
  const order = neighbours(state?.incidents ?? [], id);
  useKeys(
    "Incident",
    [
      ["u Escape q", "back to the incidents", () => back("/incidents"), { isEither: true }],
      ["J", "the one before", order.older ? () => go(incidentPath(order.older)) : null],
      ["K", "the one after", order.newer ? () => go(incidentPath(order.newer)) : null],
      ["w", "its worker", found.data && found.data.record.worker !== "@node" ? () => go(workerPath(found.data.record.worker)) : null],
      ["D", "download the bundle", found.data ? () => location.assign(`${path}/bundle`) : null],
    ],
    LEVEL.screen,
  );
  return html`<div class="screen incident">
    <p class="crumbs"><a href="/incidents">Incidents</a> / <span class="mono">${id}</span></p>
    <${Found} of=${found} what="the incident">${(data) => html`<${Whole} data=${data} path=${path} me=${me} verdict=${verdict} alert=${alert} state=${state} />`}<//>
  </div>`;
}

//: An alert names its newest incidents only; a worker that has one is not well again, so its later ones belong to it.
const isOfAlert = (alert, record) => Boolean(record) && alert.cause === record.worker && record.opened_unix_s >= alert.since_unix_s - 1;

const isSettled = (data) => ["cured", "came_back", "did_not_help", "gave_up", "closed"].includes(data.record.verdict) || !data.record.verdict;

function neighbours(rows, id) {
  const at = rows.findIndex((row) => row.id === id);
  return at < 0 ? {} : { newer: rows[at - 1]?.id, older: rows[at + 1]?.id };
}

/** How whoever broke is at this moment: a verdict is of the minutes after it, and stays. */
function nowOf(state, { worker: name }) {
  const worker = state?.workers?.[name];
  const flags = (name === "@node" ? state?.flags : worker?.flags) ?? [];
  const raised = flags.filter((flag) => flag.worker === name).map((flag) => words(flag.flag));
  if (name === "@node") return raised.length ? `Now: ${raised.join(", ")}` : "Now: nothing is wrong with the machine";
  if (!worker) return "";
  const since = worker.pid && worker.started_at_unix_s ? ` for ${spanWords(nowUnixS() - worker.started_at_unix_s)}` : "";
  return `Now: ${stateOf(worker).word}${since}${raised.length ? `; ${raised.join(", ")}` : ""}`;
}

function Whole({ data, path, me, verdict, alert, state }) {
  const { record } = data;
  const isNow = nowOf(state, record);
  return html`
    <header class="incident-head">
      <h1>${record.title}</h1>
      <div class="incident-side">
        <${Verdict} is=${verdict} />
        <${Ago} at=${record.opened_unix_s} />
      </div>
    </header>
    <dl class="answers">
      ${answersOf(data).map(([key, label, says]) => html`<div key=${key} class=${`answer ${key}`}><dt>${label}</dt>
        <dd>${key === "helped" && html`<${Verdict} is=${verdict} /> · `}${says}${key === "helped" && isNow && html`<span class="is-now">${isNow}</span>`}</dd></div>`)}
    </dl>
    <div class="buttons wrap">
      ${data.worker_exists && html`<a class="button" href=${workerPath(record.worker)}>Worker ${record.worker}</a>`}
      ${data.profile && html`<a class="button" href=${flamePath(data.profile, record)} target="_blank" rel="noopener">Flame graph</a>`}
      <a class="button" href=${`${path}/bundle`} download>Download the bundle</a>
      <a class="button" href=${`${path}/text`} target="_blank" rel="noopener">Plain text</a>
      <${Copy} text=${shareText(data)} says="Copy for chat" />
      <${AlertButtons} alert=${alert} me=${me} />
    </div>
    <div class="columns">
      <${Panel} title="Timeline"><${Timeline} rows=${data.timeline} /><//>
      <${Panel} title="What changed"><${Changed} rows=${data.changed} began=${data.began} /><//>
    </div>
    ${data.chart?.at_unix_s?.length > 1 && html`<${Charts} chart=${data.chart} at=${record.opened_unix_s} />`}
    <${Reasons} finding=${data.finding} />
    <${Evidence} data=${data} path=${path} />
  `;
}

const flamePath = (profile, record) => `/flame/#profileURL=${encodeURIComponent(profile.speedscope)}&title=${encodeURIComponent(record.title)}`;

function shareText(data) {
  const lines = answersOf(data).map(([, label, says]) => `${label}: ${says}`);
  return [data.record.title, ...lines, `${location.origin}${incidentPath(data.record.id)}`].join("\n");
}

function Timeline({ rows }) {
  if (!rows.length) return html`<${Empty}>Nothing was written down about it.<//>`;
  return html`<ol class="timeline">
    ${rows.map((row, at) => {
      const [glyph, level] = row.verdict ? marksOf(row.verdict) : (STEPS[row.step] ?? ["·", "quiet"]);
      return html`<li key=${at} class="step">
        <span class=${`state ${level}`}><span class="glyph" aria-hidden="true">${glyph}</span>${words(row.step)}</span>
        <${Moment} at=${row.at_unix_s} />
        <span class="step-says">${row.says}</span>
      </li>`;
    })}
  </ol>`;
}

function marksOf(verdict) {
  const [glyph, , level] = verdictOf(verdict);
  return [glyph, level];
}

/** What fails again and again is compared with a start that had failed as well; what changed before the first time tells more. */
function Changed({ rows, began }) {
  const isFirst = !began?.changed.length;
  const list = (some) => html`<ul class="changed">${some.map((says, at) => html`<li key=${at}>${says}</li>`)}</ul>`;
  const first = !isFirst && html`<p class="dim changed-head">Before <a href=${incidentPath(began.id)}>the first time</a>, <${Moment} at=${began.opened_unix_s} />:</p>${list(began.changed)}`;
  if (!rows?.length) {
    if (!isFirst) return html`${first}<p class="dim changed-head">Nothing since.</p>`;
    return html`<${Empty}>Nothing that we look at: interpreter, packages, configuration, files of the application, kernel, limits.<//>`;
  }
  return html`${list(rows)}${first}`;
}

function Charts({ chart, at }) {
  const marks = chart.marks?.length ? chart.marks : [{ at_unix_s: at, says: "it was noticed" }];
  const shown = [
    ["rss_bytes", "Memory", "bytes"],
    ["cpu", "Processor", "share"],
    ["lag_ms", "Loop lag", "ms"],
    ["tasks", "Tasks", "number"],
  ].filter(([key]) => chart[key]?.some((value) => value !== null && value !== 0));
  return html`<${Panel} title="The minutes around it">
    <div class="charts">
      ${shown.map(([key, label, unit]) => html`<${Chart} key=${key} title=${label} unit=${unit} at=${chart.at_unix_s} values=${chart[key]} marks=${marks} starts=${chart.starts ?? []} />`)}
    </div>
  <//>`;
}

function Reasons({ finding }) {
  if (!finding?.because?.length) return null;
  return html`<${Panel} title="What else speaks for it" aside=${finding.rests_on?.length ? html`<span class="dim">the finding rests on ${finding.rests_on.join(", ")}</span>` : null}>
    <ul class="because">${finding.because.map((one, at) => html`<li key=${at}>${one.says} <span class="dim">${[one.confidence, ...one.rests_on].filter(Boolean).join(", ")}</span></li>`)}</ul>
  <//>`;
}

function Evidence({ data, path }) {
  const tabs = [
    ["story", "The story"],
    ["stacks", "Stacks", data.stacks],
    ["log", "Log", data.log?.length],
    ["files", `Files (${data.files.length})`],
    ["facts", "Facts"],
  ].filter(([, , isThere]) => isThere !== undefined ? isThere : true);
  const wanted = new URLSearchParams(location.search).get("show");
  const [chosen, setChosen] = useState(tabs.some(([id]) => id === wanted) ? wanted : "story");
  const choose = (id) => {
    setChosen(id);
    setQuery({ show: id === "story" ? "" : id });
  };
  return html`<${Panel} title="Evidence">
    <${Tabs} label="Evidence" tabs=${tabs.map(([id, says]) => [id, says])} chosen=${chosen} onChoose=${choose} base="evidence" />
    <${TabPanel} base="evidence" id=${chosen}>
      ${chosen === "story" && html`<${Text} text=${data.story} label="The story of the incident" />`}
      ${chosen === "stacks" && html`<${Text} text=${data.stacks} label="Stacks of all threads" />`}
      ${chosen === "log" && html`<${Text} text=${logText(data.log)} label="The last log lines before it" />`}
      ${chosen === "files" && html`<${Files} files=${data.files} path=${path} />`}
      ${chosen === "facts" && html`<${Record} record=${data.record} />`}
    <//>
  <//>`;
}

const logText = (lines) => lines.map((line) => (typeof line === "string" ? line : `${moment(line.at_unix_s).slice(11)} ${line.stream === "err" ? "!" : " "} ${line.text}`)).join("\n");

function Files({ files, path }) {
  const [open, setOpen] = useState(null);
  return html`<ul class="files">
      ${files.map(
        (file) => html`<li key=${file.name}>
          <button type="button" class="plain file-name" aria-expanded=${open === file.name} onClick=${() => setOpen(open === file.name ? null : file.name)}>${file.name}</button>
          <span class="dim">${bytes(file.bytes)}</span>
          <a href=${`${path}/files/${file.name.split("/").map(encodeURIComponent).join("/")}`} download>download</a>
          ${open === file.name && html`<${File} path=${`${path}/files/${file.name.split("/").map(encodeURIComponent).join("/")}`} name=${file.name} size=${file.bytes} />`}
        </li>`,
      )}
    </ul>`;
}

const LARGEST_SHOWN = 512 * 1024;

function File({ path, name, size }) {
  const [text, setText] = useState(null);
  useEffect(() => {
    const stop = new AbortController();
    if (size > LARGEST_SHOWN) {
      setText("This file is too large to be shown here: download it.");
      return undefined;
    }
    fetch(path, { signal: stop.signal, credentials: "same-origin" })
      .then(async (answer) => setText(answer.ok ? await answer.text() : `The file cannot be read (status ${answer.status}).`))
      .catch((error) => error.name !== "AbortError" && setText("The dashboard does not answer."));
    return () => stop.abort();
  }, [path]);
  return html`<${Text} text=${text ?? "Reading …"} label=${name} />`;
}

function Record({ record }) {
  const rows = [
    ["id", html`<span class="mono">${record.id}</span>`],
    ["kind", words(record.kind)],
    ["opened", html`<${Moment} at=${record.opened_unix_s} />`],
    ["life", record.start],
    ["pid", record.pid],
    ["ended", record.status_words],
    ["had run for", record.lived_s === null || record.lived_s === undefined ? null : `${record.lived_s} s`],
    ["restarts before", record.restarts],
    ["signature", html`<span class="mono">${record.signature}</span>`],
    ["seen before", record.cause?.seen_before?.count ? html`${record.cause.seen_before.count} times, last in <a href=${incidentPath(record.cause.seen_before.last)}>${record.cause.seen_before.last}</a>` : null],
    ["path", html`<span class="mono">${record.path}</span>`],
  ];
  return html`<${Facts} rows=${rows} />`;
}
