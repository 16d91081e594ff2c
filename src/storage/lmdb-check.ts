import * as fs from 'node:fs';
import { OttlaError } from '../errors.js';

// Layout of an LMDB file (data version 2, 64 bits, little endian), as liblmdb/mdb.c of lmdb 3.5 has it.
// Every page begins with a header: page number u64, transaction u64, pad u16, flags u16, then the ends of
// the node pointers and of the free space behind them as two u16, or the number of overflow pages as u32.
const headerBytes = 24;
const flagsAt = 18;
const boundsAt = 20;
const branchPage = 1;
const leafPage = 2;
const overflowPage = 4;
const metaPage = 8;
// Pages 0 and 1 are metas, written in turn. Behind the header: magic u32, version u32, address u64, map
// size u64, the free tree and the main tree of 48 bytes each, last page u64, transaction u64.
const magic = 0xbeefc0de;
const dataVersion = 2;
const metaBytes = 160;
const freeTreeAt = 48;
const mainTreeAt = 96;
/** The free tree's flag: its keys are numbers. */
const numberKeys = 8;
const lastPageAt = 144;
const transactionAt = 152;
const maxPageBytes = 65_536;
/** What is read of the file at once. */
const partBytes = 256 * 1024;
const noPage = 2 ** 64;
/** Pages at the end that nothing leads to: they do no harm, and far more of them are a damaged number. */
const maxLostPages = 65_536;

/**
 * Looks through LMDB's data file before LMDB is given it: damage there ends the process (SIGSEGV or
 * SIGBUS), and a page that is used twice would be written over.
 * @param checkRow called with each row, may throw; without it only the metas are looked at, which is all
 *   that a reader beside a running writer can do
 * @returns 'empty' if no transaction ever ended in it, or if there is no such file
 * @throws METADATA_LOST with the place; errors of node:fs
 */
export function checkLmdbFile(path: string, checkRow?: CheckRow): 'empty' | 'good' {
  return finished(lmdbFileSteps(path, checkRow));
}

function finished<T>(steps: Generator<undefined, T>): T {
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
  }
}

/** As checkLmdbFile(), a few pages at each step. Who does not go on to the end calls return(). */
export function* lmdbFileSteps(
  path: string,
  checkRow?: CheckRow,
): Generator<undefined, 'empty' | 'good'> {
  const file = yield* readSteps(path, checkRow === undefined ? 2 * maxPageBytes : Infinity);
  try {
    if (isUnused(file)) return 'empty';
    const meta = latestMeta(file, checkRow !== undefined);
    if (checkRow !== undefined) yield* new Walk(file, meta, checkRow).steps();
    return 'good';
  } catch (error) {
    if (!(error instanceof Damage)) throw error;
    throw new OttlaError('METADATA_LOST', `${path} is damaged: ${error.message}`);
  }
}

/** Number of the last transaction in LMDB's data file, which may be written to meanwhile; -1: damaged. */
export function lastLmdbTransaction(path: string): number {
  try {
    return latestMeta(finished(readSteps(path, 2 * maxPageBytes)), false).transaction;
  } catch (error) {
    if (error instanceof Damage) return -1;
    throw error;
  }
}

type CheckRow = (key: Buffer, value: Buffer) => void;

class Damage extends Error {}

/** Reads up to `maxBytes` of a file, part by part; nothing of one that is missing. */
function* readSteps(path: string, maxBytes: number): Generator<undefined, Buffer> {
  let fd: number;
  try {
    fd = fs.openSync(path, 'r');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT')
      return Buffer.alloc(0);
    throw error;
  }
  try {
    const bytes = Buffer.allocUnsafeSlow(Math.min(maxBytes, fs.fstatSync(fd).size));
    let at = 0;
    while (at < bytes.length) {
      const count = fs.readSync(fd, bytes, at, Math.min(partBytes, bytes.length - at), at);
      if (count === 0) break;
      at += count;
      yield;
    }
    return bytes.subarray(0, at);
  } finally {
    fs.closeSync(fd);
  }
}

/** Whether this is what a crash while the file was made leaves: each meta page missing, zero or unused. */
function isUnused(file: Buffer): boolean {
  if (file.every((byte) => byte === 0)) return true;
  if (file.length < metaBytes || file.readUInt32LE(headerBytes) !== magic) return false;
  const pageBytes = pageBytesOf(file, 0);
  if (file.length > 2 * pageBytes || u64(file, transactionAt) !== 0) return false;
  const second = file.subarray(pageBytes);
  return second.length < metaBytes || u64(second, transactionAt) === 0;
}

interface Tree {
  readonly depth: number;
  readonly entries: number;
  readonly root: number;
}

interface Meta {
  readonly transaction: number;
  readonly pageBytes: number;
  readonly lastPage: number;
  readonly freeTree: Tree;
  readonly mainTree: Tree;
}

function latestMeta(file: Buffer, quiet: boolean): Meta {
  const first = metaAt(file, 0);
  const second = metaAt(file, first.pageBytes);
  const latest = second.transaction > first.transaction ? second : first;
  // Transaction n writes meta n % 2; before the first both say 0. Beside a running writer the two may be
  // read from either side of it.
  const inTurn =
    latest.transaction === 0 ||
    (latest.transaction % 2 === (latest === second ? 1 : 0) &&
      first.transaction + second.transaction === 2 * latest.transaction - 1);
  if (quiet && !inTurn) {
    throw new Damage(
      `its metas are of transactions ${first.transaction} and ${second.transaction}, not in turn`,
    );
  }
  return latest;
}

function metaAt(file: Buffer, at: number): Meta {
  if (file.length < at + metaBytes) throw new Damage(`it ends within the meta at byte ${at}`);
  if (
    file.readUInt16LE(at + flagsAt) !== metaPage ||
    file.readUInt32LE(at + headerBytes) !== magic ||
    file.readUInt32LE(at + headerBytes + 4) !== dataVersion
  ) {
    throw new Damage(`there is no meta of LMDB's data version ${dataVersion} at byte ${at}`);
  }
  return {
    transaction: u64(file, at + transactionAt),
    pageBytes: pageBytesOf(file, at),
    lastPage: u64(file, at + lastPageAt),
    freeTree: treeAt(file, at + freeTreeAt, numberKeys),
    mainTree: treeAt(file, at + mainTreeAt, 0),
  };
}

function pageBytesOf(file: Buffer, at: number): number {
  const bytes = file.readUInt32LE(at + freeTreeAt);
  const isPowerOfTwo = (bytes & (bytes - 1)) === 0;
  if (isPowerOfTwo && bytes >= 4096 && bytes <= maxPageBytes) return bytes;
  throw new Damage(`the meta at byte ${at} says pages have ${bytes} bytes`);
}

function treeAt(file: Buffer, at: number, flags: number): Tree {
  if (file.readUInt16LE(at + 4) !== flags) {
    throw new Damage(`the tree at byte ${at} has flags ${file.readUInt16LE(at + 4)}`);
  }
  return {
    depth: file.readUInt16LE(at + 6),
    entries: u64(file, at + 32),
    root: u64(file, at + 40),
  };
}

/** Walks both trees: every page must be well formed, in order, and used once or free. */
class Walk {
  readonly #file: Buffer;
  readonly #meta: Meta;
  readonly #checkRow: CheckRow;
  readonly #used: Uint8Array;
  #highestPage = 1;
  #entries = 0;
  /** The key before: of the leaf before, or of the branch that leads here, which may be met again. */
  #lastKey: Buffer | null = null;
  #lastIsBranch = false;

  constructor(file: Buffer, meta: Meta, checkRow: CheckRow) {
    this.#file = file;
    this.#meta = meta;
    this.#checkRow = checkRow;
    this.#used = new Uint8Array(Math.ceil(file.length / meta.pageBytes));
  }

  *steps(): Generator<undefined> {
    yield* this.#tree(this.#meta.mainTree, false);
    yield* this.#tree(this.#meta.freeTree, true);
    if (this.#meta.lastPage > this.#highestPage + maxLostPages) {
      throw new Damage(
        `its last page is ${this.#meta.lastPage}, the last known ${this.#highestPage}`,
      );
    }
  }

  *#tree(tree: Tree, isFree: boolean): Generator<undefined> {
    this.#entries = 0;
    this.#lastKey = null;
    if (tree.root !== noPage) yield* this.#page(tree.root, 1, tree.depth, isFree);
    if (this.#entries !== tree.entries) {
      throw new Damage(`a tree of ${tree.entries} entries has ${this.#entries}`);
    }
  }

  *#page(page: number, level: number, depth: number, isFree: boolean): Generator<undefined> {
    const { pageBytes } = this.#meta;
    const isLeaf = level === depth;
    const at = this.#claim(page, 1, isLeaf ? leafPage : branchPage);
    const pointersEnd = this.#file.readUInt16LE(at + boundsAt);
    const nodesStart = this.#file.readUInt16LE(at + boundsAt + 2);
    if (
      pointersEnd === 0 ||
      pointersEnd % 2 !== 0 ||
      pointersEnd > nodesStart ||
      nodesStart > pageBytes - headerBytes
    ) {
      throw new Damage(`page ${page} has pointers up to ${pointersEnd}, nodes from ${nodesStart}`);
    }
    for (let pointer = 0; pointer < pointersEnd; pointer += 2) {
      const node = this.#file.readUInt16LE(at + headerBytes + pointer);
      const nodeAt = at + headerBytes + node;
      const end = at + pageBytes;
      if (node < nodesStart || nodeAt + 8 > end) {
        throw new Damage(`page ${page} has a node at ${node}`);
      }
      const keyEnd = nodeAt + 8 + this.#file.readUInt16LE(nodeAt + 6);
      if (keyEnd > end) throw new Damage(`page ${page} has a key beyond its end`);
      const key = this.#file.subarray(nodeAt + 8, keyEnd);
      if (isLeaf) {
        this.#inOrder(page, key, false, isFree);
        this.#entries++;
        this.#data(page, nodeAt, key, end, isFree);
      } else {
        // The first key of a branch page is empty: it leads to all that is smaller.
        if (pointer > 0) this.#inOrder(page, key, true, isFree);
        const child =
          this.#file.readUInt32LE(nodeAt) + this.#file.readUInt16LE(nodeAt + 4) * 2 ** 32;
        yield* this.#page(child, level + 1, depth, isFree);
        yield;
      }
    }
  }

  #inOrder(page: number, key: Buffer, isBranch: boolean, isFree: boolean): void {
    if (isFree && key.length !== 8) throw new Damage(`page ${page} has no number for a key`);
    const last = this.#lastKey;
    if (last !== null) {
      const order = isFree ? u64(last, 0) - u64(key, 0) : last.compare(key);
      if (order > 0 || (order === 0 && !this.#lastIsBranch)) {
        throw new Damage(`page ${page} has keys that are not in order`);
      }
    }
    this.#lastKey = key;
    this.#lastIsBranch = isBranch;
  }

  /** The value of a leaf's node, in the page or on pages of its own. In the free tree: page numbers. */
  #data(page: number, nodeAt: number, key: Buffer, end: number, isFree: boolean): void {
    const keyEnd = nodeAt + 8 + key.length;
    const length = this.#file.readUInt32LE(nodeAt);
    const nodeFlags = this.#file.readUInt16LE(nodeAt + 4);
    let from = keyEnd;
    if (nodeFlags === 1 && keyEnd + 24 <= end) {
      const first = u64(this.#file, keyEnd);
      const count = u64(this.#file, keyEnd + 16);
      from = this.#claim(first, count, overflowPage) + headerBytes;
      const transaction = u64(this.#file, from - headerBytes + 8);
      if (
        length > count * this.#meta.pageBytes - headerBytes ||
        transaction !== u64(this.#file, keyEnd + 8)
      ) {
        throw new Damage(`page ${page} has a value of ${length} bytes on other ${count} pages`);
      }
    } else if (nodeFlags !== 0 || keyEnd + length > end) {
      throw new Damage(`page ${page} has a value of ${length} bytes beyond its end`);
    }
    if (isFree) this.#freePages(page, from, length);
    else this.#checkRow(key, this.#file.subarray(from, from + length));
  }

  /** A free list: its length, then page numbers; -n says that n pages from the next number on are free. */
  #freePages(page: number, from: number, length: number): void {
    const count = length < 8 ? 0 : i64(this.#file, from);
    if (length % 8 !== 0 || count < 0 || (count + 1) * 8 > length) {
      throw new Damage(`page ${page} has a list of ${count} free pages in ${length} bytes`);
    }
    for (let entry = 1, run = 1; entry <= count; entry++) {
      const number = i64(this.#file, from + entry * 8);
      if (number < 0) {
        run = -number;
      } else if (number > 0) {
        this.#mark(number, run);
        run = 1;
      }
    }
  }

  /** Where page `first` begins, once it is known to be there, of this kind, and used by nobody else. */
  #claim(first: number, count: number, flags: number): number {
    const at = first * this.#meta.pageBytes;
    this.#mark(first, count);
    if (at + count * this.#meta.pageBytes > this.#file.length) {
      throw new Damage(`page ${first} is beyond the end of the file`);
    }
    if (
      u64(this.#file, at) !== first ||
      u64(this.#file, at + 8) > this.#meta.transaction ||
      this.#file.readUInt16LE(at + flagsAt) !== flags ||
      (flags === overflowPage && this.#file.readUInt32LE(at + boundsAt) !== count)
    ) {
      throw new Damage(`page ${first} is not what leads to it says`);
    }
    return at;
  }

  #mark(first: number, count: number): void {
    const { lastPage } = this.#meta;
    if (first < 2 || count < 1 || first + count - 1 > lastPage) {
      throw new Damage(`it uses pages ${first} to ${first + count - 1} of ${lastPage}`);
    }
    this.#highestPage = Math.max(this.#highestPage, first + count - 1);
    // Free pages at the end need not be in the file.
    for (let page = first; page < first + count && page < this.#used.length; page++) {
      if (this.#used[page] === 1) throw new Damage(`page ${page} is used twice`);
      this.#used[page] = 1;
    }
  }
}

function u64(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 2 ** 32;
}

function i64(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at) + bytes.readInt32LE(at + 4) * 2 ** 32;
}
