import type { TopicSettings } from './options.js';

/** What the rules must know of a segment. */
interface SegmentFacts {
  readonly size: number;
  readonly nextOffset: number;
  readonly maxTimestamp: number;
}

export interface RetentionLimits extends Pick<TopicSettings, 'retentionBytes' | 'retentionMs'> {
  readonly logStartOffset: number;
  /** ms since 1970. */
  readonly now: number;
  /** All groups have read up to here; 0: nothing. */
  readonly consumedOffset: number;
}

/** A consumed active segment is rolled, and so freed, above this size. */
const consumedActiveBytes = 1024 * 1024;

/**
 * How many of the oldest segments may go; all of them: the active one, which is last, too. In the order
 * of Kafka's UnifiedLog.deleteOldSegments: below the log start, then by size, then by time; then what is
 * consumed. By size a segment goes only if what is left has at least retentionBytes, by time only if its
 * largest timestamp is more than retentionMs ago: never for one in the future, nor where there is none.
 */
export function expiredSegments(
  segments: readonly SegmentFacts[],
  limits: RetentionLimits,
): number {
  const { logStartOffset, retentionBytes, retentionMs, now, consumedOffset } = limits;
  const active = segments.length - 1;
  const end = segments[active]!.size === 0 ? active : segments.length;
  let count = 0;
  while (count < active && segments[count]!.nextOffset <= logStartOffset) count++;
  if (retentionBytes >= 0) {
    let excess = segments.slice(count).reduce((bytes, { size }) => bytes + size, -retentionBytes);
    while (count < end && excess >= segments[count]!.size) excess -= segments[count++]!.size;
  }
  if (retentionMs >= 0) {
    while (count < end && isOlder(segments[count]!, now - retentionMs)) count++;
  }
  while (count < active && segments[count]!.nextOffset <= consumedOffset) count++;
  if (count < active || count === end) return count;
  const { size, nextOffset } = segments[active]!;
  return size > consumedActiveBytes && nextOffset <= consumedOffset ? count + 1 : count;
}

function isOlder({ maxTimestamp }: SegmentFacts, time: number): boolean {
  return maxTimestamp >= 0 && maxTimestamp < time;
}
