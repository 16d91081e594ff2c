export interface TransactionRoundsOptions {
  /** URL of the built index.js. */
  readonly entry: string;
  /** Created at the first round; every later one goes on with it. */
  readonly directory: string;
  readonly rounds: number;
  readonly seed: number;
  readonly onRound?: (round: number, totals: TransactionTotals) => void;
}

export interface TransactionTotals {
  readonly kills: number;
  /** Acknowledged ones. */
  readonly commits: number;
  readonly aborts: number;
  /** Transactions that a kill came into, and what became of them. */
  readonly caughtCommitted: number;
  readonly caughtAborted: number;
  /** What an open said of transactions: one for each partition. */
  readonly rolledForward: number;
  readonly rolledBack: number;
  /** Records that the pipeline took from one topic to the other. */
  readonly piped: number;
  readonly numbered: number;
}

/**
 * Starts a writer of transactions on the directory, kills it at a random moment, and checks what it left;
 * so often.
 * @throws Error naming round, seed and directory if a transaction is there in part, an acknowledged one is
 *   not, an aborted one is, an offset that is committed has no output, or one that is not has, or a numbered
 *   record is missing or there twice
 */
export declare function transactionRounds(
  options: TransactionRoundsOptions,
): Promise<TransactionTotals>;
