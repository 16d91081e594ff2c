/**
 * Kills a process that writes, again and again, and checks each time that what it was promised is there:
 * the state that must be is kept here, outside of it.
 */
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { activities, randomFrom } from './crash-model.mjs';
import { Oracle } from './crash-oracle.mjs';

const writer = fileURLToPath(new URL('crash-writer.mjs', import.meta.url));
/** How long a kill waits for the activity that it is meant for, once there is work, or for the end of a backup. */
const patienceMs = 2000;
const backupMs = 10_000;
/** When the kills that are meant for no activity come: while it starts; some time after it works, or has sent. */
const moments = ['sent ', 'working\n', 'sent ', 'working\n', 'start'];
/** Activities of which a writer begins few. */
const once = new Set(['open', 'close', 'repair', 'backup']);
/** All of a directory is looked through once in so many rounds. */
const verifyEvery = 10;

/** See crash-rounds.d.mts. */
export async function crashRounds({ entry, directory, rounds, seed, onRound = () => undefined }) {
  const { Ottla } = await import(entry);
  const oracle = new Oracle();
  const copies = `${directory}-copies`;
  const hits = Object.fromEntries(activities.map((activity) => [activity, 0]));
  let cuts = 0;
  for (let round = 1; round <= rounds; round++) {
    const random = randomFrom(seed * 1000 + round);
    // Every second kill comes at any moment, the others into the activities in turn.
    const aim = round % 2 === 0 ? activities[(seed + round / 2) % activities.length] : null;
    const known = JSON.stringify(oracle.liveTopics());
    const words = [writer, entry, directory, copies, seed * 1000 + round, round, aim ?? '', known];
    const moment = moments[((round - 1) / 2) % moments.length];
    const lines = await runAndKill(words, aim, moment, random);
    const underWay = new Map();
    for (const line of lines) {
      const [what, ...rest] = line.split(' ');
      if (what === '+') underWay.set(rest[0], (underWay.get(rest[0]) ?? 0) + 1);
      else if (what === '-') underWay.set(rest[0], underWay.get(rest[0]) - 1);
      else oracle.heard([what, ...rest]);
    }
    const hit = activities.filter((activity) => underWay.get(activity) > 0);
    for (const activity of hit) hits[activity]++;
    const failed = (error) =>
      new Error(`round ${round} of seed ${seed}: ${error.message}; the directory is ${directory}`, {
        cause: error,
      });
    // Now and then nobody repairs: the next writer opens what the last one left.
    let readOnly = random.below(3) === 0 && lines.includes('working');
    let ottla;
    try {
      [ottla, readOnly] = await openOrRepair(Ottla, directory, readOnly, hit.includes('repair'));
    } catch (error) {
      throw failed(error);
    }
    try {
      cuts += ottla.recovery.filter((line) => line.includes(' cut ')).length;
      const found = await oracle.check(ottla, readOnly ? null : directory);
      await oracle.checkCopies(Ottla, copies);
      onRound({ round, lines: lines.length, hit, readOnly, recovery: ottla.recovery, ...found });
    } catch (error) {
      throw failed(error);
    } finally {
      await ottla.close();
    }
    if (readOnly || round % verifyEvery > 0) continue;
    const { ok, problems } = await Ottla.verify(directory);
    if (!ok) throw failed(new Error(`verify found ${JSON.stringify(problems)}`));
  }
  return { kills: rounds, cuts, hits, ...oracle.totals };
}

/** A repair that was killed may leave a directory that only a repair mends: with all that was in it. */
async function openOrRepair(Ottla, directory, readOnly, isInRepair) {
  try {
    return [await Ottla.open(directory, { readOnly }), readOnly];
  } catch (error) {
    if (!isInRepair || error.code !== 'METADATA_LOST') throw error;
    await Ottla.repair(directory);
    return [await Ottla.open(directory), false];
  }
}

/**
 * @param moment of a kill without an aim
 * @returns the lines that the writer said before it was killed
 */
async function runAndKill(words, aim, moment, random) {
  const child = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = new Promise((resolve) => child.once('close', (...how) => resolve(how)));
  let output = '';
  let errors = '';
  let isReached = () => undefined;
  const reached = new Promise((resolve) => (isReached = resolve));
  let isWorking = () => undefined;
  const working = new Promise((resolve) => (isWorking = resolve));
  // The activity comes more than once: not always the first one is hit.
  let passes = aim === null || once.has(aim) ? 0 : random.below(3);
  // What a backup is good for shows when it is done.
  const awaitsEnd = aim === 'backup' && random.below(2) === 0;
  const sign = awaitsEnd ? 'copied' : aim === null ? moment : `+ ${aim}\n`;
  let seen = 0;
  child.stderr.setEncoding('utf8').on('data', (text) => (errors += text));
  child.stdout.setEncoding('utf8').on('data', (text) => {
    output += text;
    if (output.includes('working\n')) isWorking();
    for (let at; (at = output.indexOf(sign, seen)) !== -1;) {
      seen = at + sign.length;
      if (passes-- <= 0) isReached();
    }
  });
  if (sign === 'start') {
    await sleep(random.below(250));
  } else {
    await Promise.race([reached, ended, working]);
    const mostPatience = awaitsEnd ? backupMs : aim === null ? 2 ** 31 - 1 : patienceMs;
    const isOver = new AbortController();
    const late = sleep(mostPatience, undefined, isOver).catch(() => undefined);
    await Promise.race([reached, ended, late]);
    isOver.abort();
    const mostMs = aim === null ? random.oneOf([50, 200, 2000]) : aim === 'backup' ? 500 : 4;
    const waitMs = random.below(mostMs);
    if (waitMs > 0) await sleep(waitMs);
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
