import { OttlaError } from './errors.js';
import { topicDefaults, type TopicSettings } from './options.js';
import { Partition } from './partition.js';
import type { LogEnvironment } from './partition-environment.js';
import type { TopicRow } from './storage/meta-store.js';

export interface TopicInfo {
  readonly name: string;
  readonly id: string;
  readonly partitionCount: number;
  readonly settings: TopicSettings;
  readonly codecs: CodecNames;
  readonly structures: StoredStructures;
}

/** Property names of kinds of objects, to which records refer by number; only grow. */
export interface StoredStructures {
  readonly key: readonly (readonly string[])[];
  readonly value: readonly (readonly string[])[];
}

/** Names of a topic's codecs; null where it stores plain bytes. */
export interface CodecNames {
  readonly key: string | null;
  readonly value: string | null;
  /** Absent: none. */
  readonly headers?: string;
}

export interface TopicSpec {
  readonly name: string;
  readonly partitionCount: number;
  /** Only what was given; the rest has its default. */
  readonly settings: Partial<TopicSettings>;
  readonly codecs: CodecNames;
  /** Whether one that exists is refused even if it is equal. @default false */
  readonly mustBeNew?: boolean;
}

/** A stored topic: its id, its options, its partitions. */
export class Topic implements TopicInfo {
  readonly name: string;
  readonly id: string;
  readonly codecs: CodecNames;
  readonly partitions: Partition[] = [];
  /** Only what was given. */
  given: Partial<TopicSettings>;
  settings: TopicSettings;
  structures: StoredStructures;
  readonly #env: LogEnvironment;
  readonly #directory: string;
  readonly #defaults: TopicSettings;

  constructor(
    env: LogEnvironment,
    directory: string,
    defaults: TopicSettings,
    name: string,
    row: Omit<TopicRow, 'state'>,
  ) {
    this.#env = env;
    this.#directory = directory;
    this.#defaults = defaults;
    this.name = name;
    this.id = row.id;
    this.codecs = row.codecs;
    this.structures = row.structures ?? { key: [], value: [] };
    this.given = row.options;
    this.settings = { ...defaults, ...row.options };
    this.grow(row.partitions);
  }

  get partitionCount(): number {
    return this.partitions.length;
  }

  grow(total: number): void {
    for (let index = this.partitions.length; index < total; index++) {
      this.partitions.push(new Partition(this.#env, this.#directory, this, index));
    }
  }

  alter(given: Partial<TopicSettings>): void {
    this.given = { ...this.given, ...given };
    this.settings = { ...this.#defaults, ...this.given };
  }

  /** Read-only: takes over what the owner has changed. */
  follow({ partitions, options, structures }: TopicRow): void {
    this.grow(partitions);
    if (structures !== undefined) this.structures = structures;
    const given: Partial<Record<string, unknown>> = this.given;
    if (Object.entries(options).some(([name, value]) => given[name] !== value)) this.alter(options);
  }

  /** @throws UNKNOWN_TOPIC_OR_PARTITION */
  partition(index: number): Partition {
    const partition = this.partitions[index];
    if (partition !== undefined) return partition;
    throw new OttlaError(
      'UNKNOWN_TOPIC_OR_PARTITION',
      `topic ${this.name} has partitions 0 to ${this.partitionCount - 1}, got ${index}`,
    );
  }

  row(): TopicRow {
    const { id, codecs, given, partitionCount, structures } = this;
    const hasStructures = structures.key.length + structures.value.length > 0;
    return {
      id,
      partitions: partitionCount,
      state: 'live',
      codecs,
      options: given,
      ...(hasStructures && { structures }),
    };
  }

  /** What a second creation asks for that this topic has not: empty if the two are equal. */
  differences(spec: TopicSpec): string[] {
    const differences: string[] = [];
    const compare = (what: string, has: unknown, asked: unknown): void => {
      // Two lists of the same are equal.
      const [is, wanted] = [JSON.stringify(has), JSON.stringify(asked)];
      if (is !== wanted) differences.push(`${what} is ${is}, asked for ${wanted}`);
    };
    compare('partitions', this.partitionCount, spec.partitionCount);
    compare('key codec', this.codecs.key, spec.codecs.key);
    compare('value codec', this.codecs.value, spec.codecs.value);
    compare('headers codec', this.codecs.headers ?? null, spec.codecs.headers ?? null);
    const asked: TopicSettings = { ...this.#defaults, ...spec.settings };
    for (const name of Object.keys(topicDefaults) as (keyof TopicSettings)[]) {
      compare(name, this.settings[name], asked[name]);
    }
    return differences;
  }
}
