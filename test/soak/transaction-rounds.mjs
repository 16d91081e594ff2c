/**
 * Kills a process that writes in transactions, again and again, and checks each time that every one is
 * there wholly or not at all, offsets included: what must be is kept here, outside of it.
 */
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { randomFrom } from './crash-model.mjs';

const writer = fileURLToPath(new URL('transaction-writer.mjs', import.meta.url));

/** See transaction-rounds.d.mts. */
export async function transactionRounds({
  entry,
  directory,
  rounds,
  seed,
  onRound = () => undefined,
}) {
  const { Ottla } = await import(entry);
  const oracle = new Oracle();
  for (let round = 1; round <= rounds; round++) {
    const random = randomFrom(seed * 1000 + round);
    const lines = await runAndKill(entry, directory, seed * 1000 + round, round, random);
    for (const line of lines) oracle.heard(line.split(' '));
    if (!lines.includes('open')) continue;
    const ottla = await Ottla.open(directory);
    try {
      oracle.opened(ottla.recovery);
      await oracle.check(ottla);
      onRound(round, oracle.totals);
    } catch (error) {
      throw new Error(
        `round ${round} of seed ${seed}: ${error.message}; the directory is ${directory}`,
        { cause: error },
      );
    } finally {
      await ottla.close();
    }
  }
  return { ...oracle.totals, kills: rounds };
}

/** Lines that the writer said before it was killed. */
async function runAndKill(entry, directory, seed, round, random) {
  const child = spawn(process.execPath, [writer, entry, directory, seed, round], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = new Promise((resolve) => child.once('close', (...how) => resolve(how)));
  let output = '';
  let errors = '';
  // However slow the machine is: what counts is how far the writer has come.
  const lines = 1 + random.below(30);
  let isFarEnough = () => undefined;
  const farEnough = new Promise((resolve) => (isFarEnough = resolve));
  child.stderr.setEncoding('utf8').on('data', (text) => (errors += text));
  child.stdout.setEncoding('utf8').on('data', (text) => {
    output += text;
    if (output.split('\n').length > lines) isFarEnough();
  });
  await Promise.race([farEnough, ended]);
  await sleep(random.below(20));
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
  /** Transactions by id: how many records, and what is known of its end. */
  #own = new Map();
  /** Acknowledged numbered records, by offset. */
  #numbered = new Map();
  totals = {
    kills: 0,
    commits: 0,
    aborts: 0,
    caughtCommitted: 0,
    caughtAborted: 0,
    rolledForward: 0,
    rolledBack: 0,
    piped: 0,
    numbered: 0,
  };

  heard([what, id, count]) {
    switch (what) {
      case 'begun':
        this.#own.set(id, { count: Number(count), state: 'begun' });
        break;
      case 'committed':
        this.#own.get(id).state = 'committed';
        this.totals.commits++;
        break;
      case 'aborted':
        this.#own.get(id).state = 'aborted';
        this.totals.aborts++;
        break;
      case 'numbered':
        this.#numbered.set(Number(count), id);
        this.totals.numbered++;
        break;
      case 'error':
        throw new Error(`the writer failed: ${id} ${count}`);
      default:
    }
  }

  opened(recovery) {
    for (const line of recovery) {
      if (line.includes(': committed a transaction')) this.totals.rolledForward++;
      if (line.includes(': aborted the transaction')) this.totals.rolledBack++;
    }
  }

  async check(ottla) {
    await this.#checkOwn(ottla);
    await this.#checkPipe(ottla);
    await this.#checkNumbered(ottla);
    for (const name of ['in', 'out', 'own', 'numbered']) {
      const { partitions } = await ottla.topics.describe(name);
      for (const { partition, highWatermark, lastStableOffset } of partitions) {
        const where = `${name}-${partition}`;
        must(
          lastStableOffset === highWatermark,
          `${where} is stable up to ${lastStableOffset} of ${highWatermark}: a transaction is open`,
        );
      }
    }
  }

  /** Each is there with all of its records, each once, or with none. */
  async #checkOwn(ottla) {
    const found = new Map();
    for await (const { value } of ottla.read('own')) {
      const [id, k] = String(value).split('/');
      must(this.#own.has(id), `records of a transaction ${id} that never began`);
      if (!found.has(id)) found.set(id, new Set());
      must(!found.get(id).has(k), `record ${k} of transaction ${id} is there twice`);
      found.get(id).add(k);
    }
    for (const [id, known] of this.#own) {
      const size = found.get(id)?.size ?? 0;
      must(
        size === 0 || size === known.count,
        `transaction ${id} is there in part: ${size} of ${known.count} records`,
      );
      const isThere = size > 0;
      must(known.state !== 'committed' || isThere, `committed transaction ${id} is gone`);
      must(known.state !== 'aborted' || !isThere, `aborted transaction ${id} is there`);
      if (known.state !== 'begun') continue;
      known.state = isThere ? 'committed' : 'aborted';
      this.totals[isThere ? 'caughtCommitted' : 'caughtAborted']++;
    }
  }

  /** What is committed of `in` is in `out`, each once; nothing else is. */
  async #checkPipe(ottla) {
    const found = new Map();
    for await (const { value } of ottla.read('out')) {
      const [partition, offset] = String(value).split('/').map(Number);
      const key = `${partition}/${offset}`;
      must(!found.has(key), `offset ${offset} of in-${partition} was piped twice`);
      found.set(key, true);
    }
    const groups = await ottla.groups.list();
    const { partitions } = groups.includes('pipe')
      ? await ottla.groups.describe('pipe')
      : { partitions: [] };
    let committedCount = 0;
    for (const { partition, committed } of partitions) {
      committedCount += Math.max(0, committed);
      for (let offset = 0; offset < committed; offset++) {
        must(
          found.has(`${partition}/${offset}`),
          `offset ${offset} of in-${partition} is committed, and was not piped: up to ${committed} is`,
        );
      }
    }
    must(
      found.size === committedCount,
      `${found.size} records were piped, offsets of ${committedCount} are committed`,
    );
    this.totals.piped = found.size;
  }

  /** Acknowledged ones are where they were said to be; none is there twice. */
  async #checkNumbered(ottla) {
    const seen = new Set();
    for await (const { offset, value } of ottla.read('numbered')) {
      const text = String(value);
      must(!seen.has(text), `numbered record ${text} is there twice`);
      seen.add(text);
      const known = this.#numbered.get(offset);
      must(
        known === undefined || known === text,
        `numbered offset ${offset}: ${text}, not ${known}`,
      );
      this.#numbered.delete(offset);
    }
    const [[offset, lost] = []] = this.#numbered;
    must(lost === undefined, `numbered record ${lost} at offset ${offset} is gone`);
  }
}

function must(holds, otherwise) {
  if (!holds) throw new Error(otherwise);
}
