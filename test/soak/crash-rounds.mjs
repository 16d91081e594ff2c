/**
 * Kills a process that writes, again and again, and checks each time that what it was promised is there:
 * the state that must be is kept here, outside of it.
 */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { randomFrom, valueOf } from './crash-model.mjs';

const writer = fileURLToPath(new URL('crash-writer.mjs', import.meta.url));

/** See crash-rounds.d.mts. */
export async function crashRounds({ entry, directory, rounds, seed, onRound = () => undefined }) {
  const { Ottla } = await import(entry);
  const oracle = new Oracle();
  let cuts = 0;
  for (let round = 1; round <= rounds; round++) {
    const random = randomFrom(seed * 1000 + round);
    const lines = await runAndKill(entry, directory, seed * 1000 + round, round, oracle, random);
    for (const line of lines) oracle.heard(line.split(' '));
    // Now and then nobody repairs: the next writer opens what the last one left.
    const readOnly = random.below(3) === 0 && lines.includes('open');
    const ottla = await Ottla.open(directory, { readOnly });
    try {
      cuts += ottla.recovery.filter((line) => line.includes(' cut ')).length;
      const found = await oracle.check(ottla, readOnly ? null : directory);
      onRound({ round, lines: lines.length, readOnly, recovery: ottla.recovery, ...found });
    } catch (error) {
      throw new Error(
        `round ${round} of seed ${seed}: ${error.message}; the directory is ${directory}`,
        { cause: error },
      );
    } finally {
      await ottla.close();
    }
  }
  return { kills: rounds, cuts, ...oracle.totals };
}

/** Lines that the writer said before it was killed. */
async function runAndKill(entry, directory, seed, round, oracle, random) {
  const known = JSON.stringify(oracle.liveTopics());
  const child = spawn(process.execPath, [writer, entry, directory, seed, round, known], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = new Promise((resolve) => child.once('close', (...how) => resolve(how)));
  let output = '';
  let errors = '';
  let isOpen = () => undefined;
  const opened = new Promise((resolve) => (isOpen = resolve));
  child.stderr.setEncoding('utf8').on('data', (text) => (errors += text));
  child.stdout.setEncoding('utf8').on('data', (text) => {
    output += text;
    if (output.includes('open\n')) isOpen();
  });
  if (random.below(5) === 0) {
    await sleep(random.below(250));
  } else {
    await Promise.race([opened, ended]);
    await sleep(random.below(200));
  }
  child.kill('SIGKILL');
  const [code, signal] = await ended;
  if (signal !== 'SIGKILL' && process.platform !== 'win32') {
    throw new Error(
      `the writer ended by itself, ${code ?? signal}: ${output.slice(-2000)}${errors}`,
    );
  }
  // What follows the last line break was not said whole.
  return output.split('\n').slice(0, -1);
}

/** What must be in the directory, and what may be. */
class Oracle {
  /** By name: incarnation, partitions, state, and by partition the sequence numbers that are there. */
  #topics = new Map();
  /** By topic and partition: the offset that was committed at least, and at most. */
  #commits = new Map();
  totals = { acknowledged: 0, topics: 0, commits: 0 };

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
      case 'committing':
        this.#commit(name, words[1]).most = Number(words[2]);
        break;
      case 'committed':
        this.#commit(name, words[1]).least = Number(words[2]);
        this.totals.commits++;
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
    for (let i = 0; i < count; i++) topic.acknowledged[partition].set(offset + i, first + i);
  }

  #commit(topic, partition) {
    const key = `${topic}-${partition}`;
    if (!this.#commits.has(key)) this.#commits.set(key, { least: 0, most: 0 });
    return this.#commits.get(key);
  }

  /** Compares, and takes over what is there: it must stay. */
  async check(ottla, directory) {
    const names = await ottla.topics.list();
    for (const name of names) must(this.#topics.has(name), `topic ${name} is there again`);
    let records = 0;
    for (const [name, topic] of this.#topics) {
      if (names.includes(name)) {
        records += await checkTopic(ottla, topic);
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
      const where = `the commit of ${topic}-${partition}, ${committed},`;
      must(committed >= least, `${where} was ${least} before`);
      must(committed <= Math.max(least, most), `${where} was asked for ${most} at most`);
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
      (name) => !/^(lock|meta|meta\.properties)$/.test(name),
    );
    const difference = found.toSorted().join(' ');
    must(difference === expected.toSorted().join(' '), `the directory has ${difference}`);
  }
}

function newTopic(name, incarnation, partitions) {
  return {
    name,
    incarnation,
    partitions,
    state: 'creating',
    /** By partition: sequence numbers in the order of their offsets. */
    known: Array.from({ length: partitions }, () => []),
    /** By partition: from offset to sequence number, since the last check. */
    acknowledged: Array.from({ length: partitions }, () => new Map()),
  };
}

async function checkTopic(ottla, topic) {
  const { name, incarnation } = topic;
  const { partitions } = await ottla.topics.describe(name);
  must(
    partitions.length === topic.partitions,
    `topic ${name} has ${partitions.length} partitions, not ${topic.partitions}`,
  );
  const found = partitions.map(() => []);
  for await (const batch of ottla.read(name).batches()) {
    for (const { partition, offset, value } of batch) {
      const sequences = found[partition];
      const text = value.toString();
      const sequence = Number(text.split('/')[2]);
      const where = `${name}-${partition} at offset ${offset}`;
      must(offset === sequences.length, `${where}: expected offset ${sequences.length}`);
      must(text === valueOf(incarnation, partition, sequence), `${where}: ${text}`);
      must(!(sequence <= sequences.at(-1)), `${where}: ${sequence} after ${sequences.at(-1)}`);
      sequences.push(sequence);
    }
  }
  for (const { partition, logStartOffset, highWatermark } of partitions) {
    const sequences = found[partition];
    const where = `${name}-${partition}`;
    must(logStartOffset === 0, `${where} begins at ${logStartOffset}`);
    must(highWatermark === sequences.length, `${where} ends at ${highWatermark}`);
    for (const [offset, sequence] of topic.acknowledged[partition]) {
      must(
        sequences[offset] === sequence,
        `${where} at offset ${offset}: ${sequences[offset]}, acknowledged was ${sequence}`,
      );
    }
    for (const [offset, sequence] of topic.known[partition].entries()) {
      must(
        sequences[offset] === sequence,
        `${where} at offset ${offset}: ${sequences[offset]}, there was ${sequence} before`,
      );
    }
    topic.known[partition] = sequences;
    topic.acknowledged[partition].clear();
  }
  return found.flat().length;
}

function must(holds, otherwise) {
  if (!holds) throw new Error(otherwise);
}
