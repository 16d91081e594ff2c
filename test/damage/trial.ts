import { cpSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Ottla, OttlaError, type ReadOptions, type SkippedRange } from '../../src/index.js';
import type { Random } from '../power/random.js';
import { strike, type Strike } from './strike.js';
import { basesIn, batchesIn, group, textOf, type KnownLog, type Template } from './template.js';

/** What one seed has shown. */
export interface Outcome {
  readonly struck: Strike;
  readonly wasKilled: boolean;
  readonly problems: readonly string[];
}

/** One damaged copy of a directory, opened, checked and repaired. Every promise broken is a problem. */
export class DamageTrial {
  readonly #template: Template;
  readonly #place: string;
  readonly #random: Random;
  readonly #problems: string[] = [];
  /** What was told: recovery, warnings, repairs. */
  #told: string[] = [];
  #struck!: Strike;
  /** By `topic-partition`: offsets of batches that were hit. */
  #hit = new Map<string, Set<number>>();
  /** By `topic-partition`: offsets that were read, at any time. */
  readonly #read = new Map<string, Set<number>>();

  constructor(template: Template, place: string, random: Random) {
    this.#template = template;
    this.#place = place;
    this.#random = random;
  }

  async run(): Promise<Outcome> {
    const directory = join(this.#place, 'damaged');
    const repaired = join(this.#place, 'repaired');
    this.#copy(this.#template.directory, directory);
    this.#struck = strike(directory, this.#random);
    this.#hit = this.#findHit(directory);
    this.#copy(directory, repaired);
    // Each way by turns: an opening takes most of the time.
    if (this.#random.chance(0.5)) await this.#use('read-only', directory, true);
    await this.#verify('at first', directory);
    const isOpen = await this.#use('opened', directory, false);
    if (isOpen && this.#random.chance(0.5)) await this.#repair('repaired after use', directory);
    else await this.#repairAnew(repaired);
    this.#checkAllRead();
    return { struck: this.#struck, wasKilled: this.#template.wasKilled, problems: this.#problems };
  }

  async #repairAnew(directory: string): Promise<void> {
    this.#told = [];
    await this.#repair('repaired', directory);
  }

  #copy(from: string, to: string): void {
    rmSync(to, { recursive: true, force: true });
    cpSync(from, to, { recursive: true });
  }

  #problem(what: string): void {
    if (this.#problems.length < 10) this.#problems.push(what);
  }

  /** Records whose bytes were changed: all of their batches. Its epoch is no part of what a batch says. */
  #findHit(directory: string): Map<string, Set<number>> {
    const hit = new Map<string, Set<number>>();
    const { file } = this.#struck;
    if (!file.endsWith('.log')) return hit;
    const before = readFileSync(join(this.#template.directory, file));
    const after = readIfThere(join(directory, file));
    const offsets = new Set<number>();
    for (const batch of batchesIn(join(this.#template.directory, file))) {
      const [was, is] = [before, after].map((bytes) => {
        const own = Buffer.from(bytes.subarray(batch.start, batch.end));
        return own.length < 16 ? own : own.fill(0, 12, 16);
      });
      if (was!.equals(is!)) continue;
      for (let at = batch.baseOffset; at < batch.nextOffset; at++) offsets.add(at);
    }
    return hit.set(file.slice(0, file.lastIndexOf('/')).replaceAll('\\', '/'), offsets);
  }

  /** Opens it, reads all, and writes. @returns whether it could be opened */
  async #use(how: string, directory: string, readOnly: boolean): Promise<boolean> {
    const ottla = await this.#attempt(`${how}: open`, () => Ottla.open(directory, { readOnly }));
    if (ottla === undefined) return false;
    this.#told.push(...ottla.recovery);
    ottla.on('warning', (warning) => void this.#told.push(warning));
    ottla.on('error', (error) => void this.#told.push(error.message));
    try {
      await this.#check(how, ottla, readOnly);
      if (!readOnly) await this.#append(how, ottla);
    } finally {
      await this.#attempt(`${how}: close`, () => ottla.close());
    }
    return true;
  }

  async #check(how: string, ottla: Ottla, mayGrow: boolean): Promise<void> {
    for (const log of this.#template.logs) {
      const infos = await this.#attempt(`${how}: describe`, () => ottla.topics.describe(log.topic));
      if (infos === undefined) continue;
      await this.#readLog(how, ottla, log, mayGrow);
      await this.#lookUp(how, ottla, log);
    }
    await this.#checkCommits(how, ottla);
  }

  /** Reads a log to its end, past damage and up to it, and all that transactions committed. */
  async #readLog(how: string, ottla: Ottla, log: KnownLog, mayGrow: boolean): Promise<void> {
    const name = `${log.topic}-${log.partition}`;
    const seen = this.#read.get(name) ?? new Set();
    this.#read.set(name, seen);
    const isolations =
      log.committed.size === log.records.size
        ? (['read_committed'] as const)
        : (['read_uncommitted', 'read_committed'] as const);
    for (const isolation of isolations) {
      const wanted = isolation === 'read_committed' ? log.committed : log.records;
      for (const isTold of [true, false]) {
        const skipped: SkippedRange[] = [];
        const onCorrupt = isTold
          ? (range: SkippedRange): void => void skipped.push(range)
          : ('fail' as const);
        const options: ReadOptions = { partitions: [log.partition], isolation, onCorrupt };
        const found = new Set<number>();
        let last = -1;
        const where = `${how}: ${name}, ${isolation}`;
        const isWhole = await this.#attempt(where, async () => {
          for await (const record of ottla.read(log.topic, options)) {
            const { offset } = record;
            if (offset <= last) this.#problem(`${where}: offset ${offset} after ${last}`);
            last = offset;
            const text = textOf(record);
            const isNew = text.includes('"new') && offset >= Math.min(log.end, log.durableEnd);
            const isOther =
              text !== log.records.get(offset) &&
              !this.#isUnknowable(log, offset) &&
              !this.#isOfNamedFile(name);
            if (isOther && !isNew && !this.#isAppended(name, text)) {
              this.#problem(
                `${where}: offset ${offset} is ${text}, not ${log.records.get(offset)}`,
              );
            }
            if (!wanted.has(offset) && !text.includes('"new')) {
              this.#problem(`${where}: offset ${offset} was never committed`);
            }
            found.add(offset);
            if (!text.includes('"new')) seen.add(offset);
          }
          return true;
        });
        if (isWhole !== true) continue;
        const missing = [...wanted.keys()].filter((offset) => !found.has(offset));
        const isKnown = (offset: number): boolean =>
          log.superseded.has(offset) ||
          skipped.some((range) => offset >= range.offset && offset < range.nextOffset) ||
          (mayGrow && this.#template.wasKilled && offset >= log.durableEnd) ||
          this.#isUnknowable(log, offset);
        const lost = missing.filter((offset) => !isKnown(offset));
        if (lost.length > 0 && !this.#wasTold(name)) {
          this.#problem(`${where}: ${lost.length} records from ${lost[0]} on are gone in silence`);
        }
      }
    }
  }

  /**
   * A whole file that was exchanged for one with the same offsets, each batch of it valid: its log takes no
   * records, and says which file is not the one that was written; that is all that can be known of it.
   */
  #isOfNamedFile(name: string): boolean {
    const { file, what } = this.#struck;
    return (
      what === 'another file of its kind in its place' &&
      file.startsWith(`${name}/`) &&
      this.#told.some((told) => told.includes(file) && told.includes(`${name} takes no records`))
    );
  }

  #isAppended(name: string, text: string): boolean {
    return text.includes(`"new ${name}`);
  }

  /** Whether it was said that this log lost something. */
  #wasTold(name: string): boolean {
    const patterns = [
      `${name}: cut `,
      `${name}: the log begins at`,
      `${name}: `,
      `${name} takes no`,
    ];
    return this.#told.some((sentence) => patterns.some((pattern) => sentence.includes(pattern)));
  }

  async #lookUp(how: string, ottla: Ottla, log: KnownLog): Promise<void> {
    const name = `${log.topic}-${log.partition}`;
    const offsets = [...log.records.keys()].filter((offset) => !log.superseded.has(offset));
    const hit = this.#hit.get(name);
    for (let i = 0; i < 3; i++) {
      const offset = this.#random.oneOf(offsets);
      const timestamp = log.timestamps.get(offset)!;
      const found = await this.#attempt(`${how}: look up in ${name}`, () =>
        ottla.topics.listOffsets(log.topic, new Date(timestamp)),
      );
      const at = found?.[log.partition]?.offset;
      // Damage before it is where a search may end; behind it nothing can be told if it was lost.
      if (at === undefined || at === offset || hit?.has(offset) === true) continue;
      const isDamaged = hit !== undefined || this.#wasTold(name);
      if (at > offset && !isDamaged)
        this.#problem(`${how}: ${name}: ${timestamp} is at ${offset}, got ${at}`);
      if (at < offset && hit === undefined) {
        this.#problem(`${how}: ${name}: ${timestamp} is at ${offset}, got ${at}`);
      }
    }
  }

  async #checkCommits(how: string, ottla: Ottla): Promise<void> {
    const groups = await this.#attempt(`${how}: groups`, () => ottla.groups.list());
    if (groups === undefined) return;
    if (!groups.includes(group)) {
      const isTold = this.#told.some((sentence) => sentence.includes('commits'));
      if (!isTold) this.#problem(`${how}: all commits are gone in silence`);
      return;
    }
    const described = await this.#attempt(`${how}: group`, () => ottla.groups.describe(group));
    for (const { topic, partition, committed, end, lag } of described?.partitions ?? []) {
      const known = this.#template.commits.get(`${topic}-${partition}`);
      if (committed === -1) continue;
      if (known === undefined || committed > known) {
        this.#problem(`${how}: commit of ${topic}-${partition} is ${committed}, not ${known}`);
      }
      const isTold = this.#told.some((sentence) =>
        sentence.includes(`of ${topic}-${partition} went`),
      );
      if (committed !== known && !isTold && !this.#wasTold(`${topic}-${partition}`)) {
        this.#problem(
          `${how}: commit of ${topic}-${partition} went back to ${committed} in silence`,
        );
      }
      if (lag < 0 || (lag > 0 && committed > end)) {
        this.#problem(
          `${how}: commit ${committed} of ${topic}-${partition} is behind its end ${end}`,
        );
      }
    }
  }

  /** Every partition takes a record, or refuses it in words; what it took can be read. */
  async #append(how: string, ottla: Ottla, mustTake = false): Promise<void> {
    const producer = ottla.producer();
    for (const { topic, partition } of this.#template.logs) {
      const name = `${topic}-${partition}`;
      const value = `new ${name} ${how}`;
      const sent = await this.#attempt(`${how}: send to ${name}`, () =>
        producer.send(topic, { key: 'new', value, partition }),
      );
      if (sent === undefined) {
        if (mustTake) this.#problem(`${how}: ${name} takes no records: ${this.#told.at(-1)}`);
        continue;
      }
      const { offset } = sent;
      const [record] = await this.#collect(`${how}: read the record sent to ${name}`, async () => {
        for await (const found of ottla.read(topic, {
          partitions: [partition],
          from: { [partition]: offset },
        })) {
          return [found.value?.toString()];
        }
        return [];
      });
      if (record !== value)
        this.#problem(`${how}: ${name} took ${value} at ${offset}, has ${record}`);
    }
    await this.#attempt(`${how}: close a producer`, () => producer.close());
  }

  async #collect<T>(what: string, work: () => Promise<T[]>): Promise<T[]> {
    return (await this.#attempt(what, work)) ?? [];
  }

  async #verify(how: string, directory: string): Promise<void> {
    const report = await this.#attempt(`${how}: verify`, () => Ottla.verify(directory));
    const [name, hit] = [...this.#hit][0] ?? [];
    if (report === undefined || hit === undefined || hit.size === 0) return;
    const log = this.#template.logs.find(
      ({ topic, partition }) => `${topic}-${partition}` === name,
    )!;
    if ([...hit].every((offset) => this.#isUnknowable(log, offset))) return;
    if (report.ok && report.notes.length === 0) this.#problem(`${how}: verify finds nothing`);
  }

  /** Repairs it: then all works again, and nothing that was whole before the damage is gone. */
  async #repair(how: string, directory: string): Promise<void> {
    const report = await this.#attempt(`${how}: repair`, () => Ottla.repair(directory));
    if (report === undefined) {
      this.#problem(`${how}: repair failed: ${this.#told.at(-1)}`);
      return;
    }
    this.#told.push(...report);
    const ottla = await this.#attempt(`${how}: open`, () => Ottla.open(directory));
    if (ottla === undefined) {
      this.#problem(`${how}: it cannot be opened: ${this.#told.at(-1)}`);
      return;
    }
    this.#told.push(...ottla.recovery);
    ottla.on('warning', (warning) => void this.#told.push(warning));
    await this.#check(how, ottla, false);
    await this.#append(how, ottla, true);
    await this.#attempt(`${how}: close`, () => ottla.close());
    const verified = await this.#attempt(`${how}: verify`, () => Ottla.verify(directory));
    for (const { message } of verified?.problems ?? []) this.#problem(`${how}: verify: ${message}`);
  }

  /**
   * In the active segment of a killed process, behind all that any row knows of: the file's end, the lack of it,
   * and whole batches of another log there are what a loss of power may leave.
   */
  #isUnknowable({ topic, partition, durableEnd }: KnownLog, offset: number): boolean {
    const name = `${topic}-${partition}`;
    const active = basesIn(join(this.#template.directory, name)).toSorted((a, b) => a - b);
    const file = `${name}/${String(active.at(-1)).padStart(20, '0')}.log`;
    return this.#template.wasKilled && this.#struck.file === file && offset >= durableEnd;
  }

  /** Everything outside the damaged batches was read, before the repair or after it. */
  #checkAllRead(): void {
    for (const { topic, partition, records, durableEnd } of this.#template.logs) {
      const name = `${topic}-${partition}`;
      const hit = this.#hit.get(name) ?? new Set();
      const read = this.#read.get(name) ?? new Set();
      const active = basesIn(join(this.#template.directory, name))
        .toSorted((a, b) => a - b)
        .at(-1)!;
      // Behind what was durable the first damage ends the log.
      const isTail = this.#struck.file.startsWith(name) && this.#template.wasKilled;
      const first = Math.min(...hit, Infinity);
      const end = isTail ? Math.max(durableEnd, Math.min(first, active)) : Infinity;
      const lost = [...records.keys()].filter(
        (offset) => !hit.has(offset) && offset < end && !read.has(offset),
      );
      if (lost.length > 0) {
        this.#problem(
          `${name}: ${lost.length} whole records from ${lost[0]} on could never be read`,
        );
      }
    }
  }

  /** Whatever fails must say why, by an OttlaError: undefined then. */
  async #attempt<T>(what: string, work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      this.#told.push(`${what}: ${String(error)}`);
      if (!(error instanceof OttlaError)) {
        const trace = error instanceof Error ? error.stack : String(error);
        this.#problem(`${what} failed untyped: ${trace}`);
      }
      return undefined;
    }
  }
}

function readIfThere(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch {
    return Buffer.alloc(0);
  }
}
