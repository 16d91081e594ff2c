import { describe, expect, it } from 'vitest';
import { MemoryFiles } from '../src/storage/memory-files.js';
import { OpenFiles, type OpenFileHolder } from '../src/storage/open-files.js';
import { SyncQueue } from '../src/storage/sync-queue.js';
import { FaultyMachine } from './faulty-machine.js';
import { append, batchOf, createTopic, partitionOf, valuesIn } from './machine.js';

/** Opens its file when used, as a segment does. */
class Holder implements OpenFileHolder {
  recentlyUsed = false;
  isOpen = false;
  /** How often it was asked to close its file. */
  asked = 0;
  #isHeld = false;
  readonly #openFiles: OpenFiles;
  readonly #path: string;

  constructor(openFiles: OpenFiles, path: string) {
    this.#openFiles = openFiles;
    this.#path = path;
  }

  use(): void {
    this.recentlyUsed = true;
    if (!this.isOpen) this.#openFiles.open(this.#path, 'write', this);
    this.isOpen = true;
  }

  hold(): void {
    this.#isHeld = true;
    this.use();
  }

  letGo(): void {
    this.#isHeld = false;
    this.#openFiles.mayRelease(this);
  }

  releaseFile(): boolean {
    this.asked++;
    if (!this.#isHeld) this.isOpen = false;
    return !this.#isHeld;
  }
}

function holders(capacity: number, count: number): Holder[] {
  const openFiles = new OpenFiles(new MemoryFiles(), capacity);
  return Array.from({ length: count }, (_, i) => new Holder(openFiles, `/${i}`));
}

const open = (all: readonly Holder[]): number[] =>
  all.flatMap((holder, i) => (holder.isOpen ? [i] : []));

describe('OpenFiles', () => {
  it('closes the one that nobody used for longest', () => {
    const all = holders(3, 5);
    for (const holder of all.slice(0, 3)) holder.use();
    expect(open(all)).toEqual([0, 1, 2]);
    all[3]!.use();
    expect(open(all)).toEqual([1, 2, 3]);
    all[1]!.use();
    all[4]!.use();
    expect(open(all)).toEqual([1, 3, 4]);
  });

  it('passes the bound rather than close what may not be closed', () => {
    const all = holders(3, 6);
    for (const holder of all.slice(0, 3)) holder.hold();
    all[3]!.use();
    expect(open(all)).toEqual([0, 1, 2, 3]);
    all[4]!.use();
    expect(open(all)).toEqual([0, 1, 2, 4]);
    for (const holder of all) holder.letGo();
    all[5]!.use();
    expect(open(all)).toHaveLength(3);
    expect(open(all)).toContain(5);
  });

  it('asks what may not be closed once, until it says that this has changed', () => {
    const all = holders(10, 1001);
    const held = all.slice(0, 1000);
    for (const holder of held) holder.hold();
    expect(open(all)).toHaveLength(1000);
    expect(Math.max(...held.map(({ asked }) => asked))).toBe(1);
    for (const holder of held) holder.letGo();
    all[1000]!.use();
    expect(open(all)).toHaveLength(10);
    expect(Math.max(...held.map(({ asked }) => asked))).toBe(2);
  });
});

describe('SyncQueue', () => {
  it('runs so many at once, oldest first, and goes on after a failure', async () => {
    const queue = new SyncQueue(2);
    const began: number[] = [];
    const ends: (() => void)[] = [];
    const runs = Array.from({ length: 5 }, (_, i) =>
      queue.run(async () => {
        began.push(i);
        await new Promise<void>((resolve) => (ends[i] = resolve));
        if (i === 1) throw new Error('EIO');
      }),
    );
    const settled = Promise.allSettled(runs);
    const next = async (i: number): Promise<void> => {
      ends[i]!();
      await runs[i]!.catch(() => undefined);
    };
    expect(began).toEqual([0, 1]);
    await next(1);
    expect(began).toEqual([0, 1, 2]);
    await next(2);
    expect(began).toEqual([0, 1, 2, 3]);
    await next(0);
    expect(began).toEqual([0, 1, 2, 3, 4]);
    await next(4);
    await next(3);
    expect((await settled).map(({ status }) => status)).toEqual([
      'fulfilled',
      'rejected',
      'fulfilled',
      'fulfilled',
      'fulfilled',
    ]);
    let ran = 0;
    await Promise.all([1, 2].map((count) => queue.run(async () => void (ran += count))));
    expect(ran).toBe(3);
  });
});

describe('the files of partitions', () => {
  it('are bounded, however many partitions are used', async () => {
    const machine = new FaultyMachine();
    const broker = await machine.open();
    const count = 600;
    await createTopic(broker, {}, count, 'many');
    for (let i = 0; i < count; i++) {
      await append(partitionOf(broker, i, 'many'), batchOf([`${i}`]), 'all');
    }
    expect(machine.watched.openCount).toBeLessThanOrEqual(500);
    for (let i = 0; i < count; i++) {
      expect(await valuesIn(partitionOf(broker, i, 'many'))).toEqual([`${i}`]);
    }
    expect(machine.watched.openCount).toBeLessThanOrEqual(500);
    await broker.close();
    expect(machine.watched.openCount).toBe(0);
  });

  it('may pass the bound where closing would lose the error of a sync', async () => {
    const machine = new FaultyMachine();
    const broker = await machine.open();
    const count = 600;
    await createTopic(broker, {}, count, 'many');
    for (let i = 0; i < count; i++) await append(partitionOf(broker, i, 'many'), batchOf(['x']));
    expect(machine.watched.openCount).toBeGreaterThanOrEqual(count);
    await broker.close();
    expect(machine.watched.openCount).toBe(0);
  });
});
