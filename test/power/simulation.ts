import { checkOpened, checkVerified, must, noteCrash } from './check.js';
import type { StepName } from './files.js';
import { Loss, type LossKind } from './loss.js';
import { PowerMachine, noImage, type Image } from './machine.js';
import { copyOf, newModel, type Model } from './model.js';
import { Random } from './random.js';
import { Workload } from './workload.js';

/** What the simulation has seen. */
export class Figures {
  seeds = 0;
  /** Losses of power that were opened after, by what the disk was asked for at that moment. */
  readonly points: Map<string, number> = new Map();
  readonly losses: Record<LossKind, number> = { kill: 0, nothing: 0, torn: 0 };
  /** Those of them that came while a recovery was under way. */
  inRecovery = 0;
  /** Writes and syncs that failed. */
  faults = 0;
  /** Opened in all, second openings included. */
  openings = 0;
  acknowledged = 0;
  cuts = 0;
  keptAside = 0;
  rewound = 0;
  lost = 0;

  get crashes(): number {
    return [...this.points.values()].reduce((sum, count) => sum + count, 0);
  }

  line(): string {
    return `${this.crashes} losses of power, ${this.cuts} logs cut, ${this.acknowledged} acknowledged records`;
  }

  table(): string {
    const { losses, points } = this;
    const byPoint = [...points].toSorted(([, a], [, b]) => b - a);
    return [
      `${this.crashes} losses of power (${losses.torn} torn, ${losses.nothing} with nothing unsynced kept, ${losses.kill} kills), ${this.inRecovery} of them in a recovery`,
      ...byPoint.map(([name, count]) => `  ${String(count).padStart(8)} ${name}`),
      `${this.openings} openings: ${this.cuts} logs cut, ${this.keptAside} torn tails with good batches kept, ${this.rewound} commits rewound`,
      `${this.faults} writes and syncs that failed`,
      `${this.acknowledged} acknowledged records, ${this.lost} of them, with acks 1, lost from the ends of their logs`,
    ].join('\n');
  }
}

/** A moment at which the power fails. */
interface CrashPoint {
  readonly image: Image;
  readonly model: Model;
  readonly loss: LossKind;
  readonly name: StepName;
  readonly what: string;
  readonly inRecovery: boolean;
}

/** How much of a life is looked at. */
interface Extent {
  /** What is done in it. */
  readonly actions: number;
  /** Crash points that are followed up, of all there are. */
  readonly crashes: number;
}

/** Keeps some of the points that a life comes by, each as likely as any other. */
class CrashPoints {
  readonly kept: CrashPoint[] = [];
  readonly #limit: number;
  readonly #random: Random;
  #seen = 0;

  constructor(limit: number, random: Random) {
    this.#limit = limit;
    this.#random = random;
  }

  add(point: () => CrashPoint): void {
    this.#seen++;
    if (this.kept.length < this.#limit) {
      this.kept.push(point());
      return;
    }
    const place = this.#random.below(this.#seen);
    if (place < this.#limit) this.kept[place] = point();
  }
}

/**
 * One random workload with the power failing in it: at all of its crash points if it is short, at some of
 * them if it is long. After each the directory is opened, compared with what was promised, worked on, and
 * fails again, in recovery too, up to three times in a row.
 * @throws Error naming the promise that was broken, and how it came to it
 */
export async function simulate(
  seed: number,
  figures: Figures,
  trace: (line: string) => void = () => undefined,
): Promise<void> {
  const random = new Random(seed);
  const isShort = random.chance(0.08);
  const extents: Extent[] = isShort
    ? [
        { actions: 3 + random.below(7), crashes: Infinity },
        { actions: 3, crashes: 1 },
      ]
    : [
        { actions: 20 + random.below(50), crashes: 4 },
        { actions: random.below(10), crashes: 2 },
        { actions: random.below(6), crashes: 1 },
        { actions: random.below(4), crashes: 0 },
      ];
  const first = { image: noImage, model: newModel() };
  await new Simulation(random, figures, trace).live(first, extents, 'the first life');
  figures.seeds++;
}

class Simulation {
  readonly #random: Random;
  readonly #figures: Figures;
  readonly #trace: (line: string) => void;
  readonly #isFaulty: boolean;

  constructor(random: Random, figures: Figures, trace: (line: string) => void) {
    this.#random = random;
    this.#figures = figures;
    this.#trace = trace;
    this.#isFaulty = random.chance(0.25);
  }

  /** From one start of the machine to its crash points, and behind those. */
  async live(
    { image, model }: Pick<CrashPoint, 'image' | 'model'>,
    [extent, ...rest]: readonly Extent[],
    story: string,
  ): Promise<void> {
    const { actions = 0, crashes = 0 } = extent ?? {};
    const machine = new PowerMachine(image, this.#random.fork());
    const points = new CrashPoints(crashes, this.#random.fork());
    const losses = this.#random.fork();
    let inRecovery = true;
    const add = (name: StepName, path: string): void => {
      points.add(() => {
        const drawn = new Loss(losses);
        const mayBeKilled = drawn.kind !== 'kill' || !machine.hasUnnotedFault;
        const power = mayBeKilled ? drawn : new Loss(losses, 'nothing');
        const what = `${power.kind} at step ${machine.steps}, ${name} ${path}`;
        const left = machine.at(power);
        const told = copyOf(model);
        return { image: left, model: told, loss: power.kind, name, what, inRecovery };
      });
    };
    machine.onStep = (name, path) => {
      this.#trace(`    ${machine.steps} ${name} ${path}`);
      add(name, path);
    };
    this.#trace(`  ${story}`);
    try {
      const broker = await machine.open();
      const opened = await checkOpened(machine, broker, model);
      inRecovery = false;
      this.#count(opened);
      const workload = new Workload(machine, broker, model, this.#random.fork(), (line) =>
        this.#trace(`   ${line}`),
      );
      if (!model.mayTearAgain && this.#random.chance(0.3)) {
        await this.#openAgain(machine, model, false);
      }
      if (this.#isFaulty) machine.faultiness = 0.03;
      await workload.run(actions);
      await workload.check();
      add('rest', '');
      if (this.#random.chance(0.7)) {
        await workload.close();
        this.#figures.faults += machine.faults;
        // Nothing is closed well after a failure.
        if (machine.faults === 0) await checkVerified(machine, model);
        if (machine.faults === 0 && !model.mayTearAgain)
          await this.#openAgain(machine, model, true);
      }
      this.#figures.acknowledged += workload.acknowledged;
    } catch (error) {
      throw new Error(`${story}: ${String(error)}`, { cause: error });
    }
    for (const point of points.kept) {
      this.#countPoint(point);
      noteCrash(point.model, point);
      await this.live(point, rest, `${story}; ${point.what}`);
    }
  }

  /**
   * What open has mended is durable, and what was closed is: nothing is to be said. Only what open had taken
   * over after a kill may go with the power, and commits behind it go back.
   */
  async #openAgain(machine: PowerMachine, model: Model, isClosed: boolean): Promise<void> {
    const kind = this.#random.oneOf(['kill', 'nothing'] as const);
    const image = machine.at(new Loss(this.#random.fork(), kind));
    const again = new PowerMachine(image, this.#random.fork());
    const broker = await again.open();
    this.#figures.openings++;
    const told = copyOf(model);
    told.lostPower = kind === 'nothing' && !isClosed;
    const said = broker.recovery.find(
      (sentence) => !(told.lostPower && sentence.includes(' went back ')),
    );
    must(said === undefined, `the second open says: ${said}`);
    must(kind !== 'kill' || again.steps === 0, `the second open makes ${again.steps} steps`);
    await checkOpened(again, broker, told);
  }

  #count({ cuts, keptAside, rewound, lost }: Awaited<ReturnType<typeof checkOpened>>): void {
    this.#figures.openings++;
    this.#figures.cuts += cuts;
    this.#figures.keptAside += keptAside;
    this.#figures.rewound += rewound;
    this.#figures.lost += lost;
  }

  #countPoint({ name, loss, inRecovery }: CrashPoint): void {
    const { points, losses } = this.#figures;
    points.set(name, (points.get(name) ?? 0) + 1);
    losses[loss]++;
    if (inRecovery) this.#figures.inRecovery++;
  }
}
