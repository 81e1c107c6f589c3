// What both JavaScript programs need: cases from standard input, a line for each check, payloads.

import { readFileSync } from 'node:fs';

export const TEXT = 'grüße, 世界, 😀, \u0001 \u2028 "quoted\\"';
export const BIG = '0123456789abcdef'.repeat(40_000);
export const BINARY = Buffer.from(Uint8Array.from({ length: 256 }, (_, n) => n)).toString('latin1').repeat(800);
export const SERIALIZERS = ['json', 'msgpack', 'cbor'];

export const cases = () => JSON.parse(readFileSync(0, 'utf8'));

export function report(name, check, what) {
  process.stdout.write(JSON.stringify({ case: name, check, ...what }) + '\n');
}

/** The three payloads; JSON has no binary, so these libraries leave its escape to the application. */
export function payload(serializer) {
  const bytes = Buffer.from(BINARY, 'latin1');
  return [TEXT, BIG, serializer === 'json' ? '\0' + bytes.toString('base64') : bytes];
}

export function same(one, other) {
  if (typeof one === 'string') return one === other;
  return other instanceof Uint8Array && Buffer.compare(one, Buffer.from(other.buffer, other.byteOffset, other.byteLength)) === 0;
}

export function within(seconds, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done within ${seconds} s`)), seconds * 1000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export async function until(condition) {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
}

/** Run the checks of a case one after the other; one that fails does not keep the others from being made. */
export async function everything(one, checks) {
  for (const [check, of] of Object.entries(checks)) {
    try {
      report(one.name, check, { saw: await within(one.within_s, of()) });
    } catch (error) {
      report(one.name, check, { failed: words(error) });
    }
  }
}

export function words(error) {
  if (error instanceof Error) return error.stack + (error.errorUri ? ` ${error.errorUri}` : '');
  return JSON.stringify(error) || String(error);
}

/** Join, do what the case says, leave. `join` gives `{ who: [authid, authrole, authmethod], leave }`, or throws. */
export async function run(one, join, checksOf) {
  const open = [];
  const joined = async () => {
    open.push(await within(one.within_s, join(one)));
    return open.at(-1);
  };
  try {
    if (one.do === 'refused') {
      const refused = await joined().then(() => null, (error) => error);
      report(one.name, 'refused', refused ? { saw: words(refused) } : { failed: 'it joined' });
      return;
    }
    const a = await joined();
    report(one.name, 'join', { saw: a.who });
    if (one.do === 'everything') await everything(one, checksOf(one, a, await joined()));
  } catch (error) {
    report(one.name, 'join', { failed: words(error) });
  } finally {
    for (const session of open) await session.leave();
  }
}
