import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { apis } from '../src/server/apis.js';

const read = (path: string): string => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8');

it('docs/wire.md names each request that is offered, with its versions', () => {
  const page = read('docs/wire.md');
  const rows = page.matchAll(/^\| (\w+) +\| (\d+)(?: to (\d+))? +\|$/gm);
  const told = [...rows].map(([, name, oldest, newest = oldest]) => [name, +oldest!, +newest!]);
  const offered = [...apis.values()].map((api) => [api.name, api.minVersion, api.maxVersion]);
  expect(told).toEqual(offered.toSorted(([one], [other]) => (one! < other! ? -1 : 1)));
});

describe('docs/clients.md', () => {
  const [head = [], , ...rows] = read('docs/clients.md')
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .map((line) =>
      line
        .split('|')
        .map((cell) => cell.trim())
        .slice(1, -1),
    );

  it('tells of no feature that a client failed at', () => {
    expect(head.slice(0, 2)).toEqual(['Client', 'Version']);
    expect(rows.length).toBeGreaterThan(0);
    for (const [client, , ...cells] of rows) expect(cells, client).not.toContain('no');
  });

  it('tells of the versions that are tested', () => {
    const { devDependencies } = JSON.parse(read('package.json')) as {
      devDependencies: Record<string, string>;
    };
    const python = read('test/interop/clients/requirements.txt');
    const pinned = (name: string): string => new RegExp(`^${name}==(.*)$`, 'm').exec(python)![1]!;
    const franz = /franz-go v(.*)/.exec(read('test/interop/clients/franz/go.mod'))![1]!;
    const kafka = /<kafka.version>(.*)</.exec(read('test/interop/kafka/pom.xml'))![1]!;
    const versions = new Map(rows.map(([client, version]) => [client, version!.split(',')[0]]));
    expect(Object.fromEntries(versions)).toMatchObject({
      KafkaJS: devDependencies['kafkajs'],
      '@platformatic/kafka': devDependencies['@platformatic/kafka'],
      'confluent-kafka (Python)': pinned('confluent-kafka'),
      'kafka-python': pinned('kafka-python'),
      'franz-go': franz,
      'Kafka’s Java client': kafka,
      'Kafka’s command-line tools': kafka,
    });
  });
});
