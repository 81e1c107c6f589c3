// Wampy in Node against a router: cases on standard input, a line for each check on standard output.

import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { SERIALIZERS, cases, payload, report, run, same, until, words } from './checks.mjs';

const at = `${process.argv[2]}/node_modules/wampy/dist/esm`;
const load = (path) => import(pathToFileURL(`${at}/${path}`));
const WebSocket = createRequire(`${process.argv[2]}/`)('ws');
const { Wampy } = await load('wampy.js');
const cra = await load('auth/wampcra/wampy-cra.js');
const cryptosign = await load('auth/cryptosign/wampy-cryptosign.js');
const MAKE = {
  json: (await load('serializers/json-serializer.js')).JsonSerializer,
  msgpack: (await load('serializers/msgpack-serializer.js')).MsgpackSerializer,
  cbor: (await load('serializers/cbor-serializer.js')).CborSerializer,
};
const PUBLIC = '1adfc8bfe1d35616e64dffbd900096f23b066f914c8c2ffbb66f6075b96e116d';

/** It hands its headers over in the way of the package `websocket`; `ws` takes them as an option. */
function socketWith(headers) {
  return class extends WebSocket {
    constructor(url, protocols) {
      super(url, protocols, { headers });
    }
  };
}

async function join(one) {
  const [method, how] = Object.entries(one.auth ?? {})[0] ?? ['', {}];
  const wampy = new Wampy(one.url, {
    ws: socketWith(how.cookie ? { Cookie: how.cookie } : {}), realm: 'realm1', autoReconnect: false, serializer: new MAKE[one.serializer](),
    ...(method && {
      authid: how.authid, authmethods: [method], authextra: how.privkey ? { pubkey: PUBLIC } : {}, authMode: 'auto',
      authPlugins: {
        ticket: () => how.ticket,
        wampcra: cra.sign(how.secret ?? ''),
        cryptosign: (...asked) => cryptosign.sign(how.privkey)(...asked),
        cookie: () => null,
      },
    }),
  });
  const details = await wampy.connect();
  return { wampy, who: [details.authid, details.authrole, details.authmethod], leave: () => wampy.disconnect() };
}

const uri = (promise) => promise.then(() => null, (error) => error.errorUri);

function checksOf(one, { wampy: a }, { wampy: b }) {
  const at = `com.app.${one.tag}`;
  let registration;
  const checks = {
    call: async () => {
      registration = await b.register(`${at}.echo`, ({ argsList, argsDict }) => ({ argsList, argsDict }));
      const result = await a.call(`${at}.echo`, { argsList: one.args, argsDict: one.kwargs });
      return [result.argsList, result.argsDict];
    },
    progress: async () => {
      await b.register(`${at}.slow`, ({ result_handler }) => {
        for (let n = 0; n < 3; n++) result_handler({ argsList: [n], options: { progress: true } });
        return { argsList: ['done'] };
      });
      const chunks = [];
      const result = await a.call(`${at}.slow`, null, { progress_callback: ({ argsList }) => chunks.push(argsList[0]) });
      return [chunks, result.argsList[0]];
    },
    cancel: async () => {
      let begun;
      const started = new Promise((resolve) => (begun = resolve));
      await b.register(`${at}.never`, () => {
        begun();
        return new Promise(() => {});
      });
      const call = uri(a.call(`${at}.never`));
      const { reqId } = a.getOpStatus();
      await started;
      a.cancel(reqId);
      return [await call, (await a.call(`${at}.echo`, ['still here'])).argsList[0]];
    },
    error: async () => {
      await b.register(`${at}.broken`, () => {
        throw { error: 'com.app.broken', details: {}, argsList: ['why', 7], argsDict: { at: 3 } };
      });
      return a.call(`${at}.broken`).then(() => null, (error) => [error.errorUri, error.argsList, error.argsDict]);
    },
    missing: () => uri(a.call(`${at}.missing`)),
    twice: () => uri(a.register(`${at}.echo`, () => null)),
    publish: async () => {
      const got = { a: [], b: [] };
      await a.subscribe(`${at}.news`, ({ argsList }) => got.a.push(argsList[0]));
      await b.subscribe(`${at}.news`, ({ argsList }) => got.b.push(argsList[0]));
      const acknowledged = [];
      for (const [n, exclude_me] of [[1, false], [2, true], [3, false]]) {
        acknowledged.push((await a.publish(`${at}.news`, [n], { exclude_me })).publicationId > 0);
      }
      // Numbers this large are floating point in its MessagePack and CBOR.
      await a.publish(`${at}.news`, [4], { exclude: [b.getSessionId()] });
      await a.publish(`${at}.news`, [5], { eligible: [b.getSessionId()] });
      await until(() => got.b.includes(5));
      return [got.a, got.b, acknowledged];
    },
    patterns: async () => {
      const got = [];
      for (const [match, topic] of [['prefix', '.p'], ['wildcard', '.w..x'], ['exact', '.end']]) {
        await b.subscribe(at + topic, ({ details }) => got.push([match, (details.topic ?? `${at}.end`).replace(at, '')]), { match });
      }
      for (const topic of ['.p.one', '.w.q.x', '.w.q.y', '.end']) await a.publish(at + topic, []);
      await until(() => got.some(([match]) => match === 'exact'));
      return got;
    },
    meta: async () => {
      const listed = (await a.call('wamp.session.list')).argsList[0];
      const found = (await a.call('wamp.session.get', [b.getSessionId()])).argsList[0];
      const looked = (await a.call('wamp.registration.lookup', [`${at}.echo`])).argsList[0];
      return [
        listed.includes(a.getSessionId()) && listed.includes(b.getSessionId()),
        found.session === b.getSessionId(),
        looked === registration.registrationId,
      ];
    },
    gone: async () => {
      await b.unregister(`${at}.echo`);
      return uri(a.call(`${at}.echo`));
    },
  };
  for (const to of SERIALIZERS) {
    checks[`payload ${to}`] = async () => {
      const sent = payload(one.serializer);
      const back = (await a.call(`com.peer.${to}.echo`, sent)).argsList;
      const seen = (await a.call(`com.peer.${to}.seen`, sent)).argsList[0];
      await a.publish('com.peer.news', sent);
      const heard = (await a.call(`com.peer.${to}.heard`)).argsList[0];
      return [sent.map((value, n) => same(value, back[n])), seen, heard];
    };
  }
  return checks;
}

for (const one of cases()) {
  try {
    await run(one, join, checksOf);
  } catch (error) {
    report(one.name, 'end', { failed: words(error) });
  }
}
process.exit(0);
