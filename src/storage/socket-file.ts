import { lstatSync, rmSync } from 'node:fs';

/**
 * Removes the file of a Unix socket that nobody listens at any more: a process that was killed leaves it behind.
 * @returns whether it is gone: a file of another kind is left alone
 */
export function removeSocketFile(path: string): boolean {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found?.isSocket() === false) return false;
  rmSync(path, { force: true });
  return true;
}
