/** Kafka's offset.metadata.max.bytes. */
const maxMetadataBytes = 4096;
const prefix = 'ottla-finished-1:';

const leastTaken = 256;

/** A record that was taken over, in the order of its partition. */
export interface Taken {
  readonly offset: number;
  isFinished: boolean;
}

/**
 * Which records of a partition are finished, in whatever order they finish: how far a commit may go, and
 * what is finished beyond that.
 *
 * The latter travels in the commit's metadata: lengths in offsets from the committed one on, of what is
 * unfinished and what is finished in turn, as unsigned LEB128, in base64. What does not fit is left out, the
 * furthest first: it is done again after a crash.
 */
export class RunProgress {
  #taken: Taken[] = [];
  /** Of #taken, how many at its start are finished and committable. */
  #head = 0;
  /** With so many of #taken, those are dropped that the ones before them speak for. */
  #most = leastTaken;
  /** All before this offset was taken over or holds no record. */
  #end: number;
  /** From the metadata of the last commit: finished ranges, as start and end in turn. */
  readonly #before: number[];
  /** Grows with every record that finishes. */
  version = 0;

  /** Begins at a committed offset, with what was kept with it; metadata of others is passed over. */
  constructor(offset: number, metadata: string = '') {
    this.#end = offset;
    this.#before = decode(offset, metadata);
  }

  /** The next offset to commit: all before it is finished. */
  get offset(): number {
    return this.#taken[this.#head]?.offset ?? this.#end;
  }

  /** What is kept in mind: about as much as is unfinished, however much is finished beyond that. */
  get keptCount(): number {
    return this.#taken.length - this.#head;
  }

  /** Takes a record over; offsets only grow. It may be finished already, since before a restart. */
  take(offset: number): Taken {
    while (this.#before.length > 0 && this.#before[1]! <= offset) this.#before.splice(0, 2);
    const isFinished = this.#before.length > 0 && this.#before[0]! <= offset;
    const taken = { offset, isFinished };
    if (this.#taken.length >= this.#most) this.#shorten();
    this.#taken.push(taken);
    this.#end = offset + 1;
    if (isFinished) this.#advance();
    return taken;
  }

  /** Before this offset there is nothing more to take over. */
  pass(nextOffset: number): void {
    this.#end = Math.max(this.#end, nextOffset);
  }

  finish(taken: Taken): void {
    if (taken.isFinished) return;
    taken.isFinished = true;
    this.version++;
    this.#advance();
  }

  #advance(): void {
    const taken = this.#taken;
    while (this.#head < taken.length && taken[this.#head]!.isFinished) this.#head++;
  }

  /** Rarely, so that it costs nothing: of a run of finished ones the first tells as much. */
  #shorten(): void {
    const taken = this.#taken.slice(this.#head);
    this.#taken = taken.filter((one, i) => !one.isFinished || taken[i - 1]?.isFinished !== true);
    this.#head = 0;
    this.#most = Math.max(leastTaken, this.#taken.length * 2);
  }

  /** Whether it was finished before a restart, as the last commit tells. */
  wasFinished(offset: number): boolean {
    const before = this.#before;
    for (let i = 0; i < before.length && before[i]! <= offset; i += 2) {
      if (offset < before[i + 1]!) return true;
    }
    return false;
  }

  /** What a commit would say, and its version, if these were finished as well. */
  with(also: readonly Taken[]): { offset: number; metadata: string; version: number } {
    const added = also.filter(({ isFinished }) => !isFinished);
    for (const taken of added) taken.isFinished = true;
    let head = this.#head;
    while (this.#taken[head]?.isFinished === true) head++;
    const offset = this.#taken[head]?.offset ?? this.#end;
    const metadata = this.#metadata(head, offset);
    for (const taken of added) taken.isFinished = false;
    return { offset, metadata, version: this.version + added.length };
  }

  /** What is finished beyond `offset`, for the commit's metadata; '' if nothing is. */
  metadata(): string {
    return this.#metadata(this.#head, this.offset);
  }

  #metadata(head: number, offset: number): string {
    const lengths: number[] = [];
    let start = offset;
    let isFinished = false;
    for (let i = head; i < this.#taken.length; i++) {
      const taken = this.#taken[i]!;
      if (taken.isFinished === isFinished) continue;
      lengths.push(taken.offset - start);
      start = taken.offset;
      isFinished = taken.isFinished;
    }
    if (isFinished) lengths.push(this.#end - start);
    return encode(lengths);
  }
}

function encode(lengths: readonly number[]): string {
  const maxBytes = Math.floor((maxMetadataBytes - prefix.length) / 4) * 3;
  const bytes: number[] = [];
  for (let i = 0; i + 1 < lengths.length; i += 2) {
    const pair = [...leb128(lengths[i]!), ...leb128(lengths[i + 1]!)];
    if (bytes.length + pair.length > maxBytes) break;
    bytes.push(...pair);
  }
  return bytes.length === 0 ? '' : prefix + Buffer.from(bytes).toString('base64');
}

function* leb128(value: number): Iterable<number> {
  let rest = value;
  for (; rest > 0x7f; rest = Math.floor(rest / 128)) yield (rest % 128) | 0x80;
  yield rest;
}

/** Finished ranges, start and end in turn; none if the metadata is not ours. */
function decode(offset: number, metadata: string): number[] {
  if (!metadata.startsWith(prefix)) return [];
  const ranges: number[] = [];
  let at = offset;
  let value = 0;
  let scale = 1;
  for (const byte of Buffer.from(metadata.slice(prefix.length), 'base64')) {
    value += (byte & 0x7f) * scale;
    scale *= 128;
    if (byte > 0x7f) continue;
    at += value;
    ranges.push(at);
    [value, scale] = [0, 1];
  }
  const isWhole = ranges.length % 2 === 0 && scale === 1;
  return isWhole && Number.isSafeInteger(at) ? ranges : [];
}
