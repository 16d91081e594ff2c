import assert from 'node:assert/strict';
import { expect, it } from 'vitest';
import { assignors } from '../src/assignor.js';
import { fewestMoves } from './assignor-cases.js';
import { ConsumerReader } from './group-consumer-reader.js';
import { NativeReader, RemoteReader } from './group-readers.js';
import { Chance, World, type Reader } from './group-world.js';
import { firstSeed, seeds } from './seeds.js';

const all = ['t', 'u', 'v'];
const steps = 60;

type Kind = 'native' | 'remote' | 'consumer';

function newReader(world: World, kind: Kind, topics: readonly string[], instanceId?: null): Reader {
  if (kind === 'native') return new NativeReader(world, topics);
  if (kind === 'remote') return new RemoteReader(world, topics);
  return new ConsumerReader(world, topics, instanceId);
}

/** Something happens. */
async function happen(world: World, kinds: readonly Kind[]): Promise<void> {
  const { chance, isOrderly, readers } = world;
  const reader = readers.length === 0 ? undefined : chance.pick(readers);
  const what = chance.below(100);
  if (what < 30) for (let i = 0; i < 10; i++) for (const each of world.readers) each.work();
  else if (what < 45) world.write(isOrderly ? undefined : chance.below(3));
  else if (what < 55) world.produce();
  else if (what < 65 && readers.length < 6) {
    const kind = chance.pick(kinds);
    world.readers.push(newReader(world, kind, chance.some([...world.counts.keys()])));
  } else if (
    what < 66 &&
    !isOrderly &&
    (reader instanceof RemoteReader || reader instanceof ConsumerReader) &&
    reader.instanceId !== null
  ) {
    const Restarted = reader instanceof RemoteReader ? RemoteReader : ConsumerReader;
    world.readers.push(new Restarted(world, reader.topics, reader.instanceId));
  } else if (what < 70) reader?.leave();
  else if (what < 73) world.addPartitions(chance.pick(all), 1 + chance.below(2));
  else if (what < 76 && !isOrderly) reader?.die();
  else if (what < 80 && !isOrderly && reader !== undefined) reader.isStalled = chance.happens(50);
  else await world.advance(isOrderly ? 1000 : chance.pick([10, 1000, 4000, 20_000]));
  await world.clock.settle();
  world.check();
}

/** One life of a group, to its end. */
async function live(seed: number, mixes: readonly (readonly Kind[])[]): Promise<void> {
  const chance = new Chance(seed);
  const isOrderly = chance.happens(30);
  const world = new World(chance, chance.pick(Object.values(assignors)), isOrderly);
  const kinds = chance.pick(mixes);
  world.addPartitions('t', 1 + chance.below(4));
  world.addPartitions('u', 1 + chance.below(4));
  for (let i = 0; i < steps; i++) await happen(world, kinds);
  // Whatever was left over is read by one who reads everything.
  const topics = [...world.counts.keys()];
  world.readers.push(newReader(world, kinds[0]!, topics));
  await world.rest();
  assert.ok(
    !isOrderly ||
      [...world.logs.values()].every(({ mayRepeat }) => Math.max(0, ...mayRepeat) === 0),
  );
}

/** Members of one subscription come and go, and topics grow: one thing at a time. */
async function moveLittle(seed: number, kind: Kind): Promise<void> {
  const chance = new Chance(seed);
  const assignor = chance.pick([assignors.sticky, assignors.cooperativeSticky]);
  const world = new World(chance, assignor, true);
  for (const topic of all) world.addPartitions(topic, 1 + chance.below(12));
  const owners = (): Map<string, string> =>
    new Map(
      world.readers.flatMap((reader) => [...reader.owned()].map((key) => [key, reader.name])),
    );
  for (let i = 0; i < 12; i++) {
    const before = owners();
    const { readers } = world;
    if (readers.length === 0 || chance.happens(50)) readers.push(newReader(world, kind, all, null));
    else if (readers.length > 1 && chance.happens(70)) chance.pick(readers).leave();
    else world.addPartitions(chance.pick(all), 1 + chance.below(4));
    await world.rest();
    const counts = world.readers.map(
      ({ name }) => [...before.values()].filter((owner) => owner === name).length,
    );
    const after = owners();
    const survivors = new Set(world.readers.map(({ name }) => name));
    const moved = [...before].filter(
      ([key, owner]) => survivors.has(owner) && after.get(key) !== owner,
    );
    assert.equal(moved.length, fewestMoves(counts, after.size), 'partitions that moved');
  }
}

const first = firstSeed;
const count = seeds(200);

/** What fails, by its seed. */
async function failuresOf(run: (seed: number) => Promise<void>): Promise<string[]> {
  const failures: string[] = [];
  for (let seed = first; seed < first + count; seed++) {
    await run(seed).catch((error: unknown) => failures.push(`seed ${seed}: ${String(error)}`));
  }
  return failures;
}

it(
  `keeps its promises, whatever happens: ${count} seeds from ${first}`,
  { timeout: 0 },
  async () => {
    const mixes: Kind[][] = [['native'], ['remote'], ['native', 'remote']];
    expect(await failuresOf((seed) => live(seed, mixes))).toEqual([]);
  },
);

it(
  `keeps its promises in the consumer protocol: ${count} seeds from ${first}`,
  { timeout: 0 },
  async () => {
    expect(await failuresOf((seed) => live(seed, [['consumer']]))).toEqual([]);
  },
);

for (const kind of ['native', 'consumer'] as const) {
  it(
    `moves as few partitions of ${kind} members as it can: ${count} seeds from ${first}`,
    { timeout: 0 },
    async () => {
      expect(await failuresOf((seed) => moveLittle(seed, kind))).toEqual([]);
    },
  );
}
