import type { Broker } from '../../src/broker.js';
import { Loss, type LossKind } from './loss.js';
import { PowerMachine, noImage, type Image } from './machine.js';
import { Random } from './random.js';

/** What a loss of power came into. */
export interface AfterLoss {
  readonly machine: PowerMachine;
  readonly loss: LossKind;
  /** Whether the work was done, and its caller told so. */
  readonly isDone: boolean;
}

const tornPerStep = 12;

/**
 * Prepares, works, and lets the power fail at each step of the work and behind it: with all of what was
 * not synced kept, with none of it, and with parts. After each the directory is opened and checked.
 * @returns how many losses there were
 */
export async function atEveryLoss(
  prepare: (broker: Broker, machine: PowerMachine) => Promise<unknown>,
  work: (broker: Broker, machine: PowerMachine) => Promise<unknown>,
  check: (broker: Broker, after: AfterLoss) => Promise<void>,
  image: Image = noImage,
): Promise<number> {
  const random = new Random(1);
  const machine = new PowerMachine(image, random.fork());
  const kinds: LossKind[] = ['kill', 'nothing', ...Array<LossKind>(tornPerStep).fill('torn')];
  const left: { image: Image; loss: LossKind; what: string; isDone: boolean }[] = [];
  const fail = (what: string, isDone: boolean): void => {
    for (const loss of kinds) {
      left.push({ image: machine.at(new Loss(random, loss)), loss, what, isDone });
    }
  };
  const broker = await machine.open();
  await prepare(broker, machine);
  machine.onStep = (name, path) => fail(`${name} ${path}`, false);
  await work(broker, machine);
  machine.onStep = () => undefined;
  fail('the end', true);
  for (const { what, loss, isDone, ...point } of left) {
    try {
      const after = new PowerMachine(point.image, random.fork());
      await check(await after.open(), { machine: after, loss, isDone });
    } catch (error) {
      throw new Error(`${loss} before ${what}: ${String(error)}`, { cause: error });
    }
  }
  return left.length;
}
