import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Ottla } from '../../src/index.js';
import { serve, type ServeOptions } from '../../src/server/index.js';
import { findClients, type FoundClient } from './matrix-clients.js';
import { features, user, type Feature } from './matrix-features.js';

const run = promisify(execFile);
const clients = findClients();
const allCodecs = ['gzip', 'snappy', 'lz4', 'zstd'];
const passed = new Set<string>();

for (const { name, whyNot } of clients) {
  if (whyNot !== null) console.warn(`Not run: ${name}: ${whyNot}.`);
}

/** A certificate of this machine that signs itself, and its key. @throws if there is no openssl */
function certificate(place: string): { readonly ca: string; readonly options: ServeOptions } {
  const [ca, key] = [join(place, 'ca.pem'), join(place, 'key.pem')];
  const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1'];
  const made = ['-newkey', 'rsa:2048', '-noenc', '-keyout', key, '-out', ca, '-days', '2'];
  execFileSync('openssl', ['req', '-x509', ...made, ...names], { stdio: 'pipe' });
  return { ca, options: { tls: { key: readFileSync(key), cert: readFileSync(ca) } } };
}

async function expectToWork(client: FoundClient, feature: Feature): Promise<void> {
  const place = mkdtempSync(join(tmpdir(), 'ottla-matrix-'));
  const directory = join(place, 'data');
  const ottla = await Ottla.open(directory);
  onTestFinished(async () => {
    await ottla.close();
    rmSync(place, { recursive: true, force: true });
  });
  const warnings: string[] = [];
  ottla.on('warning', (warning) => warnings.push(warning));
  const { ca, options } =
    feature.transport === 'tls' ? certificate(place) : { ca: '', options: {} };
  const sasl = feature.transport === 'sasl' ? { sasl: { users: user } } : {};
  const server = await serve(ottla, { ...options, ...sasl });
  const topic = `matrix-${feature.name}`;
  await ottla.topics.create(topic, { partitions: 2 });
  const stage = { ottla, server, directory, topic, codecs: client.codecs ?? allCodecs };
  await feature.prepare?.(stage);
  const [program, ...args] = [...client.run, feature.name, server.bootstrap, topic, ca];
  const { stdout } = await run(program, args, { timeout: 120_000, maxBuffer: 2 ** 26 });
  expect(stdout.trimEnd()).toMatch(/(^|\n)ok$/);
  await feature.check?.(stage);
  expect(warnings).toEqual([]);
}

const keyOf = (client: FoundClient, feature: Feature): string => `${client.name}: ${feature.name}`;

for (const client of clients) {
  const { name, version, lacks = {}, whyNot } = client;
  const which = whyNot === null ? version : `(not run: ${whyNot})`;
  describe.skipIf(whyNot !== null)(`${name} ${which}`, () => {
    for (const feature of features.filter((each) => lacks[each.name] === undefined)) {
      it(`${feature.title}: ${feature.what}`, async () => {
        await expectToWork(client, feature);
        passed.add(keyOf(client, feature));
      });
    }
  });
}

/** A table of Markdown, as the formatter leaves it. */
function table(rows: readonly (readonly string[])[]): string {
  const [head = [], ...body] = rows;
  const widths = head.map((_, i) => Math.max(3, ...rows.map((row) => row[i]!.length)));
  const rule = widths.map((width) => '-'.repeat(width));
  return [head, rule, ...body]
    .map((row) => `| ${row.map((cell, i) => cell.padEnd(widths[i]!)).join(' | ')} |`)
    .join('\n');
}

function cellOf(client: FoundClient, feature: Feature): string {
  if (client.lacks?.[feature.name] !== undefined) return '–';
  if (!passed.has(keyOf(client, feature))) return 'no';
  return feature.name === 'compression' && client.codecs !== undefined
    ? client.codecs.join(', ')
    : 'yes';
}

const required = clients.filter(({ isOptional }) => isOptional !== true);

function matrix(): string {
  const head = ['Client', 'Version', ...features.map(({ title }) => title)];
  const rows = required.map((client) => [
    client.name,
    client.version,
    ...features.map((feature) => cellOf(client, feature)),
  ]);
  const meanings = features.map(({ title, what }) => `- **${title}**: ${what}.`);
  const remarks = required.flatMap(({ name, lacks = {}, remark }) => {
    const reasons = Object.entries(lacks).map(
      ([feature, why]) => `no ${features.find((each) => each.name === feature)!.title} (${why})`,
    );
    const parts = [...(reasons.length === 0 ? [] : [`${reasons.join(', ')}.`]), remark ?? ''];
    const said = parts.join(' ').trim();
    return said === '' ? [] : [`- ${name}: ${said}`];
  });
  return [table([head, ...rows]), meanings.join('\n'), remarks.join('\n')].join('\n\n');
}

const isWhole = required.every(({ whyNot }) => whyNot === null);

describe('docs/clients.md', () => {
  it.skipIf(!isWhole)('has this table (npm run test:interop -- -u writes it)', async () => {
    const path = fileURLToPath(new URL('../../docs/clients.md', import.meta.url));
    const page = readFileSync(path, 'utf8');
    const parts = /^(.*<!-- matrix -->\n).*(<!-- end of matrix -->.*)$/s.exec(page)!;
    await expect(`${parts[1]}\n${matrix()}\n\n${parts[2]}`).toMatchFileSnapshot(path);
  });
});
