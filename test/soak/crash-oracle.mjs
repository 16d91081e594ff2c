/** What must be in a directory that a killed process wrote to, and what may be. */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { lastingTopics, recordOf } from './crash-model.mjs';

export class Oracle {
  /** By name: see newTopic(). */
  #topics = new Map();
  /** By topic and partition: the offset that was committed at least, and at most. */
  #commits = new Map();
  /** By name of a copy: what must be in it, and whether it was said to be complete. */
  #copies = new Map();
  totals = { acknowledged: 0, topics: 0, commits: 0, copies: 0 };

  liveTopics() {
    return [...this.#topics.values()].map(({ name, incarnation, partitions }) => ({
      name,
      incarnation,
      partitions,
    }));
  }

  heard([what, ...words]) {
    const [name] = words;
    switch (what) {
      case 'creating':
        this.#topics.set(name, newTopic(name, words[1], Number(words[2])));
        break;
      case 'created':
        this.#topics.get(name).state = 'live';
        this.totals.topics++;
        break;
      case 'deleting':
        this.#topics.get(name).state = 'deleting';
        break;
      case 'deleted':
        this.#topics.delete(name);
        this.totals.topics++;
        break;
      case 'sent':
        this.#sent(name, words[1], ...words.slice(2).map(Number));
        break;
      case 'deletingRecords':
        raise(this.#topics.get(name).logs[words[1]].start, 'most', Number(words[2]));
        break;
      case 'deletedRecords':
        raise(this.#topics.get(name).logs[words[1]].start, 'least', Number(words[2]));
        break;
      case 'committing':
        this.#commit(name, words[1]).most = Number(words[2]);
        break;
      case 'committed':
        this.#commit(name, words[1]).least = Number(words[2]);
        this.totals.commits++;
        break;
      case 'copying':
        this.#copies.set(name, { oracle: this.#clone(), isComplete: false });
        break;
      case 'copied':
        this.#copies.get(name).isComplete = true;
        this.totals.copies++;
        break;
      case 'error':
        throw new Error(`the writer failed: ${words.join(' ')}`);
      default:
    }
  }

  #sent(name, incarnation, partition, offset, first, count) {
    const topic = this.#topics.get(name);
    // Acknowledged just before its topic was deleted.
    if (topic?.incarnation !== incarnation) return;
    this.totals.acknowledged += count;
    const { records } = topic.logs[partition];
    for (let i = 0; i < count; i++) records.set(offset + i, first + i);
  }

  #commit(topic, partition) {
    const key = `${topic}-${partition}`;
    if (!this.#commits.has(key)) this.#commits.set(key, { least: 0, most: 0 });
    return this.#commits.get(key);
  }

  #clone() {
    const clone = new Oracle();
    clone.#topics = structuredClone(this.#topics);
    clone.#commits = structuredClone(this.#commits);
    return clone;
  }

  /** Compares, and takes over what is there: it must stay. */
  async check(ottla, directory) {
    const names = await ottla.topics.list();
    for (const name of names) must(this.#topics.has(name), `topic ${name} is there again`);
    let records = 0;
    for (const [name, topic] of this.#topics) {
      if (names.includes(name)) {
        records += await this.#checkTopic(ottla, topic);
        topic.state = 'live';
      } else {
        must(topic.state !== 'live', `topic ${name} is gone`);
        // In read-only mode a creation is not finished, but it will be.
        if (directory === null && topic.state === 'creating') continue;
        this.#topics.delete(name);
      }
    }
    const committed = await this.#checkCommits(ottla);
    if (directory !== null) this.#checkDirectory(directory);
    return { topics: names.length, records, committed };
  }

  /** Copies that were made since the last check: complete, or refused. They are removed. */
  async checkCopies(Ottla, place) {
    for (const [name, { oracle, isComplete }] of this.#copies) {
      const directory = join(place, name);
      let copy;
      try {
        copy = await Ottla.open(directory, { readOnly: true });
      } catch (error) {
        const isRefused = ['METADATA_LOST', 'KAFKA_STORAGE_ERROR'].includes(error.code);
        must(isRefused && !isComplete, `the copy ${name} cannot be opened: ${error.message}`);
        continue;
      }
      try {
        await oracle.#checkAsCopy(copy, this);
      } catch (error) {
        throw new Error(`in the copy ${name}: ${error.message}`, { cause: error });
      } finally {
        await copy.close();
      }
    }
    this.#copies.clear();
    rmSync(place, { recursive: true, force: true });
  }

  /** This is what must be there at least; what `later` says may be. */
  async #checkAsCopy(copy, later) {
    const names = await copy.topics.list();
    for (const [name, topic] of this.#topics) {
      const now = later.#topics.get(name);
      const stays = now?.incarnation === topic.incarnation && now.state === 'live';
      if (topic.state !== 'live' || !stays) continue;
      must(names.includes(name), `topic ${name} is missing`);
      for (const [i, { start }] of topic.logs.entries()) {
        start.most = now.logs[i].start.most;
        this.#commit(name, i).most = later.#commit(name, i).most;
      }
      await this.#checkTopic(copy, topic);
    }
    await this.#checkCommits(copy);
  }

  async #checkTopic(ottla, topic) {
    const { name } = topic;
    const { partitions } = await ottla.topics.describe(name);
    must(
      partitions.length === topic.partitions,
      `topic ${name} has ${partitions.length} partitions, not ${topic.partitions}`,
    );
    const found = await readTopic(ottla, topic);
    for (const info of partitions) {
      const { partition, logStartOffset } = info;
      const log = topic.logs[partition];
      this.#checkStart(topic, log, info);
      checkRecords(topic, log, info, found[partition]);
      const { most } = log.start;
      log.start = { least: logStartOffset, most: Math.max(most, logStartOffset) };
      log.end = info.highWatermark;
      log.records = found[partition];
    }
    return found.reduce((count, { size }) => count + size, 0);
  }

  /** A log begins where it began, where it was cut on request, or where its retention allows. */
  #checkStart({ name }, { start }, { partition, logStartOffset, bytes }) {
    const where = `${name}-${partition} begins at ${logStartOffset}`;
    must(logStartOffset >= start.least, `${where}, expected at least ${start.least}`);
    if (logStartOffset <= start.most) return;
    const { retention, retentionBytes } = lastingTopics[name] ?? {};
    if (retentionBytes !== undefined) {
      must(bytes >= retentionBytes, `${where}, and has only ${bytes} bytes`);
      return;
    }
    const most = retention === 'consumed' ? this.#commit(name, partition).most : start.most;
    must(logStartOffset <= most, `${where}, expected at most ${most}`);
  }

  async #checkCommits(ottla) {
    if (!(await ottla.groups.list()).includes('g')) {
      must(
        [...this.#commits.values()].every(({ least }) => least === 0),
        'the group is gone',
      );
      return 0;
    }
    const { partitions } = await ottla.groups.describe('g');
    for (const { topic, partition, committed, end } of partitions) {
      const { least, most } = this.#commit(topic, partition);
      const begin = this.#topics.get(topic)?.logs[partition].start.least ?? 0;
      const where = `the commit of ${topic}-${partition}, ${committed},`;
      must(committed >= least, `${where} was ${least} before`);
      // A group's first commit is where the log begins.
      must(committed <= Math.max(least, most, begin), `${where} was asked for ${most} at most`);
      must(committed <= end, `${where} is beyond the log's end ${end}`);
      this.#commits.set(`${topic}-${partition}`, { least: committed, most: committed });
    }
    return partitions.length;
  }

  /** Nothing is left over of topics that are gone. */
  #checkDirectory(directory) {
    const expected = this.liveTopics().flatMap(({ name, partitions }) =>
      Array.from({ length: partitions }, (_, i) => `${name}-${i}`),
    );
    const found = readdirSync(directory).filter(
      (name) => !/^(lock|meta|meta\.properties|meta\..*-old|meta\.repair\.tmp)$/.test(name),
    );
    const difference = found.toSorted().join(' ');
    must(difference === expected.toSorted().join(' '), `the directory has ${difference}`);
    for (const name of readdirSync(directory)) {
      if (/^meta\..*-old$/.test(name)) rmSync(join(directory, name), { recursive: true });
    }
  }
}

function newTopic(name, incarnation, partitions) {
  return {
    name,
    incarnation,
    partitions,
    state: 'creating',
    logs: Array.from({ length: partitions }, () => ({
      /** Where it begins, at least and at most. */
      start: { least: 0, most: 0 },
      /** Its high watermark at the last check. */
      end: 0,
      /** From offset to sequence number: what was found at the last check, and acknowledged since. */
      records: new Map(),
    })),
  };
}

function raise(bounds, which, offset) {
  bounds[which] = Math.max(bounds[which], offset);
}

/** @returns by partition: from offset to sequence number */
async function readTopic(ottla, { name, incarnation, partitions }) {
  const found = Array.from({ length: partitions }, () => new Map());
  const last = Array.from({ length: partitions }, () => ({ offset: -1, sequence: -1 }));
  for await (const batch of ottla.read(name).batches()) {
    for (const { partition, offset, value, headers } of batch) {
      const text = String(value ?? headers[0][1]);
      const sequence = Number(text.split('/')[2]);
      const expected = recordOf(name, incarnation, partition, sequence);
      const where = `${name}-${partition} at offset ${offset}`;
      must((expected.value === null) === (value === null), `${where}: ${text}`);
      must(text === (expected.value ?? expected.headers.value), `${where}: ${text}`);
      must(offset > last[partition].offset, `${where}: behind ${last[partition].offset}`);
      must(
        sequence > last[partition].sequence,
        `${where}: ${sequence} after ${last[partition].sequence}`,
      );
      last[partition] = { offset, sequence };
      found[partition].set(offset, sequence);
    }
  }
  return found;
}

function checkRecords(topic, { end, records }, { partition, ...info }, found) {
  const { logStartOffset, highWatermark } = info;
  const where = `${topic.name}-${partition}`;
  const isCompacted = lastingTopics[topic.name]?.cleanupPolicy === 'compact';
  const byKey = byKeyOf(topic, partition, records, found);
  if (!isCompacted) {
    const count = highWatermark - logStartOffset;
    must(found.size === count, `${where} has ${found.size} records, expected ${count}`);
  }
  for (const offset of found.keys()) {
    const isThereAgain = offset < end && !records.has(offset);
    must(!isThereAgain, `${where} at offset ${offset}: it was gone before`);
    must(
      offset >= logStartOffset && offset < highWatermark,
      `${where} at offset ${offset}: beyond`,
    );
  }
  must(highWatermark >= end, `${where} ends at ${highWatermark}, it ended at ${end} before`);
  for (const [offset, sequence] of records) {
    if (offset < logStartOffset || found.get(offset) === sequence) continue;
    must(
      isCompacted && !found.has(offset) && mayBeGone(topic, partition, offset, sequence, byKey),
      `${where} at offset ${offset}: ${found.get(offset)}, expected ${sequence}`,
    );
  }
}

/** By key: its latest offset of all that was ever there, and its first one of what is there. */
function byKeyOf({ name, incarnation }, partition, records, found) {
  const byKey = new Map();
  const note = (offset, sequence, isThere) => {
    const { key } = recordOf(name, incarnation, partition, sequence);
    const { first, last } = byKey.get(key) ?? { first: Infinity, last: -1 };
    byKey.set(key, {
      first: isThere ? Math.min(first, offset) : first,
      last: Math.max(last, offset),
    });
  };
  for (const [offset, sequence] of records) note(offset, sequence, false);
  for (const [offset, sequence] of found) note(offset, sequence, true);
  return byKey;
}

/**
 * There is a later record of its key, which itself must be there unless that is true of it too; or it is a
 * tombstone, and hides nothing any more.
 */
function mayBeGone({ name, incarnation }, partition, offset, sequence, byKey) {
  const { key, value } = recordOf(name, incarnation, partition, sequence);
  const { first, last } = byKey.get(key);
  return last > offset || (value === null && first > offset);
}

function must(holds, otherwise) {
  if (!holds) throw new Error(otherwise);
}
