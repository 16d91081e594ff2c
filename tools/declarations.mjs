import { readFileSync } from 'node:fs';
import { posix } from 'node:path';

/** The declarations that `npm run build` leaves. */
const dist = new URL('../dist/', import.meta.url);
const modules = new Map();

/**
 * What an entry exports, by name, each where it is declared: `{ kind, name, doc, code }`.
 * There is no compiler to ask, but what it writes is regular: no templates, a `;` behind all but blocks.
 */
export function publicDeclarations(entry) {
  return [...exportsOf(entry).keys()].map((name) => declarationOf(name, entry));
}

function declarationOf(name, path) {
  const found = exportsOf(path).get(name);
  return found.from === undefined ? found : declarationOf(name, found.from);
}

/** By name: a declaration of the module's own, or the module that it comes from. */
function exportsOf(path) {
  if (modules.has(path)) return modules.get(path);
  const names = new Map();
  modules.set(path, names);
  for (const { doc, code } of statements(readFileSync(new URL(path, dist), 'utf8'))) {
    const reexport = /^export (?:type )?\{([^}]*)\} from '(.*)\.js'$/.exec(code);
    for (const name of reexport?.[1].match(/\w+/g) ?? [])
      names.set(name, { from: `${posix.join(posix.dirname(path), reexport[2])}.d.ts` });
    const own = /^export (?:declare )?((class|interface|type|const|function) (\w+)[^]*)/.exec(code);
    if (own !== null) names.set(own[3], { kind: own[2], name: own[3], doc, code: own[1] });
  }
  return names;
}

/** The public members in a declaration's outermost braces. */
export function membersOf({ name, code: block }) {
  return statements(block.slice(block.indexOf('{') + 1, block.lastIndexOf('}')))
    .filter(({ doc, code }) => !/^(#|private )/.test(code) && doc.internal.length === 0)
    .map(({ doc, code }) => {
      const [, isStatic, signature] = /^(static )?(?:readonly |get )?(.*)$/.exec(oneLine(code));
      const [, id, after] = /^([[\]\w.~']+)\??(.)/.exec(signature);
      const place = `${name}.${id}`;
      const title = isStatic ? place : id;
      return { doc, signature, id, place, title, isMethod: '(<'.includes(after) };
    });
}

/** The declarations, or the members, in a text: `{ doc, code }` each. */
function statements(text) {
  const found = [];
  let [doc, start, depth] = ['', -1, 0];
  for (const { 0: token, index } of text.matchAll(/\/\*[^]*?\*\/|\/\/.*|'[^']*'|\S/g)) {
    if (/^\/[*/]/.test(token)) {
      if (start === -1) doc = token;
      continue;
    }
    if (start === -1) start = index;
    if ('{(['.includes(token)) depth++;
    if ('})]'.includes(token)) depth--;
    const code = text.slice(start, index + 1);
    const isBlock = token === '}' && /^(export )?(declare )?(class|interface) /.test(code);
    if (depth > 0 || !(token === ';' || isBlock)) continue;
    found.push({ doc: readDoc(doc), code: code.replace(/;$/, '') });
    [doc, start] = ['', -1];
  }
  return found;
}

/** A docstring's text, and what its tags say, by name. */
function readDoc(comment) {
  const text = comment.replace(/^\/\*\*|\*\/$/g, '').replace(/^\s*\* ?/gm, '');
  const [main, ...rest] = text.split(/(?:^|\s)@(?=(?:throws|returns|param|default|internal)\b)/);
  const tags = { throws: [], returns: [], param: [], default: [], internal: [] };
  for (const tag of rest) tags[/^\w+/.exec(tag)[0]].push(oneLine(tag.replace(/^\w+/, '')));
  return {
    ...tags,
    text: main
      .trim()
      .split(/\n\s*\n/)
      .map(oneLine)
      .join('\n\n'),
  };
}

/** Code or text without line breaks; code also without comments. */
export function oneLine(text) {
  return text
    .replace(/\/\*[^]*?\*\//g, '')
    .replace(/\s+/g, ' ')
    .trim();
}
