/** The work of the soak: all that a data directory is for, at once, and checked all the time. */
import { spawn } from 'node:child_process';
import { readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { watchActivities } from './crash-activities.mjs';
import { beginsAt, checkRecord, readThrough, recordAt, soakTopics } from './soak-model.mjs';

const follower = fileURLToPath(new URL('soak-follower.mjs', import.meta.url));
const acks = ['all', 1, 0];

export class SoakLoad {
  counts = {
    sent: 0,
    read: 0,
    followed: 0,
    opened: 0,
    rebalanced: 0,
    retention: 0,
    compaction: 0,
    backup: 0,
  };
  warnings = new Map();
  #entry;
  #place;
  #random;
  #recordsPerSecond;
  #shrinkBy;
  #Ottla;
  #freeSegments;
  /** By topic and partition: the offset that comes next. */
  #ends = new Map();
  /** By group, topic and partition: the offset that comes next, at most. */
  #positions = new Map();
  /** Held by the writers of the compacted topic and by who compares it. */
  #compactedLock = Promise.resolve();
  #isEnding = false;
  #failure = null;

  /** @param shrinkBy so many times smaller are segments: more is freed and compacted in less time */
  constructor({ entry, place, random, recordsPerSecond, shrinkBy }) {
    this.#shrinkBy = shrinkBy;
    this.#entry = entry;
    this.#place = place;
    this.#random = random;
    this.#recordsPerSecond = recordsPerSecond;
  }

  get directory() {
    return join(this.#place, 'data');
  }

  /** Works until end() is called, closing and opening at an interval. */
  async run(reopenMs) {
    const tell = (sign, activity) => {
      if (sign === '-' && activity in this.counts) this.counts[activity]++;
    };
    ({ freeSegments: this.#freeSegments } = await watchActivities(this.#entry, tell));
    ({ Ottla: this.#Ottla } = await import(this.#entry));
    let following;
    while (!this.#isEnding) {
      const ottla = await this.#open();
      following ??= this.#follow();
      await this.#session(ottla, reopenMs);
    }
    following.stdin.end();
    await following.ended;
    const { ok, problems } = await this.#Ottla.verify(this.directory);
    if (!ok) throw new Error(`verify found ${JSON.stringify(problems)}`);
  }

  end() {
    this.#isEnding = true;
  }

  async #open() {
    const ottla = await this.#Ottla.open(this.directory);
    if (ottla.recovery.length > 0) throw new Error(`recovery after a close: ${ottla.recovery}`);
    ottla.on('error', (error) => this.#fail(error));
    ottla.on('warning', (warning) => {
      const kind = warning.replaceAll(/\d+/g, 'n');
      this.warnings.set(kind, (this.warnings.get(kind) ?? 0) + 1);
    });
    for (const [name, options] of Object.entries(soakTopics)) {
      await ottla.topics.create(name, this.#shrunk(options));
      for (const { partition, highWatermark } of (await ottla.topics.describe(name)).partitions) {
        const end = this.#ends.get(`${name}-${partition}`) ?? 0;
        if (highWatermark === end) continue;
        throw new Error(`${name}-${partition} ends at ${highWatermark}, expected ${end}`);
      }
    }
    this.counts.opened++;
    return ottla;
  }

  #shrunk({ segmentBytes, ...options }) {
    const sizes = { segmentBytes: segmentBytes / this.#shrinkBy };
    if ('retentionBytes' in options) sizes.retentionBytes = options.retentionBytes / this.#shrinkBy;
    return { ...options, ...sizes };
  }

  #fail(error) {
    this.#failure ??= error;
  }

  async #session(ottla, ms) {
    const session = { ottla, isEnding: false };
    const until = performance.now() + ms;
    const begin = (work) =>
      work.catch((error) => {
        this.#fail(error);
      });
    const writers = Object.entries(soakTopics).flatMap(([topic, { partitions }]) =>
      Array.from({ length: partitions }, (_, partition) => this.#write(session, topic, partition)),
    );
    const works = [
      ...writers,
      this.#group(session, 'hot', ['sized', 'consumed']),
      this.#group(session, 'other', ['consumed', 'compacted']),
      this.#readCold(session),
      this.#readByTime(session),
      this.#compareCompacted(session),
      this.#free(session),
      this.#backUp(session),
    ].map(begin);
    while (!this.#isEnding && this.#failure === null && performance.now() < until) await sleep(20);
    session.isEnding = true;
    await Promise.all(works);
    await ottla.close();
    if (this.#failure !== null) throw this.#failure;
  }

  /** The only writer of its partition. */
  async #write(session, topic, partition) {
    const { below, oneOf } = this.#random;
    const name = `${topic}-${partition}`;
    const producer = session.ottla.producer({ acks: acks[(partition + topic.length) % 3] });
    const writers = Object.values(soakTopics).reduce((sum, { partitions }) => sum + partitions, 0);
    let owed = 0;
    let last = performance.now();
    const next = () => {
      const offset = this.#ends.get(name) ?? 0;
      this.#ends.set(name, offset + 1);
      return recordAt(topic, partition, offset);
    };
    while (!session.isEnding) {
      const count = 1 + below(oneOf([1, 20, 400]));
      const way = oneOf([sendEach, sendBatch]);
      const send = () => way(producer, topic, count, next, this.#ends.get(name) ?? 0);
      await (topic === 'compacted' ? this.#withCompacted(send) : send());
      this.counts.sent += count;
      const now = performance.now();
      owed = Math.max(0, owed + count - ((now - last) * this.#recordsPerSecond) / 1000 / writers);
      last = now;
      await sleep((owed * 1000 * writers) / this.#recordsPerSecond);
    }
  }

  /** One to three members, who come and go. */
  async #group(session, group, topics) {
    const { below } = this.#random;
    const members = [];
    while (!session.isEnding) {
      if (members.length < 3 && (members.length === 0 || below(2) === 0)) {
        const consumer = session.ottla.consumer({
          group,
          topics,
          maxPollRecords: 1 + below(500),
          assignor: 'cooperative-sticky',
        });
        members.push({ consumer, reading: this.#consume(session.ottla, group, consumer) });
      } else {
        const [member] = members.splice(below(members.length), 1);
        await member.consumer.close();
        await member.reading;
      }
      this.counts.rebalanced++;
      for (let i = 0; i < 5 + below(30) && !session.isEnding; i++) await sleep(50);
    }
    for (const { consumer } of members) await consumer.close();
    for (const { reading } of members) await reading;
  }

  async #consume(ottla, group, consumer) {
    for await (const batch of consumer.batches()) {
      const { topic, partition } = batch;
      const key = `${group} ${topic}-${partition}`;
      for (const record of batch) {
        checkRecord(record);
        const { offset } = record;
        const position = this.#positions.get(key) ?? 0;
        if (offset > position && topic !== 'compacted') {
          const start = await beginsAt(ottla, topic, partition);
          const isFreed = topic === 'sized' && start >= offset;
          if (!isFreed) throw new Error(`${key}: offset ${offset}, expected ${position}`);
        }
        if (offset >= position) this.#positions.set(key, offset + 1);
      }
      this.counts.read += batch.records.length;
    }
  }

  async #readCold(session) {
    while (!session.isEnding) {
      this.counts.read += await readThrough(session.ottla, 'sized');
      this.counts.read += await readThrough(session.ottla, 'timed');
      await sleep(500);
    }
  }

  async #readByTime(session) {
    while (!session.isEnding) {
      const from = new Date(Date.now() - 2000);
      const first = new Set();
      for await (const record of session.ottla.read('timed', { from })) {
        checkRecord(record);
        const { partition, timestamp } = record;
        if (!first.has(partition) && timestamp < from.getTime()) {
          throw new Error(`timed-${partition} by time: ${timestamp} before ${from.getTime()}`);
        }
        first.add(partition);
        this.counts.read++;
      }
      await sleep(500);
    }
  }

  #withCompacted(work) {
    const result = this.#compactedLock.then(work);
    this.#compactedLock = result.catch(() => undefined);
    return result;
  }

  /** The latest record of each key is there, unless it is a tombstone: then nothing before it is. */
  async #compareCompacted(session) {
    while (!session.isEnding) {
      await sleep(1000);
      await this.#withCompacted(async () => {
        const found = new Map();
        for await (const record of session.ottla.read('compacted')) {
          checkRecord(record);
          found.set(`${record.partition} ${record.key}`, record.offset);
        }
        for (let partition = 0; partition < soakTopics.compacted.partitions; partition++) {
          this.#checkLatest(partition, found);
        }
      });
    }
  }

  #checkLatest(partition, found) {
    const end = this.#ends.get(`compacted-${partition}`) ?? 0;
    const seen = new Set();
    // Each key comes once in as many offsets as there are keys.
    for (let offset = end - 1; offset >= Math.max(0, end - 2000); offset--) {
      const { key, value } = recordAt('compacted', partition, offset);
      if (seen.has(key)) continue;
      seen.add(key);
      const at = found.get(`${partition} ${key}`);
      if (at === offset || (value === null && at === undefined)) continue;
      throw new Error(`compacted-${partition}: key ${key} is at ${at}, expected ${offset}`);
    }
  }

  /** As the timers would, in five minutes. */
  async #free(session) {
    while (!session.isEnding) {
      await this.#freeSegments();
      await sleep(500);
    }
  }

  async #backUp(session) {
    const copy = join(this.#place, 'copy');
    while (!session.isEnding) {
      for (let i = 0; i < 40 && !session.isEnding; i++) await sleep(100);
      await session.ottla.backup(copy);
      const { ok, problems } = await this.#Ottla.verify(copy);
      if (!ok) throw new Error(`verify of the copy found ${JSON.stringify(problems)}`);
      rmSync(copy, { recursive: true });
      this.counts.backup++;
    }
  }

  #follow() {
    const child = spawn(process.execPath, [follower, this.#entry, this.directory], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    let output = '';
    let errors = '';
    child.stdout.setEncoding('utf8').on('data', (text) => (output += text));
    child.stderr.setEncoding('utf8').on('data', (text) => (errors += text));
    child.ended = new Promise((resolve) => {
      child.once('close', (code) => {
        // Others may print, too: what counts is the last line.
        const count = /(?:^|\n)(\d+)\n$/.exec(output)?.[1];
        if (code === 0 && count !== undefined) this.counts.followed = Number(count);
        else this.#fail(new Error(`the read-only process ended with ${code}: ${output}${errors}`));
        resolve();
      });
    });
    return child;
  }

  /** Bytes of all files in the data directory; 0 where a directory goes while it is looked at. */
  diskBytes() {
    try {
      return readdirSync(this.directory, { recursive: true }).reduce((bytes, entry) => {
        const stats = statSync(join(this.directory, entry), { throwIfNoEntry: false });
        return bytes + (stats?.size ?? 0);
      }, 0);
    } catch (error) {
      if (error.code !== 'ENOENT') throw error;
      return 0;
    }
  }
}

async function sendEach(producer, topic, count, next, first) {
  const sent = Array.from({ length: count }, async (_, i) => {
    const { offset } = await producer.send(topic, next());
    if (offset !== -1 && offset !== first + i) {
      throw new Error(`${topic}: sent as ${first + i}, acknowledged as ${offset}`);
    }
  });
  await Promise.all(sent);
}

async function sendBatch(producer, topic, count, next, first) {
  const records = Array.from({ length: count }, next);
  let expected = first;
  for (const run of await producer.sendBatch(topic, records)) {
    if (run.baseOffset !== -1 && run.baseOffset !== expected) {
      throw new Error(`${topic}: sent as ${expected}, acknowledged as ${run.baseOffset}`);
    }
    expected += run.count;
  }
}
