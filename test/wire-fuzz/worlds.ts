import { connect as connectTo } from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { Ottla } from '../../src/index.js';
import { serve, type Server } from '../../src/server/index.js';
import { VirtualClock } from '../../src/testing/index.js';
import type { Random } from '../power/random.js';
import { WireClient } from '../wire-client.js';
import { Canary, canaryTopic } from './canary.js';

/** Where cases are run: servers of one Ottla, and its time. */
export interface World {
  readonly ottla: Ottla;
  readonly canary: Canary;
  /** What it warned of that is a defect. */
  readonly problems: string[];
  readonly maxRequestBytes: number;
  connect(random: Random): Duplex;
  /** To a server that asks who one is. */
  connectAsStranger(): Duplex;
  /** Lets what is under way go on, and up to so many ms of its time pass. */
  pass(ms: number): Promise<void>;
  /** Resolves when `isSo`, or when it should be long since. */
  until(isSo: () => boolean): Promise<void>;
  /** What a promise resolves to that must settle. */
  settled<T>(promise: Promise<T>): Promise<T>;
  close(): Promise<void>;
}

/** Kafka's default is 100 MiB: sooner reached, the limit is met more often. */
const maxRequestBytes = 4 * 2 ** 20;
const limits = { maxRequestBytes };
const sasl = { users: { alice: 'secret' } };
const defect = 'a request failed, and its connection was cut';

/** @returns the id of the canary's topic */
async function populated(ottla: Ottla, problems: string[]): Promise<string> {
  ottla.on('error', (error) => void problems.push(String(error)));
  ottla.on('warning', (warning) => {
    if (warning.includes(defect)) problems.push(warning);
  });
  await ottla.topics.create(canaryTopic);
  return (await ottla.topics.describe(canaryTopic)).id;
}

/** In memory, with a time of its own: the same for the same seed. */
export async function memoryWorld(seed: number): Promise<World> {
  const clock = new VirtualClock();
  const ottla = Ottla.memory({ clock, seed });
  const problems: string[] = [];
  const topicId = await populated(ottla, problems);
  const server = await serve(ottla, { listen: false, limits });
  const guarded = await serve(ottla, { listen: false, limits, sasl });
  return {
    ottla,
    problems,
    maxRequestBytes,
    canary: new Canary(new WireClient(server.connect()), topicId, String(seed)),
    connect: () => server.connect(),
    connectAsStranger: () => guarded.connect(),
    pass: (ms) => clock.advance(ms),
    async until(isSo) {
      // Longer than anything waits that does not wait for others: a connection that stalls has 30 s.
      for (let left = 20; left > 0 && !isSo(); left--) await clock.advance(5000);
    },
    settled: (promise) => clock.runUntil(promise),
    close: () => clock.runUntil(ottla.close()),
  };
}

/** Where time is the machine's, which may have no time for this process: no client is to blame for that. */
const patient = { maxRequestBytes, stallMs: 3_600_000, idleMs: 3_600_000 };

/** In a directory, over TCP, a Unix socket where there are such, and within the process. */
export async function directoryWorld(directory: string, seed: number): Promise<World> {
  const ottla = await Ottla.open(join(directory, 'data'));
  const problems: string[] = [];
  const topicId = await populated(ottla, problems);
  const servers: Server[] = [await serve(ottla, { limits: patient })];
  if (process.platform !== 'win32') {
    servers.push(await serve(ottla, { path: join(directory, 'socket'), limits: patient }));
  }
  const near = await serve(ottla, { listen: false, limits: patient });
  const guarded = await serve(ottla, { limits: patient, sasl });
  const dial = (server: Server): Duplex => {
    if (server.path !== null) return connectTo(server.path);
    const [host, port] = server.bootstrap.split(':');
    return connectTo(Number(port), host);
  };
  return {
    ottla,
    problems,
    maxRequestBytes,
    canary: new Canary(new WireClient(dial(servers[0]!)), topicId, String(seed)),
    connect: (random) => (random.chance(0.2) ? near.connect() : dial(random.oneOf(servers))),
    connectAsStranger: () => dial(guarded),
    pass: (ms) => sleep(Math.min(ms, 2)),
    async until(isSo) {
      // In turns, not by the time: a busy machine may give it little.
      for (let left = 30_000; left > 0 && !isSo(); left--) await sleep(1);
    },
    settled: (promise) => promise,
    close: () => ottla.close(),
  };
}
