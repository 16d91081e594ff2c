import type { TopicSettings } from '../options.js';
import type { Topic } from '../topic.js';
import type { Node } from './protocol/api.js';
import { WireError, errorNumberOf, noError } from './protocol/errors.js';
import {
  configSources,
  configsOf,
  configTypes,
  settingsOf,
  type GivenConfig,
} from './topic-configs.js';

/** What configurations belong to (ConfigResource.Type). */
const types = { TOPIC: 2, BROKER: 4 } as const;

/** What a request names. */
export interface ConfigResource {
  readonly resourceType: number;
  readonly resourceName: string;
}

/** A configuration as DescribeConfigs shows it. */
export interface DescribedConfig {
  readonly name: string;
  readonly value: string | null;
  readonly readOnly: boolean;
  readonly configSource: number;
  readonly isSensitive: boolean;
  readonly synonyms: readonly {
    readonly name: string;
    readonly value: string;
    readonly source: number;
  }[];
  readonly configType: number;
  readonly documentation: null;
}

/** @throws UNKNOWN_TOPIC_OR_PARTITION, INVALID_REQUEST */
export function describeResource(node: Node, resource: ConfigResource): DescribedConfig[] {
  const { resourceType, resourceName } = resource;
  if (resourceType === types.TOPIC) return topicConfigs(node.broker.topics.get(resourceName));
  if (resourceType !== types.BROKER) throw unknownType(resourceType);
  if (resourceName !== '' && resourceName !== String(node.nodeId)) {
    throw new WireError('INVALID_REQUEST', `there is no node ${resourceName}`);
  }
  return brokerConfigs(node);
}

function unknownType(resourceType: number): WireError {
  return new WireError(
    'INVALID_REQUEST',
    `nothing of resource type ${resourceType} has configurations`,
  );
}

function topicConfigs(topic: Topic): DescribedConfig[] {
  return configsOf(topic.settings).map(({ name, value, type, isDefault, preset }) => {
    const source = isDefault ? configSources.DEFAULT : configSources.DYNAMIC_TOPIC;
    const synonyms = isDefault ? [] : [{ name, value, source }];
    if (preset !== null) synonyms.push({ name, value: preset, source: configSources.DEFAULT });
    return {
      name,
      value,
      readOnly: preset === null,
      configSource: source,
      isSensitive: false,
      synonyms,
      configType: configTypes[type],
      documentation: null,
    };
  });
}

/** What of a server Kafka has a name for. It is set by serve(), and by nobody else. */
function brokerConfigs(node: Node): DescribedConfig[] {
  const { host, port } = node.endpoint;
  const configs: Readonly<Record<string, readonly [keyof typeof configTypes, string]>> = {
    'advertised.listeners': ['STRING', `PLAINTEXT://${host}:${port}`],
    'auto.create.topics.enable': ['BOOLEAN', String(node.autoCreateTopics)],
    'broker.id': ['INT', String(node.nodeId)],
    'default.replication.factor': ['INT', '1'],
    'delete.topic.enable': ['BOOLEAN', 'true'],
    'node.id': ['INT', String(node.nodeId)],
    'num.partitions': ['INT', String(node.defaultPartitions)],
    'offsets.topic.num.partitions': ['INT', '50'],
  };
  return Object.entries(configs).map(([name, [type, value]]) => ({
    name,
    value,
    readOnly: true,
    configSource: configSources.STATIC_BROKER,
    isSensitive: false,
    synonyms: [{ name, value, source: configSources.STATIC_BROKER }],
    configType: configTypes[type],
    documentation: null,
  }));
}

/** How the change of a resource went. */
export interface AlteredResource extends ConfigResource {
  readonly errorCode: number;
  readonly errorMessage: string | null;
}

/**
 * Changes topics, each by itself.
 * @param change what a topic's settings become, from what was asked and what it has
 * @returns how each went: INVALID_CONFIG, UNKNOWN_TOPIC_OR_PARTITION, INVALID_REQUEST, KAFKA_STORAGE_ERROR
 */
export async function alterResources<C>(
  node: Node,
  resources: readonly (ConfigResource & { readonly configs: readonly C[] })[],
  validateOnly: boolean,
  change: (configs: readonly C[], settings: TopicSettings) => readonly GivenConfig[],
): Promise<{ readonly responses: readonly AlteredResource[] }> {
  const responses: AlteredResource[] = [];
  for (const { configs, ...resource } of resources) {
    try {
      await alterResource(node, resource, validateOnly, (settings) => change(configs, settings));
      responses.push({ ...resource, errorCode: noError, errorMessage: null });
    } catch (error) {
      const errorMessage = error instanceof Error ? error.message : null;
      responses.push({ ...resource, errorCode: errorNumberOf(error), errorMessage });
    }
  }
  return { responses };
}

async function alterResource(
  { broker }: Node,
  { resourceType, resourceName }: ConfigResource,
  validateOnly: boolean,
  change: (settings: TopicSettings) => readonly GivenConfig[],
): Promise<void> {
  if (resourceType !== types.TOPIC) throw unknownType(resourceType);
  const settings = settingsOf(change(broker.topics.get(resourceName).settings));
  if (!validateOnly) await broker.topics.alter(resourceName, settings);
}
