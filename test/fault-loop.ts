import { dirname } from 'node:path';
import { constants } from 'node:os';
import { loadNativeCrc32c } from '../src/crc32c.js';
import { callSitesOf, callerInSource } from './call-sites.js';
import type { DiskCall, Met } from './fault-disk.js';
import { repairs, scenarios, type Scenario } from './fault-scenarios.js';
import { Trial } from './fault-trial.js';

/** Every workload by name. */
export const workloads: Readonly<Record<string, Scenario>> = { ...scenarios, ...repairs };

type ErrorName = 'EIO' | 'ENOSPC' | 'EMFILE' | 'EACCES';
/** What a call meets with. 'short': only a part gets through; 'away': its directory is gone, until it heals. */
export type FaultKind = ErrorName | 'short' | 'away';

/** The same fault again: workload, which call, what, and whether all that follow meet it, too. */
export interface Fault {
  readonly workload: string;
  readonly call: number;
  readonly kind: FaultKind;
  readonly forEver: boolean;
  /** How it ends: the disk heals and work goes on; or the process dies first. */
  readonly dies: boolean;
}

const opens = ['open', 'list', 'readFile', 'replaceFile', 'syncDirectory', 'openStore', 'lock'];
const byPath = [...opens, 'size', 'isDirectory', 'makeDirectory', 'rename', 'removeFile'];
const takesSpace = ['write', 'replaceFile', 'makeDirectory', 'rename', 'writeRows', 'openStore'];
const alone = ['openStore', 'lock'];

/** Which calls an operating system answers so. */
const meets: { readonly [K in FaultKind]: (call: DiskCall) => boolean } = {
  EIO: () => true,
  ENOSPC: ({ name }) => takesSpace.includes(name),
  EMFILE: ({ name }) => opens.includes(name),
  EACCES: ({ name }) => [...byPath, 'removeDirectory', 'salvage'].includes(name),
  short: ({ name, bytes }) => name === 'write' && bytes > 1,
  away: ({ name }) => byPath.includes(name) && !alone.includes(name),
};

export const kinds: readonly FaultKind[] = ['EIO', 'ENOSPC', 'EMFILE', 'EACCES', 'short', 'away'];

function errorOf(kind: ErrorName, { name, path }: DiskCall): NodeJS.ErrnoException {
  const error: NodeJS.ErrnoException = new Error(`${kind}: injected, ${name} '${path}'`);
  error.code = kind;
  error.errno = -constants.errno[kind];
  return error;
}

/** Calls that a workload makes when nothing fails, with where each comes from. */
export interface Visited {
  readonly call: DiskCall;
  readonly site: string;
}

/** What the injected calls are in the source: what failing calls of the disk must be met from everywhere. */
const seam: Readonly<Partial<Record<DiskCall['name'], string>>> = {
  open: 'FileSystem.open',
  size: 'FileSystem.size',
  isDirectory: 'FileSystem.isDirectory',
  list: 'FileSystem.list',
  readFile: 'FileSystem.readFile',
  replaceFile: 'FileSystem.replaceFile',
  makeDirectory: 'FileSystem.makeDirectory',
  rename: 'FileSystem.rename',
  removeFile: 'FileSystem.removeFile',
  removeDirectory: 'FileSystem.removeDirectory',
  syncDirectory: 'FileSystem.syncDirectory',
  write: 'File.write',
  read: 'File.read',
  readAsync: 'File.readAsync',
  truncate: 'File.truncate',
  sync: 'File.sync',
  close: 'File.close',
  writeRows: 'MetaStore.write',
};
/** Implementations, which call themselves. */
const implementations = /^(?:storage\/node-files|faults)\.ts:/;

/** Every place in the source that calls what can fail, as `met` has them. */
export function placesThatCall(): string[] {
  const rest = ['MetaStore.get', 'MetaStore.range', 'MetaStore.close'];
  return callSitesOf(['FileSystem', 'File', 'MetaStore']).filter(
    (site) => !implementations.test(site) && !rest.some((method) => site.endsWith(` ${method}`)),
  );
}

function siteOf(name: DiskCall['name'], where: string): string {
  return `${where} ${seam[name] ?? name}`;
}

/** One run of a workload. @returns what was not as promised, and where faults were met */
export async function runWithFault(
  fault: Fault,
): Promise<{ readonly problems: readonly string[]; readonly met: ReadonlySet<string> }> {
  const met = new Set<string>();
  const trial = new Trial();
  const { prepare, run } = workloads[fault.workload]!;
  await prepare?.(trial);
  trial.allowed = fault.kind === 'away' ? ['METADATA_LOST', 'CORRUPT_MESSAGE'] : [];
  let count = 0;
  trial.disk.onCall = (call): Met => {
    const isIt = count === fault.call;
    count++;
    if (count <= fault.call || (!isIt && !fault.forEver) || !meets[fault.kind](call))
      return undefined;
    if (call.name in seam) met.add(siteOf(call.name, callerInSource()));
    if (fault.kind === 'short') return Math.floor(call.bytes / 2);
    if (fault.kind !== 'away') return errorOf(fault.kind, call);
    if (isIt) trial.disk.away = dirname(call.path);
    return undefined;
  };
  await run(trial);
  trial.disk.onCall = () => undefined;
  trial.disk.away = null;
  await finish(trial, fault);
  return { problems: trial.problems, met };
}

async function finish(trial: Trial, fault: Fault): Promise<void> {
  trial.allowed = [];
  if (fault.dies) {
    trial.die();
  } else {
    if (!trial.hasLostMetadata) {
      await trial.checkAfterHealing(fault.kind === 'away');
      await trial.checkReopening();
    }
    await trial.close();
  }
  if (trial.needsRepair) await trial.repair();
  await trial.checkAnew();
}

/** To be called before all: what is loaded late takes time that no manual clock knows of. */
export async function warmUp(): Promise<void> {
  await loadNativeCrc32c();
}

/** The calls of a workload when nothing fails. */
export async function callsOf(workload: string): Promise<{
  readonly calls: readonly Visited[];
  readonly problems: readonly string[];
}> {
  const calls: Visited[] = [];
  const trial = new Trial();
  const { prepare, run } = workloads[workload]!;
  await prepare?.(trial);
  trial.disk.onCall = (call): undefined => {
    calls.push({ call, site: siteOf(call.name, callerInSource()) });
  };
  await run(trial);
  trial.disk.onCall = () => undefined;
  await finish(trial, { workload, call: -1, kind: 'EIO', forEver: false, dies: false });
  return { calls, problems: trial.problems };
}

/** Every fault that a call can meet. */
export function faultsAt(workload: string, call: number, what: DiskCall): Fault[] {
  return kinds
    .filter((kind) => meets[kind](what))
    .flatMap((kind) =>
      // A directory stays away until it heals, and a write that is short once is only gone on with.
      (kind === 'away' ? [true] : [false, true]).flatMap((forEver) =>
        [false, true].map((dies): Fault => ({ workload, call, kind, forEver, dies })),
      ),
    );
}
