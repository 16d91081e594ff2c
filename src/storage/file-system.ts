import { constants } from 'node:os';

/**
 * The file system as the log needs it. Two implementations: Node's, and one in memory.
 *
 * Errors are Node's own (`code` ENOENT, ENOSPC, EIO, …), also from memory. Nothing here retries, and
 * nothing hides a short write or a failed sync: the rules for those live with the log.
 */
export interface FileSystem {
  /** Opens for reading ('read', must exist) or for reading and writing ('write', created when missing). */
  open(path: string, mode: 'read' | 'write'): File;
  /** Size of a file in bytes, or -1 where there is none. */
  size(path: string): number;
  /** Whether the path names a directory. A symbolic link does not count. */
  isDirectory(path: string): boolean;
  /** Names in a directory, sorted. */
  list(path: string): string[];
  /** The whole file, or undefined where there is none. */
  readFile(path: string): Buffer | undefined;
  /**
   * Creates or replaces a file whole: after a crash it holds the old bytes or the new ones. Durable when
   * resolved. A crash may leave `<path>.tmp` behind. Calls for one path must not overlap.
   */
  replaceFile(path: string, bytes: Uint8Array): Promise<void>;
  /** Creates a directory and its missing parents; fine when it exists. */
  makeDirectory(path: string): void;
  /** Renames a file or a directory; a file takes the place of the file that was there. */
  rename(from: string, to: string): void;
  /** Removes a file; fine when it is gone. */
  removeFile(path: string): void;
  /**
   * Removes a directory and the files in it; fine when it is gone. Never follows a symbolic link.
   * Directories inside are not the log's: with one it fails with ENOTEMPTY and removes nothing.
   */
  removeDirectory(path: string): void;
  /**
   * Makes the entries of a directory durable. Does nothing on Windows, which cannot, nor on a file system
   * that says it cannot (EINVAL).
   */
  syncDirectory(path: string): Promise<void>;
}

/** One open file. Positions and lengths are in bytes. Once closed every call but close() fails with EBADF. */
export interface File {
  /** Writes `bytes[start, end)` at `position`; returns how many were written, which may be fewer. */
  write(bytes: Uint8Array, start: number, end: number, position: number): number;
  /** Reads into `into[start, end)` from `position`; returns how many were read, fewer only at the end. */
  read(into: Uint8Array, start: number, end: number, position: number): number;
  /** As read(), off the main thread. */
  readAsync(into: Uint8Array, start: number, end: number, position: number): Promise<number>;
  size(): number;
  /** Cuts the file to `size`, or lengthens it with zeros. */
  truncate(size: number): void;
  /** Makes the file's bytes durable (fdatasync). */
  sync(): Promise<void>;
  /** Idempotent. A readAsync() or sync() under way still ends as it would have. */
  close(): void;
}

const descriptions = {
  EBADF: 'bad file descriptor',
  EEXIST: 'file already exists',
  EINVAL: 'invalid argument',
  EISDIR: 'illegal operation on a directory',
  ENOENT: 'no such file or directory',
  ENOSPC: 'no space left on device',
  ENOTDIR: 'not a directory',
  ENOTEMPTY: 'directory not empty',
} as const;

/** An error as node:fs throws it, for what the operating system was not asked. */
export function fileError(
  code: keyof typeof descriptions,
  syscall: string,
  path: string,
): NodeJS.ErrnoException {
  const error: NodeJS.ErrnoException = new Error(
    `${code}: ${descriptions[code]}, ${syscall} '${path}'`,
  );
  error.errno = -constants.errno[code];
  error.code = code;
  error.syscall = syscall;
  error.path = path;
  return error;
}

/** Writes `bytes[0, length)` at `position`, however short the writes. @throws ENOSPC if one writes nothing */
export function writeAll(
  file: File,
  path: string,
  bytes: Uint8Array,
  length: number,
  position: number,
): void {
  for (let done = 0; done < length;) {
    const count = file.write(bytes, done, length, position + done);
    if (count === 0) throw fileError('ENOSPC', 'write', path);
    done += count;
  }
}
