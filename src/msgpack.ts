import { createRequire } from 'node:module';

interface Packer {
  pack(value: unknown): Uint8Array;
  unpack(bytes: Uint8Array, end?: number): unknown;
}

interface PackerOptions {
  readonly useRecords: boolean;
  readonly copyBuffers: true;
  readonly structures?: string[][];
  readonly maxSharedStructures?: number;
  readonly shouldShareStructure?: (properties: readonly string[]) => boolean;
}

let Packr: (new (options: PackerOptions) => Packer) | null = null;

/** Loaded at first use: it takes 10 to 20 ms. */
function newPacker(options: PackerOptions): Packer {
  Packr ??= (createRequire(import.meta.url)('msgpackr') as { readonly Packr: typeof Packr }).Packr;
  return new Packr!(options);
}

/** Values in msgpack. */
export interface Msgpack {
  encode(value: unknown): Uint8Array;
  decode(bytes: Buffer): unknown;
}

let alone: Packer | null = null;

function packerAlone(): Packer {
  alone ??= newPacker({ useRecords: false, copyBuffers: true });
  return alone;
}

/** Each stands alone. */
export const msgpack: Msgpack = {
  encode: (value) => packerAlone().pack(packable(value)),
  decode: (bytes) => unpack(packerAlone(), bytes),
};

let copy: Buffer | null = null;

/** msgpackr makes a DataView for each new Buffer, which costs more than a small copy into one that has it. */
function unpack(packer: Packer, bytes: Buffer): unknown {
  copy ??= Buffer.allocUnsafeSlow(4096);
  if (bytes.length > copy.length) return packer.unpack(bytes);
  copy.set(bytes);
  return packer.unpack(copy, bytes.length);
}

/** @throws TypeError */
function packable(value: unknown): unknown {
  if (typeof value !== 'function') return value;
  throw new TypeError('expected a value that msgpack keeps, got a function');
}

/** Property names of one kind of object, in order. */
export type Structure = readonly string[];

/** Of a topic's keys, or of its values: the kinds of objects that are stored once, for all its records. */
export interface SharedStructures {
  /** In the order of their numbers; only grows. */
  load(): readonly Structure[];
  /** Stores one more: load() has it once it is durable. */
  learn(structure: Structure): void;
}

/** As many have a number of one byte. */
export const maxStructures = 32;

/**
 * Objects refer to their property names by number: msgpackr's record extension. A structure is referred to once
 * it is durable; until then, and beyond 32, an object has its property names with it.
 */
export function sharedMsgpack(shared: SharedStructures): Msgpack {
  let known: readonly Structure[] = [];
  let encoder: Packer | null = null;
  let decoder: Packer | null = null;
  let isLearning = false;
  const load = (): boolean => {
    const loaded = shared.load();
    const hasGrown = loaded.length > known.length;
    if (!hasGrown && encoder !== null) return false;
    known = loaded;
    encoder = newPacker({
      useRecords: true,
      copyBuffers: true,
      structures: copied(known),
      maxSharedStructures: maxStructures,
      shouldShareStructure: (structure) => {
        shared.learn(structure);
        isLearning = true;
        return false;
      },
    });
    decoder = newPacker({
      useRecords: true,
      copyBuffers: true,
      structures: [...copied(known), ...unknown(known.length)],
    });
    return hasGrown;
  };
  return {
    encode(value) {
      packable(value);
      if (encoder === null || isLearning) {
        isLearning = false;
        load();
      }
      return encoder!.pack(value);
    },
    decode(bytes) {
      if (decoder === null) load();
      try {
        return unpack(decoder!, bytes);
      } catch (error) {
        // Others may have stored more since.
        if (!(error instanceof UnknownStructure) || !load()) throw error;
        return unpack(decoder!, bytes);
      }
    },
  };
}

class UnknownStructure extends Error {}

function copied(structures: readonly Structure[]): string[][] {
  return structures.map((structure) => [...structure]);
}

/** In the places of those that are not known: msgpackr would take a reference to one for a number. */
function unknown(from: number): string[][] {
  return Array.from({ length: maxStructures - from }, (_, i) =>
    Object.assign([], {
      read: () => {
        throw new UnknownStructure(`structure ${from + i} of its topic is not known`);
      },
    }),
  );
}
