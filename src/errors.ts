/** Kafka's own error names, plus four that only an embedded log needs. */
export type ErrorCode =
  | 'CONCURRENT_TRANSACTIONS'
  | 'CORRUPT_MESSAGE'
  | 'DUPLICATE_SEQUENCE_NUMBER'
  | 'FENCED_INSTANCE_ID'
  | 'GROUP_ID_NOT_FOUND'
  | 'GROUP_SUBSCRIBED_TO_TOPIC'
  | 'ILLEGAL_GENERATION'
  | 'INCONSISTENT_GROUP_PROTOCOL'
  | 'INVALID_CONFIG'
  | 'INVALID_PARTITIONS'
  | 'INVALID_PRODUCER_EPOCH'
  | 'INVALID_PRODUCER_ID_MAPPING'
  | 'INVALID_RECORD'
  | 'INVALID_REQUEST'
  | 'INVALID_TIMESTAMP'
  | 'INVALID_TOPIC_EXCEPTION'
  | 'INVALID_TRANSACTION_TIMEOUT'
  | 'INVALID_TXN_STATE'
  | 'KAFKA_STORAGE_ERROR'
  | 'MESSAGE_TOO_LARGE'
  | 'NON_EMPTY_GROUP'
  | 'NO_OFFSET_FOR_PARTITION'
  | 'OFFSET_METADATA_TOO_LARGE'
  | 'OFFSET_OUT_OF_RANGE'
  | 'OUT_OF_ORDER_SEQUENCE_NUMBER'
  | 'PRODUCER_FENCED'
  | 'REBALANCE_IN_PROGRESS'
  | 'REQUEST_TIMED_OUT'
  | 'TOPIC_ALREADY_EXISTS'
  | 'TRANSACTION_COORDINATOR_FENCED'
  | 'UNKNOWN_MEMBER_ID'
  | 'UNKNOWN_SERVER_ERROR'
  | 'UNKNOWN_TOPIC_OR_PARTITION'
  | 'UNSUPPORTED_COMPRESSION_TYPE'
  | 'UNSUPPORTED_FOR_MESSAGE_FORMAT'
  | 'ABORTED'
  | 'CLOSED'
  | 'LOCKED'
  | 'METADATA_LOST';

/** Codes after which the same call may succeed later, with nothing for the caller to mend first. */
const retriableCodes: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'CONCURRENT_TRANSACTIONS',
  'KAFKA_STORAGE_ERROR',
  'LOCKED',
  'REBALANCE_IN_PROGRESS',
  'REQUEST_TIMED_OUT',
]);

/** Records that were appended one after the other to one partition. */
export interface WrittenRun {
  readonly partition: number;
  readonly baseOffset: number;
  readonly count: number;
}

/** Where a record is. */
export interface RecordPlace {
  readonly topic: string;
  readonly partition: number;
  readonly offset: number;
}

export interface OttlaErrorOptions {
  readonly at?: RecordPlace;
  readonly cause?: unknown;
  readonly retriable?: boolean;
  readonly written?: readonly WrittenRun[];
}

/**
 * An operation failed. Match `code`, never the message.
 *
 * Wrong arguments are `TypeError` or `RangeError` instead, thrown before anything is touched.
 */
export class OttlaError extends Error {
  override readonly name: string = 'OttlaError';
  /** Which failure it is: the table in docs/semantics.md says what to do. */
  readonly code: ErrorCode;
  /** Whether the same call may succeed later, with nothing for the caller to mend first. */
  readonly retriable: boolean;
  /** Of a failed sendBatch only: exactly what of it is in the log. */
  declare readonly written?: readonly WrittenRun[];

  /** Of a record that cannot be decoded only: which it is. */
  declare readonly at?: RecordPlace;

  /** @internal */
  constructor(code: ErrorCode, message: string, options: OttlaErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retriable = options.retriable ?? retriableCodes.has(code);
    if (options.written !== undefined) this.written = options.written;
    if (options.at !== undefined) this.at = options.at;
  }
}

/** The error of a call that names a topic which is not there. */
export function unknownTopic(name: string, where = ''): OttlaError {
  return new OttlaError(
    'UNKNOWN_TOPIC_OR_PARTITION',
    `${where}there is no topic ${JSON.stringify(name)}: create it first`,
  );
}

/**
 * The OttlaError for an error of the operating system; an OttlaError as it is.
 * @throws what is no failure of an operation: a defect of ours
 */
export function asStorageError(where: string, error: unknown, retriable = true): OttlaError {
  if (error instanceof OttlaError) return error;
  if (error instanceof Error && 'code' in error) {
    const message = `${where}: ${error.message}`;
    return new OttlaError('KAFKA_STORAGE_ERROR', message, { cause: error, retriable });
  }
  throw error;
}

/** As instanceof, of whatever code of a user threw. Never throws itself. */
export function isOttlaError(thrown: unknown): thrown is OttlaError {
  try {
    return thrown instanceof OttlaError;
  } catch {
    return false;
  }
}

/** Whatever code of a user threw, in words. Never throws itself. */
export function inWords(thrown: unknown): string {
  try {
    return String(thrown);
  } catch {
    return `${typeof thrown} that cannot be put into words`;
  }
}

/** What the 'error' event tells of a call that was refused, and that nobody awaited. */
export function asUnheard(error: unknown): OttlaError {
  if (isOttlaError(error)) return error;
  return new OttlaError('INVALID_REQUEST', inWords(error), { cause: error });
}
