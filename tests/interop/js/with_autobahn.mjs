// Autobahn|JS in Node against a router: cases on standard input, a line for each check on standard output.

import { createRequire } from 'node:module';
import { SERIALIZERS, cases, payload, report, run, same, until, words } from './checks.mjs';

// From Node 22 on there is a global one, which cannot send a cookie.
delete globalThis.WebSocket;
const require = createRequire(`${process.argv[2]}/`);
const autobahn = require('autobahn');
// Its own promises have no progress.
const { defer } = require('when');
const { nacl, serializer } = autobahn;
const MAKE = { json: serializer.JSONSerializer, msgpack: serializer.MsgpackSerializer, cbor: serializer.CBORSerializer };

function transport(one, headers) {
  const url = new URL(one.url);
  if (url.protocol === 'unix:') return { type: 'rawsocket', path: url.pathname };
  if (url.protocol === 'rs:') return { type: 'rawsocket', host: url.hostname, port: Number(url.port) };
  return { type: 'websocket', url: one.url, serializers: [new MAKE[one.serializer]()], headers };
}

function join(one) {
  const [method, how] = Object.entries(one.auth ?? {})[0] ?? ['anonymous', {}];
  const keys = how.privkey && nacl.sign.keyPair.fromSeed(Uint8Array.from(Buffer.from(how.privkey, 'hex')));
  const answer = {
    ticket: () => how.ticket,
    wampcra: ({ challenge, salt, iterations, keylen }) =>
      autobahn.auth_cra.sign(salt ? autobahn.auth_cra.derive_key(how.secret, salt, iterations, keylen) : how.secret, challenge),
    cryptosign: (extra) => autobahn.auth_cryptosign.sign_challenge(keys, extra),
  };
  return new Promise((resolve, reject) => {
    const connection = new autobahn.Connection({
      transports: [transport(one, how.cookie && { Cookie: how.cookie })], realm: 'realm1', max_retries: 0, retry_if_unreachable: false,
      use_deferred: defer, authmethods: [method], authid: how.authid, authextra: keys && { pubkey: autobahn.auth_cryptosign.public_key(keys) },
      onchallenge: (_session, asked, extra) => answer[asked](extra),
      on_user_error: () => {}, on_internal_error: (error) => process.stderr.write(words(error) + '\n'),
    });
    const closed = new Promise((done) => {
      connection.onclose = (reason, details) => {
        reject(new Error(`${reason}: ${details.reason} ${details.message}`));
        done();
        return true;
      };
    });
    connection.onopen = (session, details) => resolve({
      session,
      who: [details.authid, details.authrole, details.authmethod],
      leave: () => {
        if (connection.isOpen || connection._transport) connection.close();
        return closed;
      },
    });
    connection.open();
  });
}

const uri = (promise) => promise.then(() => null, (error) => error.error);
const listOf = (result) => (result instanceof autobahn.Result ? result.args : [result]);

function checksOf(one, { session: a }, { session: b }) {
  const at = `com.app.${one.tag}`;
  let registration;
  const checks = {
    call: async () => {
      registration = await b.register(`${at}.echo`, (args, kwargs) => new autobahn.Result(args, kwargs));
      const result = await a.call(`${at}.echo`, one.args, one.kwargs);
      return [result.args, result.kwargs];
    },
    progress: async () => {
      await b.register(`${at}.slow`, (_args, _kwargs, details) => {
        for (let n = 0; n < 3; n++) details.progress([n]);
        return 'done';
      });
      const chunks = [];
      const result = await a.call(`${at}.slow`, [], {}, { receive_progress: true }).then((r) => r, undefined, (n) => chunks.push(n));
      return [chunks, result];
    },
    cancel: async () => {
      let begun;
      const started = new Promise((resolve) => (begun = resolve));
      await b.register(`${at}.never`, () => {
        begun();
        return new Promise(() => {});
      });
      const call = a.call(`${at}.never`);
      await started;
      // With any other mode it closes its connection when the router answers, as the protocol wants it to.
      call.cancel({ mode: 'kill' });
      return [await uri(call), await a.call(`${at}.echo`, ['still here'])];
    },
    error: async () => {
      await b.register(`${at}.broken`, () => {
        throw new autobahn.Error('com.app.broken', ['why', 7], { at: 3 });
      });
      return a.call(`${at}.broken`).then(() => null, (error) => [error.error, error.args, error.kwargs]);
    },
    missing: () => uri(a.call(`${at}.missing`)),
    twice: () => uri(a.register(`${at}.echo`, () => null)),
    publish: async () => {
      const got = { a: [], b: [] };
      const mine = await a.subscribe(`${at}.news`, ([n]) => got.a.push(n));
      await b.subscribe(`${at}.news`, ([n]) => got.b.push(n));
      const acknowledged = [];
      for (const [n, exclude_me] of [[1, false], [2, true], [3, false]]) {
        acknowledged.push((await a.publish(`${at}.news`, [n], {}, { acknowledge: true, exclude_me })).id > 0);
      }
      a.publish(`${at}.news`, [4], {}, { exclude: [b.id] });
      a.publish(`${at}.news`, [5], {}, { eligible: [b.id] });
      await until(() => got.b.includes(5) && got.a.includes(3));
      await a.unsubscribe(mine);
      return [got.a, got.b, acknowledged];
    },
    patterns: async () => {
      const got = [];
      for (const [match, topic] of [['prefix', '.p'], ['wildcard', '.w..x'], ['exact', '.end']]) {
        await b.subscribe(at + topic, (_args, _kwargs, details) => got.push([match, details.topic.replace(at, '')]), { match });
      }
      for (const topic of ['.p.one', '.w.q.x', '.w.q.y', '.end']) a.publish(at + topic, []);
      await until(() => got.some(([match]) => match === 'exact'));
      return got;
    },
    meta: async () => {
      const listed = await a.call('wamp.session.list');
      const found = await a.call('wamp.session.get', [b.id]);
      return [
        listed.includes(a.id) && listed.includes(b.id),
        found.session === b.id,
        (await a.call('wamp.registration.lookup', [`${at}.echo`])) === registration.id,
      ];
    },
    gone: async () => {
      await b.unregister(registration);
      return uri(a.call(`${at}.echo`));
    },
  };
  for (const to of SERIALIZERS) {
    checks[`payload ${to}`] = async () => {
      const sent = payload(one.serializer);
      const back = listOf(await a.call(`com.peer.${to}.echo`, sent));
      const seen = await a.call(`com.peer.${to}.seen`, sent);
      await a.publish('com.peer.news', sent, {}, { acknowledge: true });
      return [sent.map((value, n) => same(value, back[n])), seen, await a.call(`com.peer.${to}.heard`)];
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
