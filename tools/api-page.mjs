/**
 * Makes docs/api.md of the docstrings in dist, where `npm run build` leaves them:
 * `node tools/api-page.mjs` writes the page, `--check` only says whether it is up to date. It fails for
 * what is public and has no docstring, no default, no unit, or no place in a section below.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { membersOf, oneLine, publicDeclarations } from './declarations.mjs';

/** Every public name, in the order of the page. */
const sections = {
  Ottla: 'Ottla OpenOptions MemoryOptions',
  Topics: 'Topics TopicOptions CleanupPolicy TopicDescription PartitionInfo PartitionOffset',
  Groups: 'Groups GroupInfo GroupState GroupPartitionInfo MemberDescription',
  'Moving commits': 'ResetOffsetsOptions ResetTo OffsetReset',
  Producer:
    'Producer ProducerOptions Acks Compression Partitioner SendOptions WaitOptions Transaction RecordToSend RecordBody RawHeaders',
  'What was sent': 'RecordMetadata WrittenRun',
  'What a producer does': 'ProducerMetrics ProducerBatchMessage',
  Consumer:
    'Consumer ConsumerOptions Subscribable Subscribed RebalanceHook From Ago Isolation AssignorName OffsetToCommit PartitionLag',
  Handlers: 'RunOptions RunContext Concurrency RetryOptions RateLimit RedriveOptions',
  'Reading without a group': 'TopicReading ReadOptions ReadFrom SkippedRange',
  'Looking through a directory':
    'VerifyReport VerifyOptions VerifyProgress VerifyProblem VerifyNote Finding ProblemCode NoteCode',
  'What was read': 'ConsumerRecord ConsumerBatch RecordOf BatchOf Headers',
  Definitions:
    'defineTopic DefinitionOptions TopicDefinition TopicRef SerdeSpec HeadersSpec CodecName Codec',
  'Types of definitions': 'StandardSchema KeyIn KeyOut ValueIn ValueOut HeadersIn HeadersOut',
  Errors: 'OttlaError ErrorCode RecordPlace OnInvalid InvalidRecord',
  'Pure functions': 'murmur2 offsetsPartitionFor',
  Assignors: 'assignors Assignor AssignorInput AssignorMember TopicPartition',
  'What a test puts in its place': 'Clock Timer Faults FaultControls',
  'ottla/server': 'serve Server ServeOptions ServeLimits SaslOptions SaslMechanism SocketRequest',
  'ottla/testing': 'testOttla TestOttla testDirectory TestContext VirtualClock VirtualClockOptions',
  'ottla/testing: faults':
    'FaultInjector FaultyOperation HeldOperation FailureOptions FaultTarget Gate',
};

const entries = ['index.d.ts', 'server/index.d.ts', 'testing/index.d.ts'];
const declarations = new Map(
  entries.flatMap(publicDeclarations).map((found) => [found.name, found]),
);
const problems = [];

/** What makes a method's signature a statement, while oxfmt formats it. */
const asStatement = 'declare function ';
const code = (text) => `\n\`\`\`ts\n${text}\n\`\`\`\n`;
const inCode = (text) => `\`${text}\``;
const link = (text, title) =>
  `[${text}](#${title
    .toLowerCase()
    .replaceAll(/[^a-z0-9 -]/g, '')
    .replaceAll(' ', '-')})`;
/** Outside of code `<` begins HTML. */
const escaped = (text) => text.replace(/`[^`]*`|</g, (part) => (part === '<' ? '\\<' : part));

/** Names of errors are code. */
const withCodes = (text) => text.replace(/(?<!`)\b([A-Z]{4,}[A-Z_]*|\w+Error)\b/g, '`$1`');

/** A docstring's text, then its tags as lists. */
function described({ text, param, returns, throws }, place, isRequired) {
  if (isRequired && text === '') problems.push(`${place}: no docstring`);
  const lists = {
    Parameters: param.map((item) => item.replace(/^(\S+) /, '`$1`: ')),
    Returns: returns,
    Throws: throws.flatMap((item) => item.split('; ').map(withCodes)),
  };
  const written = Object.entries(lists)
    .filter(([, items]) => items.length > 0)
    .map(
      ([title, items]) => `${title}:\n\n${items.map((item) => `- ${escaped(item)}\n`).join('')}`,
    );
  return [`\n${escaped(text)}\n`, ...written].join('\n');
}

function table(heads, rows) {
  const lines = [heads, heads.map(() => '---'), ...rows].map((cells) => {
    const inOneLine = cells.map((cell) => cell.trim().replace(/\s*\n\s*/g, '<br>'));
    return `| ${inOneLine.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |\n`;
  });
  return rows.length === 0 ? '' : `\n${lines.join('')}`;
}

const units = [
  [/Ms$/, /\bms\b/],
  [/(Bytes|Memory|batchSize)$/, /\bbytes\b|[KMG]iB\b/],
];

function optionRow({ doc, signature, place, id }) {
  const [, optional, type] = /^\w+(\??): (.*)$/.exec(signature);
  const preset = doc.default[0] ?? (optional === '' ? 'required' : '');
  if (preset === '') problems.push(`${place}: no @default`);
  for (const [ofName, unit] of units) {
    if (ofName.test(id) && !unit.test(preset)) problems.push(`${place}: no unit in its @default`);
  }
  return [inCode(id), inCode(type), escaped(preset), described(doc, place, true)];
}

function entry(name) {
  const declaration = declarations.get(name);
  const { kind, doc } = declaration;
  const text = oneLine(declaration.code);
  const heading = `\n### ${kind} ${name}\n`;
  if (kind === 'function') return heading + code(`declare ${text};`) + described(doc, name, true);
  const start = heading + described(doc, name, true);
  if (kind === 'type') return start + code(`${text};`);
  const [head] = text.split(/ implements | ?\{/);
  const shape = /<|extends/.test(head) ? code(`${head} {}`) : '';
  const members = membersOf(declaration);
  if (name.endsWith('Options')) {
    return start + shape + table(['Option', 'Type', 'Default', 'Meaning'], members.map(optionRow));
  }
  const isMethod = (member) => kind === 'class' && member.isMethod;
  const rows = members
    .filter((member) => !isMethod(member))
    .map((member) => {
      const isRequired = member.isMethod || kind === 'const';
      return [inCode(member.signature), described(member.doc, member.place, isRequired)];
    });
  const methods = members.filter(isMethod).map(({ title, signature, place, doc: docOfMethod }) => {
    const written = code(`${asStatement}${signature};`) + described(docOfMethod, place, true);
    return `\n#### ${inCode(`${title}()`)}\n${written}`;
  });
  return start + shape + table(['Member', 'Meaning'], rows) + methods.join('');
}

function markdown() {
  const placed = Object.values(sections).flatMap((names) => names.split(' '));
  for (const name of new Set([...declarations.keys(), ...placed])) {
    if (!declarations.has(name)) problems.push(`${name}: in a section, and not exported`);
    if (!placed.includes(name)) problems.push(`${name}: exported, and in no section`);
  }
  let [contents, body] = ['', ''];
  for (const [title, list] of Object.entries(sections)) {
    const names = list.split(' ').filter((name) => declarations.has(name));
    const links = names.map((name) => link(name, `${declarations.get(name).kind} ${name}`));
    contents += `- ${link(title, title)}: ${links.join(', ')}\n`;
    body += `\n## ${title}\n${names.map(entry).join('')}`;
  }
  return `# API\n\nMade of the docstrings by \`npm run docs:api\`.\n\n${contents}${body}`;
}

const input = markdown();
if (problems.length > 0) {
  console.error(problems.join('\n'));
  process.exit(1);
}
const page = new URL('../docs/api.md', import.meta.url);
const oxfmt = fileURLToPath(new URL('../node_modules/oxfmt/bin/oxfmt', import.meta.url));
const formatted = execFileSync(process.execPath, [oxfmt, '--stdin-filepath=docs/api.md'], {
  cwd: fileURLToPath(new URL('..', import.meta.url)),
  input,
  encoding: 'utf8',
}).replaceAll(`\n${asStatement}`, '\n');
if (!process.argv.includes('--check')) {
  writeFileSync(page, formatted);
} else if (readFileSync(page, 'utf8').replaceAll('\r\n', '\n') !== formatted) {
  console.error('docs/api.md is not what the docstrings say: run `npm run docs:api`.');
  process.exitCode = 1;
}
