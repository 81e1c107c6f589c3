// Machine: disk first (a full one stops everything), memory, pressure, top processes, and what changed lately.
import { Ago, Facts, Found, Meter, Panel } from "../ui.js";
import { bytes, number, share, span, spanWords, words } from "../format.js";
import { LEVEL, useKeys } from "../keys.js";
import { back, incidentPath, workerPath } from "../route.js";
import { html } from "../dom.js";
import { nowUnixS } from "../store.js";
import { useGet } from "../api.js";

export const title = () => "Machine";

export function Screen({ state }) {
  const found = useGet("/api/machine", { everyMs: 5000 });
  // What is looked at once a second is newer than the answer, which knows all disks and who uses most.
  const machine = { ...state.machine, disk: found.data?.disk ?? state.machine.disk ?? [] };
  useKeys("Machine", [["Escape q", "back", () => back("/"), { isEither: true }]], LEVEL.screen);
  return html`<div class="screen">
    <div class="screen-head"><h1>Machine</h1><p class="dim">${state.node.host}${found.data ? `, kernel ${found.data.kernel}, up ${span(nowUnixS() - found.data.booted_unix_s)}` : ""}</p></div>
    ${state.flags?.length > 0 && html`<div class="note care" role="status">${state.flags.map((flag) => html`<p key=${flag.flag}><strong>${words(flag.flag)}</strong>: ${flag.says} <span class="dim">for ${spanWords(nowUnixS() - flag.since_unix_s)}</span> ${flag.incident && html`<a href=${incidentPath(flag.incident)}>the incident</a>`}</p>`)}</div>`}
    <${Disks} disks=${machine.disk} />
    <div class="columns">
      <${Memory} memory=${machine.memory} />
      <${Pressure} machine=${machine} />
    </div>
    <${Found} of=${found} what="processes">${(data) => html`<${Processes} rows=${data.top} workers=${state.workers} /><${Changed} changed=${data.changed} />`}<//>
    <${House} rows=${state.house} node=${state.node} />
  </div>`;
}

const levelOf = (used) => (used >= 0.95 ? "bad" : used >= 0.85 ? "care" : "");

function Disks({ disks }) {
  return html`<${Panel} title="Disk">
    ${disks.length
      ? disks.map((disk) => {
          const used = disk.used_share; // of what may be used, like df
          const soon = disk.full_in_s !== null && disk.full_in_s !== undefined;
          return html`<div key=${disk.mount} class="gauge">
            <p><strong class="mono">${disk.mount}</strong> <span class="num">${bytes(disk.free_bytes)}</span> free of <span class="num">${bytes(disk.total_bytes)}</span>, ${share(used)} used${" "}
              ${soon && html`<strong class="state bad"><span class="glyph" aria-hidden="true">✕</span>full in ${spanWords(disk.full_in_s)}</strong>`}</p>
            <${Meter} share=${used} level=${soon ? "bad" : levelOf(used)} />
          </div>`;
        })
      : html`<p class="empty">Nothing is known of the disks. How full they are, and when they will be full, would be here.</p>`}
  <//>`;
}

function Memory({ memory = {} }) {
  const total = memory.total_bytes ?? null;
  const free = memory.available_bytes ?? null;
  const used = total ? 1 - free / total : null;
  const swap = memory.swap_total_bytes ?? null;
  const swapFree = memory.swap_free_bytes ?? null;
  const swapUsed = swap ? 1 - swapFree / swap : null;
  return html`<${Panel} title="Memory">
    <div class="gauge"><p><span class="num">${bytes(free)}</span> available of <span class="num">${bytes(total)}</span>, ${share(used)} used</p><${Meter} share=${used} level=${levelOf(used)} /></div>
    ${swap
      ? html`<div class="gauge"><p>Swap: <span class="num">${bytes(swap - swapFree)}</span> of <span class="num">${bytes(swap)}</span> used</p><${Meter} share=${swapUsed} level=${levelOf(swapUsed)} /></div>`
      : html`<p class="dim">There is no swap.</p>`}
  <//>`;
}

function Pressure({ machine }) {
  const rows = Object.entries(machine.pressure ?? {});
  const load = machine.load ?? [];
  return html`<${Panel} title="Pressure">
    ${rows.length
      ? rows.map(([name, value]) => {
          const of1 = value === null ? null : value / 100; // the kernel's figure of the last ten seconds, in percent
          return html`<div key=${name} class="gauge"><p>Something waited for <strong>${PRESSURES[name] ?? words(name)}</strong> <span class="num">${share(of1)}</span> of the time</p><${Meter} share=${of1} level=${of1 > 0.5 ? "bad" : of1 > 0.2 ? "care" : ""} /></div>`;
        })
      : html`<p class="dim">The kernel does not tell of pressure.</p>`}
    <${Facts} rows=${[["Load", load.length ? load.map((one) => number(one)).join("  ") : null], ["Processors", machine.processors], ["CPU", machine.cpu_share === undefined ? null : share(machine.cpu_share)]]} />
  <//>`;
}

const PRESSURES = { cpu: "processor time", memory: "memory", io: "the disk", irq: "interrupts" };

function Processes({ rows, workers }) {
  return html`<${Panel} title="Top processes" aside=${html`<span class="dim">of all on the machine, not only ours</span>`}>
    ${rows.length
      ? html`<table class="table plain-table">
          <thead><tr><th scope="col" class="name">Process</th><th scope="col" class="right w5">Pid</th><th scope="col" class="right w5">Memory</th><th scope="col" class="right w5">CPU</th></tr></thead>
          <tbody>
            ${rows.map((row) => html`<tr key=${row.pid} class="row"><th scope="row" class="name" title=${row.command}>${workers[row.worker] ? html`<a href=${workerPath(row.worker)}>${row.worker}</a> ` : row.worker ? html`<strong>${row.worker}</strong> ` : ""}<span class="mono dim">${row.command}</span></th><td class="right">${row.pid}</td><td class="right">${bytes(row.rss_bytes)}</td><td class="right">${share(row.cpu_share)}</td></tr>`)}
          </tbody>
        </table>`
      : html`<p class="empty">The processes could not be read. The largest would be here.</p>`}
  <//>`;
}

function Changed({ changed }) {
  const rows = changed ?? [];
  return html`<${Panel} title="What changed">
    ${rows.length
      ? html`<ul class="marks">${rows.map((one) => html`<li key=${`${one.at_unix_s} ${one.says}`}>${one.says} <span class="dim"><${Ago} at=${one.at_unix_s} />${one.worker ? `, ${one.worker}` : ""}</span> ${one.incident && html`<a href=${incidentPath(one.incident)}>${one.incident}</a>`}</li>`)}</ul>`
      : html`<p class="empty">Nothing lately. New packages, another kernel, a configuration that was put into effect, and files that changed before a failure would be here.</p>`}
  <//>`;
}

function House({ rows, node }) {
  return html`<${Panel} title="Holdfast itself" aside=${html`<span class="dim">${node.version ? `version ${node.version}` : ""}</span>`}>
    <ul class="house">
      ${(rows ?? []).map((one) => html`<li key=${one.name}><span class=${`state ${one.pid ? "good" : "bad"}`}><span class="glyph" aria-hidden="true">${one.pid ? "●" : "✕"}</span>${one.name}</span> <span class="dim num">${one.pid ? `pid ${one.pid}, up ${span(one.uptime_s)}, ${bytes(one.rss_bytes)}` : "missing: it is being started again"}</span></li>`)}
    </ul>
  <//>`;
}
