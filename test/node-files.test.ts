import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { nodeFiles } from '../src/storage/node-files.js';

describe.skipIf(process.platform === 'win32')('nodeFiles and symbolic links', () => {
  let root: string;
  beforeEach(() => {
    root = fs.mkdtempSync(join(tmpdir(), 'ottla-links-'));
    fs.mkdirSync(join(root, 'precious'));
    fs.writeFileSync(join(root, 'precious', 'f'), 'x');
    fs.symlinkSync(join(root, 'precious'), join(root, 'link'));
  });
  afterEach(() => fs.rmSync(root, { recursive: true, force: true }));

  it('does not count a link as a directory', () => {
    expect(nodeFiles.isDirectory(join(root, 'link'))).toBe(false);
  });

  it('does not remove what a link leads to', () => {
    expect(() => nodeFiles.removeDirectory(join(root, 'link'))).toThrow(
      expect.objectContaining({ code: 'ENOTDIR' }),
    );
    expect(fs.readdirSync(join(root, 'precious'))).toEqual(['f']);
  });

  it('removes a link in a directory, not what it leads to', () => {
    fs.mkdirSync(join(root, 'd'));
    fs.symlinkSync(join(root, 'precious'), join(root, 'd', 'link'));
    nodeFiles.removeDirectory(join(root, 'd'));
    expect(fs.existsSync(join(root, 'd'))).toBe(false);
    expect(fs.readdirSync(join(root, 'precious'))).toEqual(['f']);
  });
});
