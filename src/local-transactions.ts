import type { Broker } from './broker.js';
import type { CommitPosition, Reader, TransactionalWriter, Writer } from './engine.js';
import { OttlaError } from './errors.js';
import { LocalReader } from './local-reader.js';
import type { TransactionalSender } from './local-sender.js';

/** One producer's transactions, one after the other. */
export class LocalTransactions implements TransactionalWriter {
  readonly append: Writer['append'];
  readonly appendAll: Writer['appendAll'];
  readonly room: Writer['room'];
  readonly flush: Writer['flush'];
  readonly #broker: Broker;
  readonly #writer: Writer;
  readonly #sender: TransactionalSender;
  readonly transactionalId: string;
  readonly #onClosed: () => void;
  readonly #timeoutMs: number;
  #state: 'none' | 'beginning' | 'open' | 'ending' | 'closed' = 'none';
  #ending: Promise<void> = Promise.resolve();
  /** An abort failed: who this is by now is to be asked. */
  #isInDoubt = false;

  constructor(
    broker: Broker,
    writer: Writer,
    sender: TransactionalSender,
    options: { readonly transactionalId: string; readonly transactionTimeoutMs: number },
    onClosed: () => void,
  ) {
    this.#broker = broker;
    this.#writer = writer;
    this.#sender = sender;
    this.#onClosed = onClosed;
    this.transactionalId = options.transactionalId;
    this.#timeoutMs = options.transactionTimeoutMs;
    this.append = writer.append.bind(writer);
    this.appendAll = writer.appendAll.bind(writer);
    this.room = (bytes) => writer.room(bytes);
    this.flush = () => writer.flush();
  }

  get metrics(): Writer['metrics'] {
    return this.#writer.metrics;
  }

  async begin(): Promise<void> {
    this.#require('none');
    this.#state = 'beginning';
    const { transactions } = this.#broker;
    try {
      const { identity } = this.#sender;
      if (identity === null || this.#isInDoubt) {
        const { transactionalId: id } = this;
        this.#sender.identity = await transactions.init(id, this.#timeoutMs, identity);
        this.#isInDoubt = false;
      } else {
        await transactions.settle(this.transactionalId, identity);
      }
    } catch (error) {
      this.#leave('beginning', 'none');
      throw error;
    }
    this.#sender.hasSent = false;
    this.#sender.hasFailed = false;
    if (this.#leave('beginning', 'open') === 'closed') throw closed();
  }

  /** Unless it was closed meanwhile. */
  #leave(from: 'beginning' | 'ending', to: 'none' | 'open'): string {
    if (this.#state === from) this.#state = to;
    return this.#state;
  }

  #require(state: 'none' | 'open'): void {
    if (this.#state === state) return;
    if (this.#state === 'closed') throw closed();
    throw state === 'none'
      ? new OttlaError(
          'CONCURRENT_TRANSACTIONS',
          `${this.transactionalId}: a transaction of this producer is open: one comes after the other`,
        )
      : new OttlaError(
          'INVALID_TXN_STATE',
          `${this.transactionalId}: there is no open transaction`,
        );
  }

  sendOffsets(
    reader: Reader<unknown>,
    positions: readonly (CommitPosition & { readonly ownership: number })[],
  ): void {
    this.#require('open');
    if (!(reader instanceof LocalReader)) throw new TypeError('a reader of another engine');
    const commit = reader.pendingCommit(positions);
    this.#broker.transactions.addOffsets(this.transactionalId, this.#sender.identity!, commit);
    this.#sender.hasSent = true;
  }

  commit(): Promise<void> {
    this.#require('open');
    return this.#end(true);
  }

  abort(): Promise<void> {
    this.#require('open');
    return this.#end(false);
  }

  #end(isCommit: boolean): Promise<void> {
    this.#state = 'ending';
    const ended = this.#endNow(isCommit);
    this.#ending = ended.catch(() => undefined);
    return ended;
  }

  /** A commit that rejects leaves the transaction open: it is aborted then. */
  async #endNow(isCommit: boolean): Promise<void> {
    let isOpen = false;
    try {
      await this.#writer.flush();
      const { identity, hasSent, hasFailed } = this.#sender;
      if (isCommit && hasFailed) {
        throw new OttlaError(
          'INVALID_TXN_STATE',
          `${this.transactionalId}: a send of the transaction has failed: it can only be aborted`,
        );
      }
      if (!hasSent) return;
      this.#sender.identity = await this.#broker.transactions.end(
        this.transactionalId,
        identity!,
        isCommit,
        hasFailed,
      );
    } catch (error) {
      isOpen = isCommit;
      this.#isInDoubt = !isCommit;
      throw error;
    } finally {
      this.#leave('ending', isOpen ? 'open' : 'none');
    }
  }

  async close(): Promise<void> {
    const state = this.#state;
    this.#state = 'closed';
    await this.#ending;
    if (state === 'open') await this.#endNow(false).catch(() => undefined);
    await this.#writer.close();
    this.#onClosed();
  }
}

function closed(): OttlaError {
  return new OttlaError('CLOSED', 'the producer is closed');
}
