import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A new directory in the system's place for temporary files. */
export function makeDirectory(): { readonly path: string; readonly remove: () => void } {
  const path = mkdtempSync(join(tmpdir(), 'ottla-test-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}
