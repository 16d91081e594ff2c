import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const scripts = fileURLToPath(new URL('../../../test/interop/kafka/', import.meta.url));

/** A broker that is measured, in a process of its own. */
export interface Peer {
  readonly name: 'kafka' | 'ottla';
  readonly server: string;
  /** Resolves once it takes connections. What it stored before is still there. */
  start(): Promise<void>;
  stop(): Promise<void>;
  /** The largest resident set of its process so far, in MiB. Linux only. */
  peakMiB(): number;
}

/** Why Kafka cannot be run here; null: it can. Fetches it at first use. */
export async function whyNotRun(): Promise<string | null> {
  if (process.platform !== 'linux') return 'the peak of memory is read from /proc';
  const java = await run('java', ['-version']).catch(() => null);
  const version = Number(/version "(\d+)/.exec(java?.stderr ?? '')?.[1] ?? 0);
  if (version < 17) return 'there is no Java 17 or later';
  return run(`${scripts}install`).then(
    () => null,
    (error: Error) => `Apache Kafka could not be fetched: ${error.message.split('\n')[0]}`,
  );
}

/** What one of Kafka's own tools prints. @throws if it fails */
export async function tool(name: string, ...options: string[]): Promise<string> {
  return (await run(`${scripts}kafka`, [name, ...options])).stdout;
}

/** Apache Kafka with the memory and the collector of its own start script. */
export function kafkaPeer(parent: string, port: number): Peer {
  const directory = join(parent, 'kafka');
  const broker = async (action: string, ...options: string[]): Promise<void> => {
    await run(`${scripts}broker`, [action, directory, ...options]);
  };
  return {
    name: 'kafka',
    server: `127.0.0.1:${port}`,
    start: () => broker('start', String(port)),
    stop: () => broker('stop'),
    peakMiB: () => peakMiB(Number(readFileSync(join(directory, 'pid'), 'utf8'))),
  };
}

/** An Ottla that is served by a small program: served.ts. */
export function ottlaPeer(parent: string, port: number): Peer {
  const program = fileURLToPath(new URL('served.js', import.meta.url));
  let child: ChildProcess | null = null;
  return {
    name: 'ottla',
    server: `127.0.0.1:${port}`,
    async start() {
      const args = [program, join(parent, 'ottla'), String(port)];
      child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'] });
      await accepting(port);
    },
    async stop() {
      child!.kill('SIGTERM');
      await once(child!, 'exit');
    },
    peakMiB: () => peakMiB(child!.pid!),
  };
}

function peakMiB(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)![1]) / 1024;
}

/** Resolves once something at the port takes connections. */
export async function accepting(port: number): Promise<void> {
  for (;;) {
    const socket = connect(port, '127.0.0.1');
    const isOpen = await once(socket, 'connect').then(
      () => true,
      () => false,
    );
    socket.destroy();
    if (isOpen) return;
    await wait(5);
  }
}
