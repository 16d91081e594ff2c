import type { AppendSink } from './engine.js';
import { OttlaError, isOttlaError, type WrittenRun } from './errors.js';
import type { RecordMetadata } from './producer-record.js';

/** For rejections that are told elsewhere. */
export function ignore(): void {}

/** With acks 0 nobody is told. */
export const nobody: AppendSink = { acknowledged: () => undefined, failed: () => undefined };

type Resolve = (metadata: RecordMetadata) => void;
type Reject = (error: OttlaError) => void;

/** Of the promise that is being made: an executor of its own would cost each send two objects more. */
let resolveNew: Resolve;
let rejectNew: Reject;
const executor = (resolve: Resolve, reject: Reject): void => {
  resolveNew = resolve;
  rejectNew = reject;
};

/** One send's promise. */
export class PendingSend implements AppendSink {
  readonly promise: Promise<RecordMetadata>;
  readonly #topic: string;
  readonly #timestamp: number;
  readonly #resolve: Resolve;
  readonly #reject: Reject;

  constructor(topic: string, timestamp: number) {
    this.#topic = topic;
    this.#timestamp = timestamp;
    this.promise = new Promise(executor);
    this.#resolve = resolveNew;
    this.#reject = rejectNew;
  }

  acknowledged(partition: number, offset: number, _count = 1, logAppendTime = -1): void {
    const timestamp = logAppendTime === -1 ? this.#timestamp : logAppendTime;
    this.#resolve({ topic: this.#topic, partition, offset, timestamp });
  }

  /** A send that nobody awaits must not end the process. */
  failed(error: OttlaError): void {
    this.promise.catch(ignore);
    this.#reject(error);
  }
}

/** One sendBatch: what it wrote, and what is still under way. */
export class PendingBatch implements AppendSink {
  /** Whether any of it failed in the log, of which the engine tells. */
  hasFailed = false;
  readonly #runs: WrittenRun[] = [];
  #expected = 0;
  #settled = 0;
  #failure: { readonly error: unknown } | null = null;
  #finished: (() => void) | null = null;

  expect(count: number): void {
    this.#expected += count;
  }

  /** acks 0: nothing will be known of these. */
  takenOver(partitions: Int32Array): void {
    const counts = new Map(this.#runs.map(({ partition, count }) => [partition, count]));
    for (const partition of partitions) counts.set(partition, (counts.get(partition) ?? 0) + 1);
    this.#runs.length = 0;
    for (const [partition, count] of counts) this.#runs.push({ partition, baseOffset: -1, count });
  }

  acknowledged(partition: number, baseOffset: number, count: number): void {
    this.#add(partition, baseOffset, count);
    this.#settle(count);
  }

  failed(error: OttlaError, partition: number, baseOffset: number, count: number): void {
    this.hasFailed = true;
    this.#failure ??= { error };
    if (baseOffset >= 0) this.#add(partition, baseOffset, count);
    this.#settle(count);
  }

  #add(partition: number, baseOffset: number, count: number): void {
    const last = this.#runs.findLastIndex((run) => run.partition === partition);
    const run = this.#runs[last];
    if (run !== undefined && run.baseOffset + run.count === baseOffset) {
      this.#runs[last] = { partition, baseOffset: run.baseOffset, count: run.count + count };
    } else {
      this.#runs.push({ partition, baseOffset, count });
    }
  }

  #settle(count: number): void {
    this.#settled += count;
    if (this.#settled >= this.#expected) this.#finished?.();
  }

  /** No more comes. */
  stop(error: unknown): void {
    this.#failure ??= { error };
  }

  refuseIfFailed(): void {
    if (this.#failure !== null) throw this.#failure.error;
  }

  async done(): Promise<WrittenRun[]> {
    if (this.#settled < this.#expected) {
      await new Promise<void>((resolve) => {
        this.#finished = resolve;
      });
    }
    if (this.#failure === null) return this.#runs;
    const { error } = this.#failure;
    const written = this.#runs;
    if (isOttlaError(error)) {
      const { code, message, retriable } = error;
      throw new OttlaError(code, message, { cause: error, retriable, written });
    }
    if (isExtensibleError(error)) throw Object.assign(error, { written });
    throw error;
  }
}

/** The source of the records may throw whatever it likes. */
function isExtensibleError(thrown: unknown): thrown is Error {
  try {
    return thrown instanceof Error && Object.isExtensible(thrown);
  } catch {
    return false;
  }
}
