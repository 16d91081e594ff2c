import { Session, type Profiler } from 'node:inspector/promises';

/** Parts of the code that were run. */
export interface CoverageReport {
  readonly functions: readonly [run: number, all: number];
  /** Blocks between branches, of functions that were run. */
  readonly branches: readonly [run: number, all: number];
  /** Functions that were not, as `file: name`. */
  readonly missed: readonly string[];
}

/** Counts what V8 runs of some files, from now on. */
export class Coverage {
  readonly #session: Session;
  readonly #part: string;

  private constructor(session: Session, part: string) {
    this.#session = session;
    this.#part = part;
  }

  /** @param part what the URL of a file has that counts */
  static async start(part: string): Promise<Coverage> {
    const session = new Session();
    session.connect();
    await session.post('Profiler.enable');
    await session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
    return new Coverage(session, part);
  }

  async take(): Promise<CoverageReport> {
    const { result } = await this.#session.post('Profiler.takePreciseCoverage');
    const scripts = result.filter(({ url }) => url.includes(this.#part));
    const functions = scripts.flatMap(({ url, functions: all }) =>
      all.map((each) => ({ ...each, url })),
    );
    const isRun = ({ ranges }: Profiler.FunctionCoverage): boolean => ranges[0]!.count > 0;
    const branches = functions.filter(isRun).flatMap(({ ranges }) => ranges.slice(1));
    return {
      functions: [functions.filter(isRun).length, functions.length],
      branches: [branches.filter(({ count }) => count > 0).length, branches.length],
      missed: functions
        .filter((each) => !isRun(each))
        .map(({ url, functionName }) => `${url.split(this.#part)[1]}: ${functionName}`),
    };
  }
}
