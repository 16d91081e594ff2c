import { OttlaError } from '../errors.js';
import { topicDefaults, topicOptions, type CleanupPolicy, type TopicSettings } from '../options.js';

/** What a configuration's value is, as DescribeConfigs tells it. */
export const configTypes = { BOOLEAN: 1, STRING: 2, INT: 3, LONG: 5, DOUBLE: 6, LIST: 7 } as const;

/** Where a value comes from (DescribeConfigs). */
export const configSources = { DYNAMIC_TOPIC: 1, STATIC_BROKER: 4, DEFAULT: 5 } as const;

type Type = keyof typeof configTypes;

interface Config {
  readonly type: Type;
  readonly setting: keyof TopicSettings;
  /** undefined: the text is none. */
  readonly parse: (text: string) => unknown;
  readonly format: (value: unknown) => string;
}

/** Kafka has no larger number, and we none that is larger than 2^53 - 1: both mean that there is no bound. */
const largestLong = '9223372036854775807';

function number(type: Type, setting: keyof TopicSettings): Config {
  return {
    type,
    setting,
    parse(text) {
      if (text === largestLong) return Number.MAX_SAFE_INTEGER;
      return /^-?\d+(\.\d+)?$/.test(text.trim()) ? Number(text) : undefined;
    },
    format: (value) => (value === Number.MAX_SAFE_INTEGER ? largestLong : String(value)),
  };
}

/** Kafka's names of what can be set. */
const known: Readonly<Record<string, Config>> = {
  'cleanup.policy': {
    type: 'LIST',
    setting: 'cleanupPolicy',
    parse: parsePolicy,
    format: (value) => [value].flat().join(','),
  },
  'compression.type': {
    type: 'STRING',
    setting: 'compression',
    parse: (text) => (text === 'uncompressed' ? 'none' : text === 'none' ? undefined : text),
    format: (value) => (value === 'none' ? 'uncompressed' : String(value)),
  },
  'delete.retention.ms': number('LONG', 'deleteRetentionMs'),
  'flush.messages': number('LONG', 'flushMessages'),
  'flush.ms': number('LONG', 'flushMs'),
  'index.interval.bytes': number('INT', 'indexIntervalBytes'),
  'max.message.bytes': number('INT', 'maxMessageBytes'),
  'message.timestamp.type': {
    type: 'STRING',
    setting: 'messageTimestampType',
    parse: (text) => text,
    format: String,
  },
  'min.cleanable.dirty.ratio': number('DOUBLE', 'minCleanableDirtyRatio'),
  'retention.bytes': number('LONG', 'retentionBytes'),
  'retention.ms': number('LONG', 'retentionMs'),
  'segment.bytes': number('INT', 'segmentBytes'),
  'segment.ms': number('LONG', 'segmentMs'),
};

/** Names of all that can be set. */
export const settableConfigs: readonly string[] = Object.keys(known);

/** What Kafka has besides: here it is always so. */
const fixed: Readonly<Record<string, readonly [Type, string]>> = {
  'file.delete.delay.ms': ['LONG', '0'],
  'max.compaction.lag.ms': ['LONG', largestLong],
  'message.timestamp.after.max.ms': ['LONG', largestLong],
  'message.timestamp.before.max.ms': ['LONG', largestLong],
  'min.compaction.lag.ms': ['LONG', '0'],
  'min.insync.replicas': ['INT', '1'],
  preallocate: ['BOOLEAN', 'false'],
  'remote.storage.enable': ['BOOLEAN', 'false'],
  'segment.jitter.ms': ['LONG', '0'],
  'unclean.leader.election.enable': ['BOOLEAN', 'false'],
};

/** Where Kafka's default is not Ottla's: who creates a topic over the wire expects Kafka's. */
export const wireDefaults: TopicSettings = {
  ...topicDefaults,
  retentionMs: 7 * 24 * 60 * 60 * 1000,
};

function parsePolicy(text: string): CleanupPolicy | undefined {
  const policies = text.split(',').map((policy) => policy.trim());
  const has = (policy: string): boolean => policies.includes(policy);
  if (policies.some((policy) => policy !== 'compact' && policy !== 'delete')) return undefined;
  if (has('compact') && has('delete')) return ['compact', 'delete'];
  return has('compact') ? 'compact' : 'delete';
}

function invalid(what: string): OttlaError {
  return new OttlaError('INVALID_CONFIG', what);
}

/** One configuration as a client gives it. */
export interface GivenConfig {
  readonly name: string;
  /** null: its default. */
  readonly value: string | null;
}

/** The settings that configurations mean. @throws INVALID_CONFIG */
export function settingsOf(configs: readonly GivenConfig[]): Partial<TopicSettings> {
  return Object.fromEntries(configs.flatMap(({ name, value }) => settingOf(name, value)));
}

function settingOf(name: string, text: string | null): [string, unknown][] {
  if (Object.hasOwn(fixed, name)) {
    const [, always] = fixed[name]!;
    if (text === null || text === always) return [];
    throw invalid(`${name} is ${always} here, and cannot be ${text}`);
  }
  if (!Object.hasOwn(known, name)) throw invalid(`unknown topic config name: ${name}`);
  const { setting, parse } = known[name]!;
  if (text === null) return [[setting, wireDefaults[setting]]];
  const value = parse(text);
  const expected = value === undefined ? 'another value' : topicOptions[setting](value);
  if (expected !== null) throw invalid(`invalid value ${text} for ${name}: expected ${expected}`);
  return [[setting, value]];
}

/** What a change does to one configuration (ConfigOperation of IncrementalAlterConfigs). */
export const configOperations = { SET: 0, DELETE: 1, APPEND: 2, SUBTRACT: 3 } as const;

/** A configuration after a change of a list, or another one. @throws INVALID_CONFIG */
export function changedConfig(
  settings: TopicSettings,
  { name, value, operation }: GivenConfig & { readonly operation: number },
): GivenConfig {
  switch (operation) {
    case configOperations.SET:
      if (value === null) throw invalid(`${name}: no value to set`);
      return { name, value };
    case configOperations.DELETE:
      return { name, value: null };
    case configOperations.APPEND:
    case configOperations.SUBTRACT: {
      const config = Object.hasOwn(known, name) ? known[name]! : null;
      if (config?.type !== 'LIST') throw invalid(`${name} is no list`);
      const has = config.format(settings[config.setting]).split(',');
      const given = (value ?? '').split(',').map((item) => item.trim());
      const left =
        operation === configOperations.APPEND
          ? [...new Set([...has, ...given])]
          : has.filter((item) => !given.includes(item));
      return { name, value: left.join(',') };
    }
    default:
      throw new OttlaError('INVALID_REQUEST', `unknown operation ${operation} on ${name}`);
  }
}

/** One configuration as a topic has it. */
export interface TopicConfig {
  readonly name: string;
  readonly value: string;
  readonly type: Type;
  readonly isDefault: boolean;
  /** Its default, where it can be set. */
  readonly preset: string | null;
}

/** All that a topic has, in the order of their names. */
export function configsOf(settings: TopicSettings): TopicConfig[] {
  const set = Object.entries(known).map(([name, { type, setting, format }]) => {
    const value = format(settings[setting]);
    const preset = format(wireDefaults[setting]);
    return { name, value, type, isDefault: value === preset, preset };
  });
  const always = Object.entries(fixed).map(([name, [type, value]]) => {
    return { name, value, type, isDefault: true, preset: null };
  });
  return [...set, ...always].toSorted((one, other) => (one.name < other.name ? -1 : 1));
}
