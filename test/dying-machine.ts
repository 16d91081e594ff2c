import type { Change } from '../src/storage/meta-store.js';
import { Machine } from './machine.js';
import { WatchedFiles, noSpace } from './watched-files.js';

const changing = new Set([
  'write',
  'truncate',
  'replaceFile',
  'makeDirectory',
  'rename',
  'removeFile',
  'removeDirectory',
]);

/** A machine on which, once armed, everything after so many changes of files or rows fails. */
export class DyingMachine extends Machine {
  /** Changes that are still made. */
  left: number = Infinity;
  /** Changes that were asked for. */
  asked = 0;
  /** One change fails, and what comes after it works again. */
  readonly once: boolean;

  constructor(once: boolean) {
    super();
    this.once = once;
    this.files = new WatchedFiles(this.files, ({ name, path }) => {
      if (changing.has(name)) this.#change(path);
      return undefined;
    });
    const { store } = this;
    const write = store.write.bind(store);
    store.write = async (changes: readonly Change[]) => {
      this.#change('rows');
      await write(changes);
    };
  }

  #change(path: string): void {
    this.asked++;
    if (this.left-- > 0) return;
    if (this.once) this.left = Infinity;
    throw noSpace(path);
  }

  /** Directories of partitions, and whatever else lies there. */
  get directories(): string[] {
    return this.names('/');
  }
}
