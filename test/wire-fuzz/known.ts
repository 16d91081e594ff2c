import type { Bombs } from './bombs.js';
import type { Fields } from '../wire-client.js';

/** One producer as the server told of it. */
interface KnownProducer {
  readonly producerId: bigint;
  readonly producerEpoch: number;
}

/** So many of a kind are remembered: the newest. */
const remembered = 6;

/** What requests can hit: names that exist, or may, and what answers have told of. */
export class Known {
  readonly topics: readonly string[] = ['t0', 't1', 't2', 't3'];
  readonly groups: readonly string[] = ['g0', 'g1', 'g2'];
  readonly transactionalIds: readonly string[] = ['x0', 'x1', 'x2'];
  readonly topicIds: string[] = [];
  readonly memberIds: string[] = [];
  readonly generations: number[] = [];
  readonly producers: KnownProducer[] = [];
  readonly sessions: number[] = [];
  readonly bombs: Bombs;
  readonly #spared: string;

  /** @param spared the id of a topic that no request shall hit */
  constructor(spared: string, bombs: Bombs) {
    this.#spared = spared;
    this.bombs = bombs;
  }

  /** Takes from an answer whatever later requests can use. */
  learn(answer: unknown): void {
    if (Array.isArray(answer)) for (const item of answer) this.learn(item);
    if (typeof answer !== 'object' || answer === null || Buffer.isBuffer(answer)) return;
    const fields = answer as Fields;
    for (const [name, value] of Object.entries(fields)) {
      if (value === this.#spared) continue;
      if (name === 'topicId' && !String(value).startsWith('AAAA')) add(this.topicIds, value);
      else if (name === 'memberId' && value !== '' && value !== null) add(this.memberIds, value);
      else if (name === 'generationId' && value !== -1) add(this.generations, value);
      else if (name === 'memberEpoch' && Number(value) > 0) add(this.generations, value);
      else if (name === 'sessionId' && value !== 0) add(this.sessions, value);
      else if (typeof value === 'object') this.learn(value);
    }
    const { producerId, producerEpoch } = fields;
    if (typeof producerId !== 'bigint' || typeof producerEpoch !== 'number') return;
    if (producerId >= 0n) add(this.producers, { producerId, producerEpoch });
  }
}

function add(pool: unknown[], value: unknown): void {
  if (pool.includes(value)) return;
  pool.push(value);
  if (pool.length > remembered) pool.shift();
}
