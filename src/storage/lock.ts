import * as fs from 'node:fs';
import { createRequire } from 'node:module';
import { OttlaError, asStorageError } from '../errors.js';

/** A held lock. */
export interface Lock {
  /** Where the owner serves clients, for the message of LOCKED. */
  tell(addresses: readonly string[]): void;
  /** Lets it go; idempotent. The file stays: removing it could take it from the next owner. */
  close(): void;
}

/**
 * Takes the exclusive lock of a data directory: held by the kernel on an open file, so it ends with the
 * process however that dies, and a second owner in the same process is refused too. The file's text,
 * `{"pid":…,"since":"…","serves":[…]}`, is for people and error messages; it decides nothing.
 * @param since when this owner opened, ISO 8601
 * @throws LOCKED naming the path, the holder's pid and since when; KAFKA_STORAGE_ERROR
 */
export function acquireLock(path: string, since: string): Lock {
  let fd: number;
  try {
    fd = fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_CREAT);
  } catch (error) {
    throw asStorageError(path, error, false);
  }
  try {
    if (!tryLock(fd)) throw new OttlaError('LOCKED', `${path} is locked by ${holderIn(fd)}`);
    writeHolder(fd, since, []);
  } catch (error) {
    fs.closeSync(fd);
    throw asStorageError(path, error, false);
  }
  let held = true;
  return {
    tell(addresses) {
      if (!held) return;
      try {
        writeHolder(fd, since, addresses);
      } catch {
        // It is for people only: serving goes on without.
      }
    },
    close() {
      if (!held) return;
      held = false;
      fs.closeSync(fd);
    },
  };
}

function writeHolder(fd: number, since: string, serves: readonly string[]): void {
  const holder = { pid: process.pid, since, ...(serves.length > 0 && { serves }) };
  const text = Buffer.from(`${JSON.stringify(holder)}\n`);
  fs.writeSync(fd, text, 0, text.length, 0);
  fs.ftruncateSync(fd, text.length);
}

/** Who holds the lock, as far as its file tells: it may be empty or half written just now. */
function holderIn(fd: number): string {
  const bytes = Buffer.alloc(1024);
  const text = bytes.toString('utf8', 0, fs.readSync(fd, bytes, 0, bytes.length, 0));
  const [, pid] = /"pid":(\d+)[,}]/.exec(text) ?? [];
  const [, since] = /"since":"([^"]+)"/.exec(text) ?? [];
  const [, serves] = /"serves":(\[".*"\])\}/.exec(text) ?? [];
  const at =
    serves === undefined
      ? ''
      : `, which serves clients at ${(JSON.parse(serves) as string[]).join(', ')}`;
  return `process ${pid ?? 'unknown'}${since === undefined ? '' : ` since ${since}`}${at}`;
}

interface FileLocks {
  /** fs-native-extensions: false if another open file holds the range; length 0 reaches to the end. */
  tryLock(fd: number, offset: number, length: number): boolean;
}

/** Its prebuilt addon: exclusive or shared is the last argument, and EAGAIN is thrown. */
interface FileLocksAddon {
  tryLock(fd: number, offset: number, length: number, exclusive: boolean): void;
}

/** Far beyond the text, which others may then read: a lock on Windows forbids that within its range. */
const lockedByte = 2 ** 40;

function tryLock(fd: number): boolean {
  // macOS locks whole files only, and lets others read them (flock).
  if (process.platform === 'darwin') return fileLocks().tryLock(fd, 0, 0);
  return fileLocks().tryLock(fd, lockedByte, 1);
}

function fileLocks(): FileLocks {
  const require = createRequire(import.meta.url);
  try {
    const locks: FileLocks = require('fs-native-extensions');
    return locks;
  } catch (error) {
    if (codeOf(error) !== 'ADDON_NOT_FOUND' || process.platform !== 'linux') throw error;
  }
  // It has no build for musl, but the one for glibc needs nothing that musl lacks.
  const addon: FileLocksAddon = require(
    `fs-native-extensions/prebuilds/linux-${process.arch}/fs-native-extensions.node`,
  );
  return {
    tryLock(fd, offset, length) {
      try {
        addon.tryLock(fd, offset, length, true);
        return true;
      } catch (error) {
        if (codeOf(error) === 'EAGAIN') return false;
        throw error;
      }
    },
  };
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}
