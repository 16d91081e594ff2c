import type { Broker } from '../../src/broker.js';
import { Consumer } from '../../src/consumer.js';
import { OttlaError } from '../../src/errors.js';
import { LocalEngine } from '../../src/local.js';
import type { Partition } from '../../src/partition.js';
import { Producer } from '../../src/producer.js';
import type { ProducerIdentity } from '../../src/transaction.js';
import { committedIn } from '../committed-records.js';
import { append, batchOf, partitionOf } from '../machine.js';
import { numberedBatch } from '../numbered.js';
import { must } from './check.js';
import { Loss, type LossKind } from './loss.js';
import { noImage, PowerMachine, type Image } from './machine.js';
import { Random } from './random.js';

/** A transactional producer in another process: it survives what happens here. */
interface RemoteModel {
  identity: ProducerIdentity | null;
  sequences: number[];
  /** What it waits for the answer of: then it does not know what became of it. */
  phase: 'idle' | 'working' | 'worked' | 'committing' | 'aborting';
  /** Where the group is once the transaction is committed. */
  end: number;
}

/** One who reads `in`, and writes what it read to both partitions of `out`: name/offset. */
interface WorkerModel {
  readonly name: string;
  /** Its group's offset, as it knows, and as it has last asked for it to be. */
  acknowledged: number;
  asked: number;
  readonly remote: RemoteModel | null;
}

interface Model {
  readonly workers: WorkerModel[];
}

const names = ['a', 'b', 'x', 'y'] as const;
const isRemote = (name: string): boolean => name > 'm';
const groupOf = (name: string): string => `group-${name}`;

function newModel(): Model {
  const newRemote = (): RemoteModel => ({
    identity: null,
    sequences: [0, 0],
    phase: 'idle',
    end: 0,
  });
  return {
    workers: names.map((name) => ({
      name,
      acknowledged: 0,
      asked: 0,
      remote: isRemote(name) ? newRemote() : null,
    })),
  };
}

/** What the simulation has seen. */
export class TransactionFigures {
  readonly losses: Record<LossKind, number> = { kill: 0, nothing: 0, torn: 0 };
  commits = 0;
  aborts = 0;
  /** Transactions that a crash met, and that were found to be committed, or went on. */
  rolledForward = 0;
  wentOn = 0;

  get crashes(): number {
    const { kill, nothing, torn } = this.losses;
    return kill + nothing + torn;
  }

  line(): string {
    return `${this.crashes} crashes, ${this.commits} commits, ${this.aborts} aborts, ${this.rolledForward} rolled forward, ${this.wentOn} went on elsewhere`;
  }
}

interface CrashPoint {
  readonly image: Image;
  readonly model: Model;
  readonly loss: LossKind;
  readonly what: string;
}

/**
 * Consumers and producers of this process, and producers elsewhere, that read, transform and write in
 * transactions, and the power failing in it. After each loss what a group has committed, and what stands in
 * both partitions of what was made of it, is the same: each transaction is there wholly, or not at all.
 * @throws Error naming what was broken, and how it came to it
 */
export async function simulateTransactions(
  seed: number,
  figures: TransactionFigures,
  trace: (line: string) => void = () => undefined,
): Promise<void> {
  const random = new Random(seed);
  const simulation = new Simulation(random, figures, trace);
  await simulation.live(noImage, newModel(), [4, 2, 1, 0], 'the first life');
}

class Simulation {
  readonly #random: Random;
  readonly #figures: TransactionFigures;
  readonly #trace: (line: string) => void;

  constructor(random: Random, figures: TransactionFigures, trace: (line: string) => void) {
    this.#random = random;
    this.#figures = figures;
    this.#trace = trace;
  }

  /** From one start of the machine to its crash points, and behind those. */
  async live(
    image: Image,
    model: Model,
    [crashes = 0, ...rest]: readonly number[],
    story: string,
  ): Promise<void> {
    const machine = new PowerMachine(image, this.#random.fork());
    const losses = this.#random.fork();
    const kept: CrashPoint[] = [];
    let seen = 0;
    this.#trace(story);
    machine.onStep = (name, path) => {
      this.#trace(`  ${machine.steps} ${name} ${path}`);
      seen++;
      const place = kept.length < crashes ? kept.length : losses.below(seen);
      if (place >= crashes) return;
      const loss = new Loss(losses);
      const what = `${loss.kind} at step ${machine.steps}, ${name} ${path}`;
      kept[place] = {
        image: machine.at(loss),
        model: structuredClone(model),
        loss: loss.kind,
        what,
      };
    };
    try {
      const broker = await machine.open();
      const life = new Life(machine, broker, model, this.#random.fork(), this.#figures);
      await life.prepare();
      await life.check();
      if (crashes > 0) await life.run(2 + this.#random.below(6));
      if (this.#random.chance(0.5)) await life.close();
    } catch (error) {
      throw new Error(`${story}: ${String(error)}`, { cause: error });
    }
    for (const point of kept) {
      this.#figures.losses[point.loss]++;
      await this.live(point.image, point.model, rest, `${story}; ${point.what}`);
    }
  }
}

/** One life of the process. */
class Life {
  readonly #machine: PowerMachine;
  readonly #broker: Broker;
  readonly #model: Model;
  readonly #random: Random;
  readonly #figures: TransactionFigures;
  readonly #engine: LocalEngine;
  #problem: string | null = null;

  constructor(
    machine: PowerMachine,
    broker: Broker,
    model: Model,
    random: Random,
    figures: TransactionFigures,
  ) {
    this.#machine = machine;
    this.#broker = broker;
    this.#model = model;
    this.#random = random;
    this.#figures = figures;
    this.#engine = new LocalEngine(broker, {
      error: (error) => (this.#problem ??= error.message),
      warning: (warning) => (this.#problem ??= warning),
    });
  }

  /** Finishes what a crash came in between of, as each would do it. */
  async prepare(): Promise<void> {
    const broker = this.#broker;
    for (const sentence of broker.recovery) {
      must(!sentence.includes('went back'), `open says: ${sentence}`);
    }
    const codecs = { key: null, value: null };
    for (const [name, partitionCount] of [
      ['in', 1],
      ['out', 2],
    ] as const) {
      const settings = { segmentBytes: this.#random.oneOf([1024, 65_536]) };
      if (broker.topics.find(name) === undefined) {
        await broker.topics.create({ name, partitionCount, settings, codecs });
      }
    }
    for (const worker of this.#model.workers) {
      if (worker.remote !== null) await this.#goOn(worker, worker.remote);
    }
  }

  /** A producer elsewhere asks again for what it has no answer of. */
  async #goOn(worker: WorkerModel, remote: RemoteModel): Promise<void> {
    const { transactions } = this.#broker;
    const { name } = worker;
    if (remote.identity === null || remote.phase === 'working') {
      // It does not know which of its batches are there: it begins anew.
      await this.#init(worker, remote);
    } else if (remote.phase !== 'idle') {
      const wasWorked = remote.phase === 'worked';
      if (wasWorked) remote.phase = this.#random.chance(0.7) ? 'committing' : 'aborting';
      const isCommit = remote.phase === 'committing';
      if (isCommit) worker.asked = remote.end;
      await transactions.end(name, remote.identity, isCommit);
      if (isCommit) this.#committed(worker);
      if (isCommit) this.#figures.wentOn++;
      remote.phase = 'idle';
    }
  }

  async #init(worker: WorkerModel, remote: RemoteModel): Promise<void> {
    remote.phase = 'working';
    remote.identity = await this.#broker.transactions.init(worker.name, 900_000);
    remote.sequences = [0, 0];
    remote.phase = 'idle';
  }

  #committed(worker: WorkerModel): void {
    worker.acknowledged = worker.asked;
    this.#figures.commits++;
  }

  #out(index: number): Partition {
    return partitionOf(this.#broker, index, 'out');
  }

  /** Everything that was done in one transaction is there, or nothing of it. */
  async check(): Promise<void> {
    const logs = [this.#out(0), this.#out(1)];
    for (const { name, lastStableOffset, highWatermark } of logs) {
      must(lastStableOffset === highWatermark, `${name}: a transaction is open after its end`);
    }
    const found = await Promise.all(logs.map((log) => committedIn(log)));
    const input = partitionOf(this.#broker, 0, 'in');
    for (const worker of this.#model.workers) {
      const { name, acknowledged, asked } = worker;
      const committed = this.#broker.offsets.fetch(groupOf(name), input.topicId, 0)?.offset ?? 0;
      const where = `${name}: committed is ${committed}`;
      must(committed >= acknowledged, `${where}, acknowledged was ${acknowledged}`);
      must(committed <= asked, `${where}, only ${asked} was asked for`);
      must(committed <= input.logEndOffset, `${where}, the log ends at ${input.logEndOffset}`);
      for (const values of found) {
        const mine = values.filter((value) => value.startsWith(`${name}/`));
        const expected = Array.from({ length: committed }, (_, offset) => `${name}/${offset}`);
        must(
          JSON.stringify(mine) === JSON.stringify(expected),
          `${where}, and there is ${mine.join(' ')}`,
        );
      }
      if (committed > acknowledged) this.#figures.rolledForward++;
      worker.acknowledged = committed;
      worker.asked = committed;
    }
  }

  /** So many transactions of each, side by side, while more comes in. */
  async run(count: number): Promise<void> {
    const work = this.#model.workers.map((worker) =>
      worker.remote === null
        ? this.#workHere(worker, count)
        : this.#workElsewhere(worker, worker.remote, count),
    );
    await Promise.all([this.#bringIn(3 * count), ...work]);
    must(this.#problem === null, `told was: ${this.#problem}`);
    await this.#machine.rest();
    await this.check();
  }

  /** Not synced: a commit of a transaction must see to it. */
  async #bringIn(count: number): Promise<void> {
    const input = partitionOf(this.#broker, 0, 'in');
    for (let i = 0; i < count; i++) {
      await append(input, batchOf(['x'.repeat(this.#random.below(300))]), 1);
      await this.#machine.wait();
    }
  }

  /** A consumer and a producer of this process. */
  async #workHere(worker: WorkerModel, count: number): Promise<void> {
    const { name } = worker;
    const { clock } = this.#machine;
    const random = (): number => this.#random.next();
    const events = {
      error: () => undefined,
      closed: () => undefined,
      warning: () => undefined,
    };
    const producer = new Producer(this.#engine, clock, random, { transactionalId: name }, events);
    const options = {
      group: groupOf(name),
      topics: ['in'],
      maxPollRecords: 1 + this.#random.below(3),
    };
    const consumer = new Consumer(this.#engine, clock, random, options, events);
    const batches = consumer.batches();
    for (let i = 0; i < count; i++) {
      const { value: batch } = await batches.next();
      const isAborted = this.#random.chance(0.3);
      const before = worker.asked;
      const done = producer.transaction(batch!, async (t) => {
        must(batch!.baseOffset === worker.acknowledged, `${name}: handed out ${batch!.baseOffset}`);
        for (const { offset } of batch!.records) {
          for (const partition of [0, 1]) t.send('out', { value: `${name}/${offset}`, partition });
          if (this.#random.chance(0.2)) await this.#machine.wait();
        }
        if (isAborted) throw new Error('abort');
        worker.asked = batch!.nextOffset;
      });
      try {
        await done;
        this.#committed(worker);
      } catch (error) {
        if (error instanceof OttlaError || !isAborted) throw error;
        worker.asked = before;
        this.#figures.aborts++;
      }
    }
    await consumer.close();
    await producer.close();
  }

  /** A producer elsewhere, request by request. */
  async #workElsewhere(worker: WorkerModel, remote: RemoteModel, count: number): Promise<void> {
    const { transactions, groups } = this.#broker;
    const { name } = worker;
    const input = partitionOf(this.#broker, 0, 'in');
    for (let i = 0; i < count; i++) {
      if (this.#random.chance(0.1)) await this.#init(worker, remote);
      while (input.logEndOffset <= worker.acknowledged) await this.#machine.wait();
      const left = input.logEndOffset - worker.acknowledged;
      const end = worker.acknowledged + 1 + this.#random.below(Math.min(3, left));
      const identity = remote.identity!;
      remote.phase = 'working';
      await transactions.addPartitions(name, identity, [this.#out(0), this.#out(1)]);
      for (let offset = worker.acknowledged; offset < end; offset++) {
        await Promise.all(
          [0, 1].map((index) => this.#write(remote, identity, index, `${name}/${offset}`, name)),
        );
      }
      await transactions.addGroup(name, identity, groupOf(name));
      const at = { topic: 'in', partition: 0, offset: end, leaderEpoch: -1, metadata: '' };
      const nobody = { memberId: '', groupInstanceId: null, generationId: -1 };
      const { commit } = groups.judge({ groupId: groupOf(name), ...nobody, offsets: [at] }, true);
      await transactions.commitOffsets(name, identity, commit);
      remote.end = end;
      remote.phase = 'worked';
      await this.#machine.wait();
      const isCommit = this.#random.chance(0.7);
      remote.phase = isCommit ? 'committing' : 'aborting';
      if (isCommit) worker.asked = end;
      await transactions.end(name, identity, isCommit);
      if (isCommit) this.#committed(worker);
      else this.#figures.aborts++;
      remote.phase = 'idle';
    }
  }

  async #write(
    remote: RemoteModel,
    identity: ProducerIdentity,
    index: number,
    value: string,
    name: string,
  ): Promise<void> {
    const log = this.#out(index);
    this.#broker.transactions.refuseUnadded(name, identity, log);
    const baseSequence = remote.sequences[index]!++;
    const timestamp = this.#machine.clock.now();
    const origin = { ...identity, baseSequence, isTransactional: true, timestamp };
    await append(log, numberedBatch([value], origin), 'all');
  }

  async close(): Promise<void> {
    await this.#engine.close();
    const { problems } = await this.#machine.verify();
    must(problems.length === 0, `verify finds: ${problems[0]?.message}`);
  }
}
