import { expect, it } from 'vitest';
import { ConsumerWorld, waysToIterate, waysToRun } from './consumer-world.js';
import { Chance } from './group-world.js';
import { firstSeed, seeds } from './seeds.js';

const steps = 40;

/** Something happens. */
async function happen(world: ConsumerWorld): Promise<void> {
  const { chance, clock, faults, isOrderly, members } = world;
  const member = members.length === 0 ? undefined : chance.pick(members);
  const what = chance.below(100);
  if (what < 30) await world.produce();
  else if (what < 55) await clock.advance(1 + chance.below(300));
  else if (what < 65 && members.length < 5) world.join();
  else if (what < 70 && member !== undefined) await world.within(member.leave());
  else if (what < 73) await world.addPartitions(chance.pick(['t', 'u']));
  else if (what < 74) await world.addTopic('v', 1 + chance.below(2));
  else if (what < 80) member?.pause();
  else if (what < 86) member?.begin();
  else if (what < 89 && !isOrderly) member?.cutOff();
  else if (what < 92 && !isOrderly) faults.fail('commit', { code: 'ENOSPC' });
  else if (what < 95 && !isOrderly) {
    const gate = faults.hold('commit');
    clock.after(chance.below(5000), () => gate.open());
  } else await clock.advance(1000 + chance.below(isOrderly ? 1000 : 10_000));
  await clock.settle();
  await world.check();
}

/** One life of a group, to its end. */
async function live(seed: number): Promise<void> {
  const chance = new Chance(seed);
  const ways = chance.pick([waysToIterate, waysToRun]);
  const world = new ConsumerWorld(chance, chance.happens(50), ways);
  await world.addTopic('t', 1 + chance.below(3));
  await world.addTopic('u', 1 + chance.below(3));
  for (let i = 0; i < steps; i++) await happen(world);
  await world.rest();
}

const first = firstSeed;
const count = seeds(20);

it(
  `consumers process every record, once where nothing fails: ${count} seeds from ${first}`,
  { timeout: 0 },
  async () => {
    const failures: string[] = [];
    for (let seed = first; seed < first + count; seed++) {
      await live(seed).catch((error: unknown) => failures.push(`seed ${seed}: ${String(error)}`));
    }
    expect(failures).toEqual([]);
  },
);
