import { batchOf, fetchPartitions, produce, valuesIn } from '../wire-batches.js';
import type { WireClient } from '../wire-client.js';

export const canaryTopic = 'canary';

/** A client that does all as it should beside those that do not: whatever they do, it is served. */
export class Canary {
  /** Values that were acknowledged, by offset. */
  readonly acknowledged: string[] = [];
  readonly #client: WireClient;
  readonly topicId: string;
  readonly #name: string;

  constructor(client: WireClient, topicId: string, name: string) {
    this.topicId = topicId;
    this.#client = client;
    this.#name = name;
  }

  /** Writes, and reads what it has written. @throws Error if that is not so */
  async sing(): Promise<void> {
    const first = this.acknowledged.length;
    const values = [0, 1, 2].map((i) => `${this.#name} ${first + i}`);
    const [answer] = await produce(this.#client, canaryTopic, { 0: batchOf(values) });
    if (answer!.errorCode !== 0 || answer!.baseOffset !== first) {
      const { errorCode, baseOffset } = answer!;
      throw new Error(`canary: error ${errorCode}, offset ${baseOffset}, expected ${first}`);
    }
    this.acknowledged.push(...values);
    await this.#expectFrom(first);
  }

  /** Reads all again. @throws Error if it is not what was acknowledged */
  async check(): Promise<void> {
    await this.#expectFrom(0);
  }

  async #expectFrom(start: number): Promise<void> {
    const end = this.acknowledged.length;
    for (let offset = start; offset < end;) {
      const [fetched] = await fetchPartitions(this.#client, canaryTopic, { 0: offset });
      const found = valuesIn(fetched!.records).filter(([at]) => at >= offset);
      if (found.length === 0) throw new Error(`canary: nothing at ${offset} of ${end}`);
      for (const [at, value] of found) {
        if (at !== offset || value !== this.acknowledged[offset]) {
          throw new Error(`canary: ${value} at ${at}, expected ${this.acknowledged[offset]}`);
        }
        offset++;
      }
    }
  }
}
