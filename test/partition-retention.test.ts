import { describe, expect, it } from 'vitest';
import { expiredSegments, type RetentionLimits } from '../src/partition-retention.js';

const mebibyte = 1024 * 1024;

interface Facts {
  readonly size: number;
  readonly nextOffset: number;
  readonly maxTimestamp: number;
}

/** Segments of ten records and 100 bytes each, unless said otherwise; the last one is active. */
function segments(...all: Partial<Facts>[]): Facts[] {
  return all.map((facts, i) => ({
    size: 100,
    nextOffset: (i + 1) * 10,
    maxTimestamp: 1000 * (i + 1),
    ...facts,
  }));
}

function expired(all: readonly Facts[], limits: Partial<RetentionLimits>): number {
  return expiredSegments(all, {
    logStartOffset: 0,
    retentionBytes: -1,
    retentionMs: -1,
    now: 1_000_000,
    consumedOffset: 0,
    ...limits,
  });
}

const four = segments({}, {}, {}, {});

describe('without limits', () => {
  it('nothing goes', () => expect(expired(four, {})).toBe(0));
});

describe('below the log start', () => {
  it.each([
    [9, 0],
    [10, 1],
    [19, 1],
    [30, 3],
    [40, 3],
  ])('%i: %i segments go, never the active one', (logStartOffset, count) => {
    expect(expired(four, { logStartOffset })).toBe(count);
  });
});

describe('by size', () => {
  it.each([
    [500, 0],
    [400, 0],
    [301, 0],
    [300, 1],
    [299, 1],
    [200, 2],
    [100, 3],
    [1, 3],
    [0, 4],
  ])('of %i bytes: %i segments go, so that what is left has as many', (retentionBytes, count) => {
    expect(expired(four, { retentionBytes })).toBe(count);
  });

  it('counts what is left above the log start', () => {
    expect(expired(four, { retentionBytes: 200, logStartOffset: 25 })).toBe(2);
    expect(expired(four, { retentionBytes: 100, logStartOffset: 10 })).toBe(3);
  });

  it('stops at the first that must stay', () => {
    expect(expired(segments({}, { size: 1000 }, {}, {}), { retentionBytes: 1000 })).toBe(1);
  });

  it('never counts an active segment without a batch', () => {
    const all = segments({}, { size: 0, nextOffset: 10, maxTimestamp: -1 });
    expect(expired(all, { retentionBytes: 0 })).toBe(1);
    expect(expired(segments({ size: 0 }), { retentionBytes: 0 })).toBe(0);
  });
});

describe('by time', () => {
  it.each([
    [999_000, 0],
    [998_999, 1],
    [997_999, 2],
    [996_000, 3],
    [995_999, 4],
    [0, 4],
  ])('of %i ms: %i segments go, the active one too', (retentionMs, count) => {
    expect(expired(four, { retentionMs })).toBe(count);
  });

  it('stops at the first that must stay', () => {
    const all = segments({}, { maxTimestamp: 999_999 }, {}, {});
    expect(expired(all, { retentionMs: 1000 })).toBe(1);
  });

  it('keeps what has a timestamp in the future', () => {
    const all = segments({ maxTimestamp: 1e15 }, {}, {});
    expect(expired(all, { retentionMs: 0 })).toBe(0);
  });

  it('keeps what has no timestamp', () => {
    expect(expired(segments({ maxTimestamp: -1 }, {}), { retentionMs: 0 })).toBe(0);
  });

  it('comes after size, each on what the one before left', () => {
    expect(expired(four, { retentionBytes: 300, retentionMs: 997_999 })).toBe(2);
    expect(expired(four, { retentionBytes: 100, retentionMs: 998_999 })).toBe(3);
  });

  it.each([-1e12, 0, 500])('a clock that says %i frees nothing', (now) => {
    expect(expired(four, { retentionMs: 1000, now })).toBe(0);
  });
});

describe('what is consumed', () => {
  it.each([
    [0, 0],
    [9, 0],
    [10, 1],
    [39, 3],
    [40, 3],
  ])('up to %i: %i segments go, not a small active one', (consumedOffset, count) => {
    expect(expired(four, { consumedOffset })).toBe(count);
  });

  it('includes an active segment of more than 1 MiB', () => {
    const small = segments({}, { size: mebibyte });
    const large = segments({}, { size: mebibyte + 1 });
    expect(expired(small, { consumedOffset: 20 })).toBe(1);
    expect(expired(large, { consumedOffset: 20 })).toBe(2);
    expect(expired(large, { consumedOffset: 19 })).toBe(1);
  });

  it('comes beside the limits', () => {
    expect(expired(four, { consumedOffset: 10, retentionMs: 997_999 })).toBe(2);
    expect(expired(four, { consumedOffset: 30, retentionMs: 998_999 })).toBe(3);
  });
});
