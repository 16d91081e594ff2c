export interface CrashRoundsOptions {
  /** URL of the built index.js. */
  readonly entry: string;
  /** Created at the first round; every later one goes on with it. Backups are made, and removed, beside it. */
  readonly directory: string;
  readonly rounds: number;
  readonly seed: number;
  readonly onRound?: (found: {
    readonly round: number;
    /** Lines that the writer said. */
    readonly lines: number;
    /** Activities that the kill came into. */
    readonly hit: readonly string[];
    /** Whether nobody repaired before it was checked, and the next writer opens what was left. */
    readonly readOnly: boolean;
    readonly recovery: readonly string[];
    readonly topics: number;
    readonly records: number;
    readonly committed: number;
  }) => void;
}

export interface CrashTotals {
  readonly kills: number;
  /** By activity: how many kills came into it. */
  readonly hits: Readonly<Record<string, number>>;
  /** Torn tails that were cut. */
  readonly cuts: number;
  readonly acknowledged: number;
  /** Creations and deletions. */
  readonly topics: number;
  readonly commits: number;
  /** Backups that were made, and had all in them. */
  readonly copies: number;
}

/**
 * Starts a writer on the directory, kills it at a random moment or within an activity, and checks what it
 * left; so often.
 * @throws Error naming round, seed and directory if something acknowledged is missing, is there twice or
 *   out of order, if a topic is there in part or again, a log begins or a commit is where it may not be,
 *   or a backup has not all in it
 */
export declare function crashRounds(options: CrashRoundsOptions): Promise<CrashTotals>;
