import { constants } from 'node:os';
import type { TopicPartition } from '../assignment.js';
import type { FaultControls, Faults } from '../faults.js';
import { anId, checkOptions, either, integer, oneOf } from '../options.js';
import { Gate } from './gate.js';

/**
 * What can fail: 'write' appends bytes to a partition's log, 'sync' makes them durable (acks 'all'),
 * 'commit' stores a group's offsets.
 */
export type FaultyOperation = 'write' | 'sync' | 'commit';

/** What can be made to wait: 'sync' and 'commit' as above, 'handler' each call of a handler by run(). */
export type HeldOperation = 'sync' | 'commit' | 'handler';

/** Which calls are meant: all that agree with what is given. */
export interface FaultTarget {
  /** Of a write, a sync or a handler. @default any */
  readonly topic?: string;
  /** Of a write, a sync or a handler. @default any */
  readonly partition?: number;
  /** Of a commit or a handler. @default any */
  readonly group?: string;
}

/** Which calls fail, how often, and how. */
export interface FailureOptions extends FaultTarget {
  /** How many calls fail; Infinity: all, until heal(). @default 1 (a count) */
  readonly times?: number;
  /** What the disk answers. @default 'EIO' */
  readonly code?: 'EACCES' | 'EIO' | 'EMFILE' | 'ENOSPC';
}

const places = {
  topic: (value: unknown) => (typeof value === 'string' ? null : 'a string'),
  partition: integer(0),
};
/** Of a call of each kind, what can tell it from others. */
const targets = {
  write: places,
  sync: places,
  commit: { group: anId },
  handler: { ...places, group: anId },
} as const;
const failureOptions = {
  times: either(integer(1), oneOf(Infinity)),
  code: oneOf('EACCES', 'EIO', 'EMFILE', 'ENOSPC'),
};

interface Failure {
  readonly operation: FaultyOperation;
  readonly target: FaultTarget;
  readonly code: NonNullable<FailureOptions['code']>;
  left: number;
}

interface Hold {
  readonly operation: HeldOperation;
  readonly target: FaultTarget;
  readonly gate: Gate;
}

/** Makes a disk fail or wait when told: `Ottla.memory({ faults: new FaultInjector() })`. */
export class FaultInjector implements Faults {
  #failures: Failure[] = [];
  #holds: Hold[] = [];
  #controls: FaultControls | null = null;

  /**
   * The next calls of this kind fail. A failed write is taken back, and refused as retriable; after a
   * failed sync the partition refuses appends until `topics.reopen()`; a failed commit is not made.
   * @throws TypeError, RangeError, also for what a call of this kind has not: a commit has no topic
   */
  fail(operation: FaultyOperation, options: FailureOptions = {}): void {
    checkOperation('fail', operation, ['write', 'sync', 'commit']);
    checkOptions<object>(
      `fail('${operation}')`,
      { ...targets[operation], ...failureOptions },
      options,
    );
    const { times = 1, code = 'EIO', ...target } = options;
    this.#failures.push({ operation, target, code, left: times });
  }

  /**
   * Calls of this kind wait from now on. A handler that waits counts as at work: for maxPollIntervalMs, then its
   * member loses its partitions.
   * @returns the gate before which they wait: open it
   * @throws TypeError, RangeError, also for what a call of this kind has not
   */
  hold(operation: HeldOperation, target: FaultTarget = {}): Gate {
    checkOperation('hold', operation, ['sync', 'commit', 'handler']);
    checkOptions<object>(`hold('${operation}')`, targets[operation], target);
    const gate = new Gate();
    gate.close();
    this.#holds.push({ operation, target, gate });
    return gate;
  }

  /**
   * Takes members of a group for dead: all, or the one with this id (`groups.describe` tells it). Their
   * partitions are lost at once, and their commits refused with ILLEGAL_GENERATION; they are back when their
   * code asks for records again.
   * @returns how many there were
   * @throws TypeError if this was given to no `Ottla.memory()`
   */
  fence(group: string, memberId?: string): number {
    if (this.#controls === null) throw new TypeError('fence: give this to Ottla.memory() first');
    return this.#controls.fence(group, memberId);
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

  /** @internal */
  beforeHandler(group: string | null, at: TopicPartition): void | Promise<void> {
    if (!this.#holds.some(({ operation }) => operation === 'handler')) return;
    const { topic, partition } = at;
    return this.#pass('handler', { topic, partition, ...(group === null ? {} : { group }) });
  }

  /** @internal */
  attach(controls: FaultControls): void {
    this.#controls = controls;
  }

  async #pass(operation: HeldOperation, call: FaultTarget): Promise<void> {
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
  ofCall: FaultyOperation | HeldOperation,
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
