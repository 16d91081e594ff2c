import { constants } from 'node:os';
import type { TopicPartition } from '../assignment.js';
import type { Faults } from '../faults.js';
import { Gate } from './gate.js';

/**
 * What can fail: 'write' appends bytes to a partition's log, 'sync' makes them durable (acks 'all'),
 * 'commit' stores a group's offsets.
 */
export type FaultyOperation = 'write' | 'sync' | 'commit';

/** Which calls are meant: all that agree with what is given. */
export interface FaultTarget {
  /** Of a write or a sync. @default any */
  readonly topic?: string;
  /** Of a write or a sync. @default any */
  readonly partition?: number;
  /** Of a commit. @default any */
  readonly group?: string;
}

/** Which calls fail, how often, and how. */
export interface FailureOptions extends FaultTarget {
  /** How many calls fail; Infinity: all, until heal(). @default 1 (a count) */
  readonly times?: number;
  /** What the disk answers. @default 'EIO' */
  readonly code?: 'EACCES' | 'EIO' | 'EMFILE' | 'ENOSPC';
}

interface Failure {
  readonly operation: FaultyOperation;
  readonly target: FaultTarget;
  readonly code: NonNullable<FailureOptions['code']>;
  left: number;
}

interface Hold {
  readonly operation: FaultyOperation;
  readonly target: FaultTarget;
  readonly gate: Gate;
}

/** Makes a disk fail or wait when told: `Ottla.memory({ faults: new FaultInjector() })`. */
export class FaultInjector implements Faults {
  #failures: Failure[] = [];
  #holds: Hold[] = [];

  /**
   * The next calls of this kind fail. A failed write is taken back, and refused as retriable; after a
   * failed sync the partition refuses appends until `topics.reopen()`; a failed commit is not made.
   */
  fail(operation: FaultyOperation, options: FailureOptions = {}): void {
    const { times = 1, code = 'EIO', ...target } = options;
    checkOperation('fail', operation, ['write', 'sync', 'commit']);
    if (!(times >= 1)) throw new RangeError(`fail: times: expected 1 or more, got ${times}`);
    this.#failures.push({ operation, target, code, left: times });
  }

  /** Syncs or commits of this kind wait from now on. @returns the gate before which they wait: open it */
  hold(operation: 'sync' | 'commit', target: FaultTarget = {}): Gate {
    checkOperation('hold', operation, ['sync', 'commit']);
    const gate = new Gate();
    gate.close();
    this.#holds.push({ operation, target, gate });
    return gate;
  }

  /** Nothing fails or waits any more. */
  heal(): void {
    this.#failures = [];
    for (const { gate } of this.#holds.splice(0)) gate.open();
  }

  /** @internal */
  beforeWrite(at: TopicPartition): void {
    this.#meet('write', at);
  }

  /** @internal */
  async beforeSync(at: TopicPartition): Promise<void> {
    await this.#pass('sync', at);
    this.#meet('sync', at);
  }

  /** @internal */
  async beforeCommit(group: string): Promise<void> {
    await this.#pass('commit', { group });
    this.#meet('commit', { group });
  }

  async #pass(operation: FaultyOperation, call: FaultTarget): Promise<void> {
    for (const hold of this.#holds) if (isMeant(hold, operation, call)) await hold.gate.pass();
  }

  #meet(operation: FaultyOperation, call: FaultTarget): void {
    const failure = this.#failures.find((failing) => isMeant(failing, operation, call));
    if (failure === undefined) return;
    failure.left--;
    if (failure.left === 0) this.#failures = this.#failures.filter((other) => other !== failure);
    const error: NodeJS.ErrnoException = new Error(`${failure.code}: injected, ${operation}`);
    error.code = failure.code;
    error.errno = -constants.errno[failure.code];
    throw error;
  }
}

function isMeant(
  { operation, target }: Failure | Hold,
  ofCall: FaultyOperation,
  call: FaultTarget,
): boolean {
  return (
    operation === ofCall &&
    (target.topic ?? call.topic) === call.topic &&
    (target.partition ?? call.partition) === call.partition &&
    (target.group ?? call.group) === call.group
  );
}

function checkOperation(where: string, operation: unknown, known: readonly string[]): void {
  if (known.includes(operation as string)) return;
  throw new TypeError(`${where}: expected '${known.join("' or '")}', got ${String(operation)}`);
}
