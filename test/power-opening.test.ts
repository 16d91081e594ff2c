import { resolve } from 'node:path';
import { expect, it } from 'vitest';
import type { Broker } from '../src/broker.js';
import { openDataDirectory } from '../src/data-directory.js';
import { OttlaError } from '../src/errors.js';
import type { Disk } from '../src/storage/disk.js';
import { append, batchOf, createTopic, partitionOf, valuesIn } from './machine.js';
import { Loss, type LossKind } from './power/loss.js';
import { PowerMachine, noImage, type Image } from './power/machine.js';
import { Random } from './power/random.js';

const directory = resolve('/some/where/data');
const dataFile = resolve('/some/where/data/meta/data.mdb');

/** A machine as a disk: the metadata are there as long as the name of LMDB's file is, which LMDB never syncs. */
function diskOf(machine: PowerMachine): Disk {
  return {
    files: machine.files,
    async openStore(_directory, { mayBeEmpty = () => false } = {}) {
      const isNew = machine.files.size(dataFile) <= 0;
      if (isNew && !mayBeEmpty()) throw new OttlaError('METADATA_LOST', 'no metadata');
      const file = machine.files.open(dataFile, 'write');
      if (isNew) file.write(Buffer.from('rows'), 0, 4, 0);
      await file.sync();
      file.close();
      return machine.store;
    },
    salvage: () => {
      throw new Error('nothing to salvage');
    },
    lock(path) {
      machine.files.open(path, 'write').close();
      return { tell: () => undefined, close: () => undefined };
    },
  };
}

function rebooted(image: Image, random: Random): PowerMachine {
  const machine = new PowerMachine(image, random);
  return machine.files.size(dataFile) > 0
    ? machine
    : new PowerMachine({ ...image, rows: [] }, random);
}

it('a loss of power at each step of a first opening leaves a directory that opens, and then keeps what it acknowledges', async () => {
  const random = new Random(1);
  const machine = new PowerMachine(noImage, random.fork());
  const left: { image: Image; loss: LossKind; what: string }[] = [];
  machine.onStep = (name, path) => {
    for (const loss of ['kill', 'nothing', ...Array<LossKind>(20).fill('torn')] as const) {
      left.push({ image: machine.at(new Loss(random, loss)), loss, what: `${name} ${path}` });
    }
  };
  const next = (): number => random.next();
  const open = async (on: PowerMachine): Promise<Broker> =>
    (await openDataDirectory(directory, { readOnly: false, random: next, disk: diskOf(on) }))
      .broker;
  await open(machine);
  for (const { image, loss, what } of left) {
    const after = rebooted(image, random.fork());
    try {
      const broker = await open(after);
      await createTopic(broker);
      await append(partitionOf(broker), batchOf(['a']), 'all');
      const nothing = new Loss(random, 'nothing');
      const again = await open(rebooted(after.at(nothing), random.fork()));
      expect(await valuesIn(partitionOf(again))).toEqual(['a']);
    } catch (error) {
      throw new Error(`${loss} before ${what}`, { cause: error });
    }
  }
  expect(left.length).toBeGreaterThan(300);
});
