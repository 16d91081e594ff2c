import { apis } from '../../src/server/apis.js';
import type { Random } from '../power/random.js';
import type { Bombs } from './bombs.js';
import { Known } from './known.js';
import { Messages } from './messages.js';
import { mutated, noise } from './mutations.js';
import { FuzzPeer, type Answered } from './peer.js';
import type { World } from './worlds.js';
import { canaryTopic } from './canary.js';

/** What of a server cases have reached. */
export class Reached {
  requests = 0;
  /** Whole requests that a server has read, or should have. */
  frames = 0;
  answers = 0;
  connections = 0;
  /** Request, version and error number, of answers that came. */
  readonly paths: Set<string> = new Set<string>();

  readonly answered: Answered = (api: string, version: number, answer: unknown): void => {
    this.answers++;
    const codes = new Set<number>();
    collectCodes(answer, codes);
    for (const code of codes.size === 0 ? [0] : codes) this.paths.add(`${api} ${version} ${code}`);
  };
}

function collectCodes(value: unknown, codes: Set<number>): void {
  if (Array.isArray(value)) for (const item of value) collectCodes(item, codes);
  if (typeof value !== 'object' || value === null || Buffer.isBuffer(value)) return;
  for (const [name, field] of Object.entries(value)) {
    if (name === 'errorCode') codes.add(field as number);
    else if (typeof field === 'object') collectCodes(field, codes);
  }
}

/** What clients do of which a request is but a step. */
const courses: readonly (readonly string[])[] = [
  ['JoinGroup', 'JoinGroup', 'SyncGroup', 'Heartbeat', 'OffsetCommit', 'OffsetFetch', 'LeaveGroup'],
  [
    'ConsumerGroupHeartbeat',
    'ConsumerGroupHeartbeat',
    'OffsetCommit',
    'ConsumerGroupDescribe',
    'ConsumerGroupHeartbeat',
  ],
  [
    'InitProducerId',
    'AddPartitionsToTxn',
    'Produce',
    'AddOffsetsToTxn',
    'TxnOffsetCommit',
    'EndTxn',
  ],
  ['CreateTopics', 'Metadata', 'Produce', 'Fetch', 'Fetch', 'ListOffsets', 'DeleteRecords'],
  ['CreateTopics', 'Metadata', 'DeleteTopics', 'Metadata'],
];

/** So many requests are kept to be made others of. */
const recentFrames = 16;

/** Of those that are asked who they are. */
const login: readonly string[] = [
  'SaslHandshake',
  'SaslAuthenticate',
  'SaslAuthenticate',
  'Metadata',
];

/** Sends so many requests by clients that behave as the random numbers have it, and sees what comes of them. */
export class FuzzCase {
  readonly problems: string[] = [];
  readonly #world: World;
  readonly #random: Random;
  readonly #reached: Reached;
  readonly #known: Known;
  readonly #messages: Messages;
  #peers: FuzzPeer[] = [];
  readonly #recent: Buffer[] = [];

  constructor(world: World, random: Random, reached: Reached, bombs: Bombs) {
    this.#world = world;
    this.#random = random;
    this.#reached = reached;
    this.#known = new Known(world.canary.topicId, bombs);
    this.#messages = new Messages(random, this.#known, apis.values());
  }

  async run(requests: number): Promise<void> {
    const random = this.#random;
    await this.#populate();
    if (random.chance(0.05)) this.#crowd();
    for (let left = requests; left > 0; left--) {
      this.#reached.requests++;
      this.#act(random.chance(0.15) ? this.#newPeer() : this.#somePeer());
      if (random.chance(0.3)) await this.#world.pass(0);
      else if (random.chance(0.03)) await this.#world.pass(random.oneOf([1, 100, 2000]));
      if (random.chance(0.02)) await this.#settled(this.#world.canary.sing());
      if (random.chance(0.05)) await this.#follow(random.oneOf(courses), this.#newPeer(false));
      if (random.chance(0.01)) await this.#follow(login, this.#newPeer(true));
    }
    await this.#finish();
    await this.#settled(this.#world.canary.sing());
    this.problems.push(...this.#world.problems.splice(0));
  }

  /** Only what a case made is there when it begins, so that its seed alone repeats it. */
  async #populate(): Promise<void> {
    const { ottla } = this.#world;
    for (const name of await ottla.topics.list()) {
      if (name !== canaryTopic) await this.#settled(ottla.topics.delete(name));
    }
    for (const name of this.#known.topics.slice(0, 2)) {
      await this.#settled(ottla.topics.create(name, { partitions: 2 }));
    }
  }

  /** A promise that hangs or fails is a problem, and not the end. */
  async #settled(promise: Promise<unknown>): Promise<void> {
    try {
      await this.#world.settled(promise);
    } catch (error) {
      this.problems.push(String(error));
    }
  }

  /** @param isStranger it is asked who it is */
  #newPeer(isStranger: boolean = this.#random.chance(0.1)): FuzzPeer {
    const random = this.#random;
    const stream = isStranger ? this.#world.connectAsStranger() : this.#world.connect(random);
    const { maxRequestBytes } = this.#world;
    const peer = new FuzzPeer(
      stream,
      random,
      maxRequestBytes,
      isStranger,
      (api, version, answer) => {
        this.#reached.answered(api, version, answer);
        this.#known.learn(answer);
      },
    );
    this.#peers.push(peer);
    this.#reached.connections++;
    return peer;
  }

  #somePeer(): FuzzPeer {
    const open = this.#peers.filter(({ isClosed }) => !isClosed);
    return open.length === 0 ? this.#newPeer() : this.#random.oneOf(open);
  }

  #act(peer: FuzzPeer): void {
    const random = this.#random;
    const kind = random.below(100);
    if (kind < 60) peer.send(this.#frame());
    else if (kind < 90) peer.send(mutated(this.#before(), this.#before(), random));
    else if (kind < 93) peer.send(noise(random));
    else if (kind < 96) peer.toggleReading();
    else if (kind < 98) peer.end();
    else peer.leave();
  }

  #frame(name?: string): Buffer {
    const frame = this.#messages.frame(name);
    this.#recent[this.#random.below(recentFrames)] = frame;
    return frame;
  }

  /** One of those that were made before. */
  #before(): Buffer {
    return this.#recent[this.#random.below(recentFrames)] ?? this.#frame();
  }

  /** Many connections at once, of which each asks once. */
  #crowd(): void {
    for (let left = 100; left > 0; left--) {
      this.#reached.requests++;
      this.#newPeer().send(this.#frame());
    }
  }

  async #follow(names: readonly string[], peer: FuzzPeer): Promise<void> {
    for (const name of names) {
      this.#reached.requests++;
      peer.send(this.#frame(name));
      await this.#world.pass(this.#random.oneOf([0, 0, 600]));
    }
  }

  /** Nobody sends any more: what is due comes, and connections end. */
  async #finish(): Promise<void> {
    for (const peer of this.#peers) peer.end();
    await this.#world.until(() => this.#peers.every(({ overdue }) => overdue === null));
    for (const peer of this.#peers) {
      if (peer.overdue !== null) peer.problems.push(peer.overdue);
      peer.leave();
      this.#reached.frames += peer.sent;
      this.problems.push(...peer.problems);
    }
  }
}
