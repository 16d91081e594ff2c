import { posix } from 'node:path';

/**
 * The layers of src/, lowest first: a file imports, types included, only from layers below its own
 * and from its own, and never in a cycle. Entries are paths under src/ without `.ts`; `*` stands for
 * any part of a name. Every file belongs to exactly one layer: a new one is entered here first.
 */
export const layers = [
  ['errors'],
  ['clock', 'signal', 'watched'],
  ['topic-name'],
  ['regular-expression'],
  ['compression', 'compression-*', 'compressor'],
  ['options'],
  ['crc32c'],
  ['varint'],
  ['msgpack'],
  ['record', 'record-*'],
  ['admission'],
  ['storage/*'],
  ['partitioner'],
  ['assignment'],
  ['assignor', 'assignor-*'],
  ['partition', 'partition-*'],
  ['offsets', 'offsets-*'],
  ['topic', 'topics'],
  ['group', 'group-*', 'groups'],
  ['retention'],
  ['transaction', 'transaction-*'],
  ['broker'],
  ['verify', 'verify-*'],
  ['repair', 'repair-*'],
  ['backup'],
  ['faults'],
  ['data-directory'],
  ['engine'],
  ['local', 'local-*'],
  ['codec', 'headers', 'serde'],
  ['run-*'],
  ['consumer', 'consumer-*'],
  ['producer', 'producer-*'],
  ['redrive'],
  ['ottla-*'],
  ['ottla'],
  ['index'],
  ['testing/*'],
  ['server/*', 'server/protocol/*', 'server/requests/*'],
  ['cli/*'],
];

/** Modules, as patterns of the specifier, that only some files may import. */
const reservedModules = [
  {
    regex: '^(node:)?fs(/|$)|^lmdb(/|$)|^fs-native-extensions(/|$)',
    only: ['storage/*', 'testing/directory'],
    message: 'Files, LMDB and file locks are reached through src/storage.',
  },
  {
    regex: '^(node:)?(timers|perf_hooks)(/|$)',
    only: ['clock'],
    message: 'Time and timers are injected: take a Clock.',
  },
  {
    regex: '^zod(/|$)',
    only: ['storage/lmdb-store', 'storage/rows'],
    message: 'zod takes 50 ms to load: it parses stored rows, nothing else.',
  },
  {
    // The layers are told by the text of a specifier, so each file must have one spelling.
    regex: '^ottla(/|$)|^/|^file:|/src/|^\\./\\.|[^.]/\\.',
    only: [],
    message: 'Write the shortest relative path.',
  },
];

/** Globals, or properties of them, that only some files may use. */
const reservedGlobals = [
  ...['setTimeout', 'setInterval', 'setImmediate', 'performance'].flatMap((property) => [
    { property },
    { object: 'globalThis', property },
  ]),
  { object: 'Date', property: 'now' },
  { object: 'process', property: 'hrtime' },
]
  .map((use) => ({
    ...use,
    only: ['clock'],
    message: 'Time and timers are injected: take a Clock.',
  }))
  .concat({
    object: 'Math',
    property: 'random',
    only: ['ottla'],
    message: 'Randomness is injected, so that a seed replays.',
  });

/**
 * The layers that a file belongs to, as indexes: one, or the list is wrong.
 *
 * @param {string} path under src/, with `/` and without `.ts`
 */
export function layersOf(path) {
  return layers.flatMap((entries, i) => (entries.some((entry) => covers(entry, path)) ? [i] : []));
}

/** oxlint's overrides that keep all this. They replace, rule by rule, what stands before them. */
export const layerOverrides = [
  {
    files: ['src/**'],
    rules: {
      'no-restricted-imports': [
        'error',
        { patterns: [{ regex: '', message: 'Enter this file in tools/layers.mjs.' }] },
      ],
    },
  },
  // Files with an exception of their own come after the directory that holds them.
  ...new Set([...layers, ...reservedModules.map(({ only }) => only)].flat()),
].map((place) => (typeof place === 'string' ? overrideFor(place) : place));

function overrideFor(place) {
  const above = layers.slice(layersOf(place)[0] + 1).flat();
  const forbidden = ({ only }) => !only.some((entry) => covers(entry, place));
  const uses = reservedGlobals.filter(forbidden);
  const patterns = reservedModules
    .filter(forbidden)
    .map(({ regex, message }) => ({ regex, message }));
  if (above.length > 0) {
    patterns.push({
      regex: above.map((entry) => specifier(place, entry)).join('|'),
      message: `src/${place}.ts imports only from its own layer and below (tools/layers.mjs).`,
    });
  }
  return {
    files: [`src/${place}.ts`],
    rules: {
      'no-restricted-imports': ['error', { patterns }],
      'no-restricted-globals': [
        'error',
        ...uses
          .filter(({ object }) => object === undefined)
          .map(({ property, message }) => ({ name: property, message })),
      ],
      'no-restricted-properties': [
        'error',
        ...uses
          .filter(({ object }) => object !== undefined)
          .map(({ object, property, message }) => ({ object, property, message })),
      ],
    },
  };
}

function covers(entry, path) {
  return new RegExp(`^${pattern(entry)}$`).test(path);
}

/** How a file at `from` spells an import of `to`. */
function specifier(from, to) {
  const [here, there] = [posix.dirname(from), posix.dirname(to)];
  if (here === there) return `^\\./${pattern(posix.basename(to))}\\.js$`;
  return here === '.' ? `^\\./${pattern(to)}\\.js$` : `^(\\.\\./)+${pattern(to)}\\.js$`;
}

function pattern(entry) {
  return entry.replaceAll('*', '[^/]*');
}
