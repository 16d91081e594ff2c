import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { MemoryFiles } from '../src/storage/memory-files.js';

describe('MemoryFiles', () => {
  it('resolves sync() within the microtasks of this turn', async () => {
    const files = new MemoryFiles();
    const file = files.open('f', 'write');
    let synced = false;
    void file.sync().then(() => (synced = true));
    for (let i = 0; i < 4; i++) await Promise.resolve();
    expect(synced).toBe(true);
  });

  it('gives back the memory of what is cut off and of what is removed', () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const files = new MemoryFiles();
    const chunk = Buffer.alloc(1024 * 1024, 1);
    const held = (): number => {
      collect();
      collect();
      return process.memoryUsage().arrayBuffers;
    };
    // What other tests have left may go meanwhile: some KiB, never a chunk.
    const before = held();
    const cut = files.open('cut', 'write');
    const removed = files.open('removed', 'write');
    for (let i = 0; i < 32; i++) {
      cut.write(chunk, 0, chunk.length, i * chunk.length);
      removed.write(chunk, 0, chunk.length, i * chunk.length);
    }
    expect(held() - before).toBeGreaterThan(63 * chunk.length);
    cut.truncate(1);
    files.removeFile('removed');
    expect(held() - before).toBeGreaterThan(31 * chunk.length);
    removed.close();
    expect(held() - before).toBeLessThan(2 * chunk.length);
    cut.close();
  });

  it('spends little on small files', () => {
    const files = new MemoryFiles();
    const before = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < 10_000; i++) {
      files.open(`f${i}`, 'write').write(Buffer.from('12345678'), 0, 8, 0);
    }
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(10_000 * 1024);
  });
});
