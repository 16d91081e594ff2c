import { setImmediate as turn } from 'node:timers/promises';
import { Broker } from '../../src/broker.js';
import type { Change } from '../../src/storage/meta-store.js';
import { SyncQueue } from '../../src/storage/sync-queue.js';
import { verifyStore } from '../../src/verify.js';
import type { VerifyReport } from '../../src/verify-report.js';
import { ManualClock } from '../manual-clock.js';
import { Directory, PowerFiles, type Power, type StepName } from './files.js';
import type { Loss } from './loss.js';
import type { Random } from './random.js';
import { PowerStore } from './store.js';

/** All that is left after a crash. */
export interface Image {
  readonly files: Directory;
  readonly rows: readonly Change[];
}

export const noImage: Image = { files: new Directory(), rows: [] };

/** A computer with a disk, from one start to the moments at which its power may fail. */
export class PowerMachine implements Power {
  readonly clock: ManualClock = new ManualClock();
  readonly files: PowerFiles;
  readonly store: PowerStore;
  readonly #random: Random;
  #waits = 0;
  /** Directories of partitions. */
  readonly #unnoted = new Set<string>();
  /** Steps of a disk so far: while there are none more, nothing is written. */
  steps = 0;
  /** How likely a write to a log, or a sync of it, fails. */
  faultiness = 0;
  faults = 0;
  /** Told of each step before it is made. */
  onStep: (name: StepName, path: string) => void = () => undefined;

  constructor(image: Image, random: Random) {
    this.#random = random;
    this.files = new PowerFiles(image.files, this);
    this.store = new PowerStore(image.rows, this);
  }

  step(name: StepName, path: string): void {
    this.steps++;
    this.onStep(name, path);
  }

  /** Within this turn of the event loop, or over some: then others go on meanwhile. */
  async wait(): Promise<void> {
    this.#waits++;
    const turns = this.#random.chance(0.2) ? this.#random.below(4) : 0;
    for (let i = 0; i < turns; i++) await turn();
    const ticks = this.#random.below(6);
    for (let i = 0; i < ticks; i++) await Promise.resolve();
    this.#waits--;
  }

  fails(name: 'write' | 'sync', path: string): boolean {
    const isLog = path.endsWith('.log');
    const fails = isLog && this.faultiness > 0 && this.#random.chance(this.faultiness);
    if (fails) this.faults++;
    if (fails && name === 'sync') this.#unnoted.add(path.split('/')[1]!);
    return fails;
  }

  /**
   * Whether a sync has failed of which the rows do not tell yet: if the process is killed now, nobody knows
   * that what the cache has is not on the disk.
   */
  get hasUnnotedFault(): boolean {
    for (const { key, value } of this.store.range(['topic'])) {
      for (const { key: partition, value: row } of this.store.range(['partition', value.id])) {
        if (row.syncFailed === true) this.#unnoted.delete(`${key[1]}-${partition[2]}`);
      }
    }
    return this.#unnoted.size > 0;
  }

  /** Resolves when nothing is under way any more. */
  async rest(): Promise<void> {
    for (let steps = -1; this.steps !== steps || this.#waits > 0;) {
      steps = this.steps;
      await this.clock.settle();
      await this.clock.settle();
    }
  }

  /** What is left if the power fails now. */
  at(loss: Loss): Image {
    return { files: this.files.at(loss), rows: this.store.at(loss) };
  }

  /** A start of the process, up to the end of its recovery. */
  async open(): Promise<Broker> {
    const broker = new Broker({
      directory: '/',
      files: this.files,
      store: this.store,
      clock: this.clock,
      random: () => this.#random.next(),
      syncs: new SyncQueue(2),
      readOnly: false,
      defaults: {},
    });
    await broker.recover();
    return broker;
  }

  verify(): Promise<VerifyReport> {
    return verifyStore({
      directory: '/',
      files: this.files,
      store: this.store,
      clock: this.clock,
    });
  }
}
