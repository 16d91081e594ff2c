/** What is wrong with a data directory. */
export type ProblemCode =
  /** LMDB's file or a row in it cannot be read. */
  | 'METADATA_DAMAGED'
  /** LMDB, meta.properties or a partition.metadata is another store's or topic's, or missing. */
  | 'IDENTITY_MISMATCH'
  /** A partition has no directory. */
  | 'PARTITION_MISSING'
  /** A segment that the metadata has is not there. */
  | 'SEGMENT_MISSING'
  /** A segment is there that the metadata does not have: the metadata is older than the log. */
  | 'SEGMENT_UNKNOWN'
  /** A segment is whole, and not the one that the metadata has: swapped, copied over, or older. */
  | 'SEGMENT_MISMATCH'
  /** Bytes that were durable are no valid batch. */
  | 'BATCH_DAMAGED'
  /** A valid batch has offsets that do not follow those before it. */
  | 'OFFSETS_WRONG'
  /** A batch with the right CRC holds something that is no record. */
  | 'RECORD_INVALID'
  /** An entry of an index file is not what the log has. It costs time only: look-ups check what they use. */
  | 'INDEX_MISMATCH'
  /** A file could not be read. */
  | 'UNREADABLE';

/** What is worth knowing and harms nothing. */
export type NoteCode =
  /** Bytes behind the recovery point are no valid batch: the next open cuts them, or an owner writes now. */
  | 'TORN_TAIL'
  /** A topic's creation or deletion, or the directory's own, was interrupted: the next open finishes it. */
  | 'UNFINISHED'
  /** A group's commit is of no topic, or lies behind its log's end, to where the next open takes it back. */
  | 'COMMIT_ASTRAY'
  /** The oldest segments were removed: the log begins behind them. */
  | 'LOG_BEGINS_LATER'
  /** An index file is missing: look-ups in its segment are slower. */
  | 'INDEX_MISSING'
  /** Batches are whole, but a package that their compression needs is missing: their records were not read. */
  | 'RECORDS_UNREAD'
  /** Kept aside by a repair, or left behind by a crash. Nothing reads it. */
  | 'LEFTOVER'
  /** Not Ottla's. Left alone. */
  | 'UNKNOWN_FILE';

/** Something that verify found, with its place as far as there is one. */
export interface Finding<Code> {
  readonly code: Code;
  readonly topic?: string;
  readonly partition?: number;
  /** Offset of the record at which it begins. */
  readonly offset?: number;
  /** Path of the file or directory. */
  readonly file?: string;
  /** Byte in the file. */
  readonly position?: number;
  /** A sentence that names all of it. */
  readonly message: string;
}

/** Damage, or metadata and files that contradict each other. */
export type VerifyProblem = Finding<ProblemCode>;
/** Nothing wrong: something to know. */
export type VerifyNote = Finding<NoteCode>;

/** What `Ottla.verify()` found. */
export interface VerifyReport {
  /** Whether there is no problem. */
  readonly ok: boolean;
  readonly problems: readonly VerifyProblem[];
  readonly notes: readonly VerifyNote[];
  /** How much was looked at. */
  readonly topics: number;
  readonly partitions: number;
  readonly segments: number;
  readonly batches: number;
  readonly records: number;
  /** Of valid batches in .log files. */
  readonly bytes: number;
}

/** Told after each segment. */
export interface VerifyProgress {
  readonly topic: string;
  readonly partition: number;
  /** Checked so far, in all partitions. */
  readonly segments: number;
  readonly bytes: number;
  /** Of all segments, as far as the metadata knew when the check began. */
  readonly totalBytes: number;
}

/** How `Ottla.verify()` can be watched and ended. */
export interface VerifyOptions {
  /** Ends the check with ABORTED. @default none */
  readonly signal?: AbortSignal;
  /** Called after each segment. It must not throw. @default none */
  readonly progress?: (progress: VerifyProgress) => void;
}

/** Collects what is found. Parts are collected by themselves first: an owner may change them meanwhile. */
export class Findings {
  problems: VerifyProblem[] = [];
  notes: VerifyNote[] = [];
  topics = 0;
  partitions = 0;
  segments = 0;
  batches = 0;
  records = 0;
  bytes = 0;

  add(part: Findings): void {
    this.problems.push(...part.problems);
    this.notes.push(...part.notes);
    this.topics += part.topics;
    this.partitions += part.partitions;
    this.segments += part.segments;
    this.batches += part.batches;
    this.records += part.records;
    this.bytes += part.bytes;
  }

  report(): VerifyReport {
    const { problems, notes, topics, partitions, segments, batches, records, bytes } = this;
    const ok = problems.length === 0;
    return { ok, problems, notes, topics, partitions, segments, batches, records, bytes };
  }
}
