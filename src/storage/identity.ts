/** Grows when a directory written by this version cannot be read by the one before. */
export const formatVersion = 1;

/** The file that says which store a data directory is: the same as the store's row does. */
export const propertiesFile = 'meta.properties';

export function encodeProperties(storeId: string): Buffer {
  return Buffer.from(`version=${formatVersion}\nstore.id=${storeId}\n`);
}

/** The store id in meta.properties; undefined where there is none. */
export function decodeProperties(bytes: Buffer | undefined): string | undefined {
  return bytes === undefined ? undefined : /^store\.id=(\S+)$/m.exec(bytes.toString())?.[1];
}

/** Lies in a directory until the backup into it is whole. Nothing opens or repairs that one. */
export const unfinishedFile = 'unfinished-backup';

/** Files that others leave in any directory. */
export const ignoredNames: ReadonlySet<string> = new Set([
  '.DS_Store',
  'Thumbs.db',
  'desktop.ini',
  'lost+found',
]);
