import assert from 'node:assert/strict';
import { expect, it } from 'vitest';
import { assignors } from '../src/assignor.js';
import { fewestMoves } from './assignor-cases.js';
import { NativeReader, RemoteReader } from './group-readers.js';
import { Chance, World } from './group-world.js';

const all = ['t', 'u', 'v'];
const steps = 60;

/** Something happens. */
async function happen(world: World, kinds: readonly string[]): Promise<void> {
  const { chance, isOrderly, readers } = world;
  const reader = readers.length === 0 ? undefined : chance.pick(readers);
  const what = chance.below(100);
  if (what < 30) for (let i = 0; i < 10; i++) for (const each of world.readers) each.work();
  else if (what < 45) world.write(isOrderly ? undefined : chance.below(3));
  else if (what < 55) world.produce();
  else if (what < 65 && readers.length < 6) {
    const isNative = chance.pick(kinds) === 'native';
    const topics = chance.some([...world.counts.keys()]);
    world.readers.push(
      isNative ? new NativeReader(world, topics) : new RemoteReader(world, topics),
    );
  } else if (
    what < 66 &&
    !isOrderly &&
    reader instanceof RemoteReader &&
    reader.instanceId !== null
  )
    world.readers.push(new RemoteReader(world, reader.topics, reader.instanceId));
  else if (what < 70) reader?.leave();
  else if (what < 73) world.addPartitions(chance.pick(all), 1 + chance.below(2));
  else if (what < 76 && !isOrderly) reader?.die();
  else if (what < 80 && !isOrderly && reader !== undefined) reader.isStalled = chance.happens(50);
  else await world.advance(isOrderly ? 1000 : chance.pick([10, 1000, 4000, 20_000]));
  await world.clock.settle();
  world.check();
}

/** One life of a group, to its end. */
async function live(seed: number): Promise<void> {
  const chance = new Chance(seed);
  const isOrderly = chance.happens(30);
  const world = new World(chance, chance.pick(Object.values(assignors)), isOrderly);
  const kinds = chance.pick([['native'], ['remote'], ['native', 'remote']]);
  world.addPartitions('t', 1 + chance.below(4));
  world.addPartitions('u', 1 + chance.below(4));
  for (let i = 0; i < steps; i++) await happen(world, kinds);
  // Whatever was left over is read by one who reads everything.
  const topics = [...world.counts.keys()];
  world.readers.push(
    kinds[0] === 'native' ? new NativeReader(world, topics) : new RemoteReader(world, topics),
  );
  await world.rest();
  assert.ok(
    !isOrderly ||
      [...world.logs.values()].every(({ mayRepeat }) => Math.max(0, ...mayRepeat) === 0),
  );
}

/** Members of one subscription come and go, and topics grow: one thing at a time. */
async function moveLittle(seed: number): Promise<void> {
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
    if (readers.length === 0 || chance.happens(50)) readers.push(new NativeReader(world, all));
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

const first = Number(process.env['OTTLA_SEED'] ?? 1);
const count = Number(process.env['OTTLA_SEEDS'] ?? 200);

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
    expect(await failuresOf(live)).toEqual([]);
  },
);

it(`moves as few partitions as it can: ${count} seeds from ${first}`, { timeout: 0 }, async () => {
  expect(await failuresOf(moveLittle)).toEqual([]);
});
