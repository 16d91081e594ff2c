import type { Fetched, Reader } from './engine.js';
import { isOttlaError, type OttlaError, type RecordPlace } from './errors.js';
import { aFunction, either, oneOf } from './options.js';

/** A record that was passed over, since it cannot be decoded. */
export interface InvalidRecord extends RecordPlace {
  /** INVALID_RECORD; its cause is what the codec or the schema threw. */
  readonly error: OttlaError;
}

/** What to do with a record that cannot be decoded. */
export type OnInvalid = 'fail' | 'skip' | ((invalid: InvalidRecord) => void);

export const onInvalidCheck: (value: unknown) => string | null = either(
  oneOf('fail', 'skip'),
  aFunction,
);

/** The record that an error is about; null: it is about something else. */
export function invalidRecordIn(error: unknown): InvalidRecord | null {
  if (!isOttlaError(error) || error.at === undefined) return null;
  return { ...error.at, error };
}

/** As poll() would give it, had the record not been there; the reader goes on behind it. */
export function passOver(
  reader: Pick<Reader<unknown>, 'seek'>,
  { topic, partition, offset }: InvalidRecord,
  ownership: number,
): Fetched<never> {
  const nextOffset = offset + 1;
  reader.seek({ topic, partition, offset: nextOffset });
  return { topic, partition, records: [], baseOffset: offset, nextOffset, ownership };
}

/** Tells of a record that is passed over. False: it is not to be. */
export function passesOver(
  onInvalid: OnInvalid,
  invalid: InvalidRecord,
  warn: (warning: string) => void,
): boolean {
  if (onInvalid === 'fail') return false;
  if (onInvalid === 'skip') warn(`${invalid.error.message}; passed over`);
  else onInvalid(invalid);
  return true;
}
