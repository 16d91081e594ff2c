import { Ottla } from '../../src/index.js';
import { join } from 'node:path';
import { Random } from '../power/random.js';
import { Bombs } from './bombs.js';
import { canaryTopic } from './canary.js';
import { FuzzCase, type Reached } from './case.js';
import { directoryWorld, memoryWorld, type World } from './worlds.js';

/** Requests of one case, about. */
const requestsOfCase = 250;
/** One case in so many is for the directory. */
const directoryEvery = 10;

export interface EndedCase {
  readonly number: number;
  readonly seed: number;
  readonly inDirectory: boolean;
  readonly problems: readonly string[];
}

export interface CampaignOptions {
  /** A directory that there is, for files of its own. */
  readonly place: string;
  /** Of the first case: the others have those that follow. */
  readonly seed: number;
  /** It ends after the case in which they were sent. */
  readonly requests: number;
  /** All cases are for the directory; otherwise some are. */
  readonly inDirectory: boolean;
  readonly reached: Reached;
  readonly ended: (ended: EndedCase) => void;
}

/** Runs cases one after the other, and looks at what they have left behind in the directory. */
export async function runCampaign(options: CampaignOptions): Promise<void> {
  const { place, reached, ended } = options;
  const directory = await directoryWorld(place, options.seed);
  const bombs = new Bombs();
  let number = 0;
  for (let seed = options.seed; reached.requests < options.requests; seed++) {
    const inDirectory = options.inDirectory || seed % directoryEvery === 0;
    const world = inDirectory ? directory : await memoryWorld(seed);
    const problems = await problemsOf(world, seed, reached, bombs);
    if (!inDirectory) await world.close();
    ended({ number: ++number, seed, inDirectory, problems });
  }
  const problems = await leftBehind(directory, join(place, 'data'));
  ended({ number: ++number, seed: options.seed, inDirectory: true, problems });
}

async function problemsOf(
  world: World,
  seed: number,
  reached: Reached,
  bombs: Bombs,
): Promise<string[]> {
  const fuzzed = new FuzzCase(world, new Random(seed), reached, bombs);
  try {
    await fuzzed.run(requestsOfCase);
    return fuzzed.problems;
  } catch (error) {
    return [...fuzzed.problems, String(error)];
  }
}

/** What was acknowledged to the canary must be there, and nothing damaged. */
async function leftBehind(world: World, directory: string): Promise<string[]> {
  const { acknowledged } = world.canary;
  await world.canary.check();
  await world.close();
  const report = await Ottla.verify(directory);
  const problems = report.ok ? [] : report.problems.map(String);
  await using ottla = await Ottla.open(directory);
  let count = 0;
  for await (const { value } of ottla.read(canaryTopic)) {
    if (String(value) !== acknowledged[count]) problems.push(`canary: lost ${acknowledged[count]}`);
    count++;
  }
  if (count !== acknowledged.length) {
    problems.push(`canary: ${count} records, ${acknowledged.length} were acknowledged`);
  }
  return problems;
}
