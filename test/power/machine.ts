import { Broker } from '../../src/broker.js';
import { SyncQueue } from '../../src/storage/sync-queue.js';
import { verifyStore } from '../../src/verify.js';
import type { VerifyReport } from '../../src/verify-report.js';
import { ManualClock } from '../manual-clock.js';
import { PowerFiles, type Power, type StepName } from './files.js';
import type { Image, Loss } from './loss.js';
import type { Random } from './random.js';
import { PowerStore } from './store.js';

export const noImage: Image = { files: new Map(), rows: [] };

/** A computer with a disk, from one start to the moments at which its power may fail. */
export class PowerMachine implements Power {
  readonly clock: ManualClock = new ManualClock();
  readonly files: PowerFiles;
  readonly store: PowerStore;
  readonly #random: Random;
  /** Steps of a disk so far: while there are none more, nothing is written. */
  steps = 0;
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

  async wait(): Promise<void> {
    const ticks = this.#random.chance(0.1) ? this.#random.below(60) : this.#random.below(6);
    for (let i = 0; i < ticks; i++) await Promise.resolve();
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
