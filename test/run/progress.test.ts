import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RunProgress, type Taken } from '../../src/run-progress.js';

describe('how far a commit may go', () => {
  it('is the first record that is not finished, whatever is finished behind it', () => {
    const progress = new RunProgress(10);
    const taken = [10, 11, 12, 14].map((offset) => progress.take(offset));
    progress.pass(20);
    expect(progress.offset).toBe(10);
    progress.finish(taken[2]!);
    progress.finish(taken[1]!);
    expect([progress.offset, progress.keptCount]).toEqual([10, 4]);
    progress.finish(taken[0]!);
    expect([progress.offset, progress.keptCount]).toEqual([14, 1]);
    progress.finish(taken[3]!);
    expect([progress.offset, progress.keptCount]).toEqual([20, 0]);
  });

  it('is the end where there is no record', () => {
    const progress = new RunProgress(3);
    expect(progress.offset).toBe(3);
    progress.pass(7);
    expect(progress.offset).toBe(7);
  });

  it('does not count a record twice', () => {
    const progress = new RunProgress(0);
    const first = progress.take(0);
    progress.take(1);
    progress.finish(first);
    progress.finish(first);
    expect([progress.offset, progress.version]).toEqual([1, 1]);
  });
});

describe('a commit with more than is finished', () => {
  it('says the same as if it were, and changes nothing', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.nat(30), { minLength: 1 }),
        fc.subarray(Array.from({ length: 31 }, (_, i) => i)),
        fc.subarray(Array.from({ length: 31 }, (_, i) => i)),
        (offsets, finished, also) => {
          const all = offsets.toSorted((a, b) => a - b);
          const make = (): { progress: RunProgress; taken: Taken[] } => {
            const progress = new RunProgress(0);
            const taken = all.map((offset) => progress.take(offset));
            for (const one of taken) if (finished.includes(one.offset)) progress.finish(one);
            return { progress, taken };
          };
          const { progress, taken } = make();
          const before = [progress.offset, progress.metadata(), progress.version];
          const said = progress.with(taken.filter(({ offset }) => also.includes(offset)));
          expect([progress.offset, progress.metadata(), progress.version]).toEqual(before);
          const other = make();
          for (const one of other.taken) {
            if (also.includes(one.offset)) other.progress.finish(one);
          }
          const { offset, version } = other.progress;
          expect(said).toEqual({ offset, metadata: other.progress.metadata(), version });
        },
      ),
    );
  });

  it('knows what was finished before a restart', () => {
    const { offset, metadata } = { offset: 5, metadata: after([5, 6, 7, 9], [6, 7], 5).metadata() };
    const again = new RunProgress(offset, metadata);
    expect([4, 5, 6, 7, 8, 9].filter((one) => again.wasFinished(one))).toEqual([6, 7, 8]);
  });
});

/** Takes offsets over, and finishes some. */
function after(offsets: readonly number[], finished: readonly number[], start = 0): RunProgress {
  const progress = new RunProgress(start);
  const taken = offsets.map((offset) => progress.take(offset));
  for (const one of taken) if (finished.includes(one.offset)) progress.finish(one);
  return progress;
}

describe('what is finished beyond it', () => {
  it('is known again after a restart', () => {
    const before = after([5, 6, 7, 8, 9], [6, 7, 9], 5);
    const again = new RunProgress(before.offset, before.metadata());
    const taken = [5, 6, 7, 8, 9, 10].map((offset) => again.take(offset));
    expect(taken.filter(({ isFinished }) => isFinished).map(({ offset }) => offset)).toEqual([
      6, 7, 9,
    ]);
    again.finish(taken[0]!);
    expect(again.offset).toBe(8);
    expect(new RunProgress(8, again.metadata()).take(9).isFinished).toBe(true);
  });

  it('needs no metadata where nothing is', () => {
    expect(after([0, 1], [0, 1]).metadata()).toBe('');
    expect(after([0, 1], []).metadata()).toBe('');
    expect(new RunProgress(4).metadata()).toBe('');
  });

  it('fits into 4,096 bytes: the furthest is left out', () => {
    const offsets = Array.from({ length: 10_000 }, (_, i) => i);
    const progress = after(
      offsets,
      offsets.filter((offset) => offset % 2 === 1),
    );
    const metadata = progress.metadata();
    expect(metadata.length).toBeLessThanOrEqual(4096);
    expect(metadata.length).toBeGreaterThan(4080);
    const again = new RunProgress(0, metadata);
    const known = offsets.map((offset) => again.take(offset).isFinished);
    const count = known.filter(Boolean).length;
    expect(count).toBeGreaterThan(1500);
    expect(known.slice(0, count * 2)).toEqual(offsets.slice(0, count * 2).map((o) => o % 2 === 1));
  });

  it.each([
    ['metadata of somebody else', 'mine'],
    ['a prefix alone', 'ottla-finished-1:'],
    ['half a range', 'ottla-finished-1:AQ=='],
    ['a length that does not end', 'ottla-finished-1:gA=='],
    ['lengths beyond 2^53', `ottla-finished-1:${Buffer.alloc(20, 0xff).toString('base64')}AQ==`],
    ['no base64', 'ottla-finished-1:***'],
  ])('is nothing with %s', (_name, metadata) => {
    const progress = new RunProgress(0, metadata);
    expect([0, 1, 2].map((offset) => progress.take(offset).isFinished)).toEqual([
      false,
      false,
      false,
    ]);
  });

  it('is kept in little room, however much is finished behind a record that is not', () => {
    const progress = new RunProgress(0);
    const first = progress.take(0);
    const late = [];
    for (let offset = 1; offset < 100_000; offset++) {
      const taken = progress.take(offset);
      if (offset % 10_000 === 5) late.push(taken);
      else progress.finish(taken);
      expect(progress.keptCount).toBeLessThanOrEqual(256);
    }
    expect(progress.offset).toBe(0);
    const again = new RunProgress(0, progress.metadata());
    const comesAgain = [];
    for (let offset = 0; offset < 100_000; offset++) {
      if (!again.take(offset).isFinished) comesAgain.push(offset);
    }
    expect(comesAgain).toEqual([0, ...late.map(({ offset }) => offset)]);
    for (const taken of late) progress.finish(taken);
    expect(progress.offset).toBe(0);
    progress.finish(first);
    expect([progress.offset, progress.metadata()]).toEqual([100_000, '']);
  });

  it('holds for any order of finishing, with gaps, over restarts', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.nat(2000), { minLength: 1, maxLength: 800, size: 'max' }),
        fc.infiniteStream(fc.boolean()),
        fc.nat(5),
        (unordered, coin, restarts) => {
          const offsets = unordered.toSorted((a, b) => a - b);
          const finished = new Set<number>();
          let progress = new RunProgress(0);
          for (let round = 0; round <= restarts; round++) {
            const start = progress.offset;
            const metadata = progress.metadata();
            progress = new RunProgress(start, metadata);
            const open: Taken[] = [];
            for (const offset of offsets.filter((at) => at >= start)) {
              const taken = progress.take(offset);
              expect(taken.isFinished).toBe(finished.has(offset));
              if (!taken.isFinished) open.push(taken);
            }
            for (const taken of open.toReversed()) {
              if (!coin.next().value) continue;
              finished.add(taken.offset);
              progress.finish(taken);
            }
            const unfinished = offsets.find((offset) => !finished.has(offset));
            expect(progress.offset).toBe(unfinished ?? offsets.at(-1)! + 1);
          }
        },
      ),
    );
  });
});
