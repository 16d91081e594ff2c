import type { TopicPartition } from './assignment.js';
import type { Commits, Progress } from './consumer-commits.js';
import type { Iteration } from './consumer-iteration.js';
import type { Run } from './consumer-run.js';
import type { Engine, Reader } from './engine.js';
import type { From, Isolation } from './options.js';
import type { TopicRef } from './serde.js';

export interface PositionsOptions {
  readonly engine: Engine;
  readonly reader: Reader<unknown>;
  readonly commits: Commits;
  readonly iteration: Iteration<TopicRef>;
  /** The run that is going on. */
  readonly run: () => Run | null;
  readonly isolation: Isolation;
  /** @throws ILLEGAL_GENERATION unless the partition is assigned, and kept; CLOSED */
  readonly require: (at: TopicPartition) => Progress;
}

/** Where a consumer goes on in each of its partitions, and which of them rest: one place for reader, iteration and run. */
export class Positions {
  readonly #options: PositionsOptions;

  constructor(options: PositionsOptions) {
    this.#options = options;
  }

  /** Forgets what is in flight: this place is the next to be handed out, and to be committed. */
  seek({ topic, partition }: TopicPartition, offset: number): void {
    const { reader, commits, iteration, run, require } = this.#options;
    const progress = require({ topic, partition });
    reader.seek({ topic, partition, offset });
    iteration.drop(progress);
    run()?.drop(progress);
    commits.move(progress, offset);
  }

  async seekTo(places: readonly TopicPartition[], to: From): Promise<void> {
    const { engine, isolation, require } = this.#options;
    for (const at of places) require(at);
    const offsets = await Promise.all(places.map((at) => engine.offsetFor(at, to, isolation)));
    for (const [i, at] of places.entries()) this.seek(at, offsets[i]!);
  }

  /** What is not handed out of these is fetched again later. */
  pause(places: readonly TopicPartition[]): void {
    const { reader, iteration, run, require } = this.#options;
    const paused = places.map((at) => require(at));
    reader.pause(places);
    for (const progress of paused) {
      run()?.pause(progress);
      const { topic, partition } = progress;
      const offset = iteration.cut(progress);
      if (offset !== undefined) reader.seek({ topic, partition, offset });
    }
  }

  resume(places: readonly TopicPartition[]): void {
    const { reader, run, require } = this.#options;
    const resumed = places.map((at) => require(at));
    for (const progress of resumed) run()?.resume(progress);
    reader.resume(places);
  }

  /** The next offset to hand out, or for a run to take over. */
  at(place: TopicPartition): number {
    const { reader, iteration, require } = this.#options;
    const progress = require(place);
    return iteration.nextOffset(progress) ?? reader.position(progress);
  }
}
