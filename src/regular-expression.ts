/** One step of the program that an expression becomes; the next one follows unless it says otherwise. */
type Step =
  | Fork
  | { readonly kind: 'one'; readonly takes: Takes }
  | { readonly kind: 'assert'; readonly holds: (text: readonly number[], at: number) => boolean };

/** Goes on at two places. */
interface Fork {
  readonly kind: 'fork';
  first: number;
  second: number;
}

/** Whether a code point is one of a set. */
type Takes = (code: number) => boolean;

/** A part of an expression: it writes its steps, as often as it is repeated. */
type Part = (program: Step[]) => void;

/** RE2's own bounds, but for the steps: what a text may cost is bounded by them. */
const maxRepeat = 1000;
const maxDepth = 1000;
const maxSteps = 4000;

/**
 * A regular expression in the syntax of RE2, as Kafka's brokers take it from clients: whether it matches is
 * found in time linear in the text, however it is written. Not taken are named sets of Unicode (`\pL`), and
 * the flags but `i` and `s`.
 */
export class RegularExpression {
  readonly source: string;
  readonly #program: readonly Step[];

  /** @throws SyntaxError for what is none */
  constructor(source: string) {
    this.source = source;
    const program: Step[] = [];
    new Parser(source).whole()(program);
    this.#program = program;
  }

  /** Whether it matches the whole text. */
  matches(text: string): boolean {
    const codes = Array.from(text, (character) => character.codePointAt(0)!);
    const end = this.#program.length;
    let current = new Set<number>();
    this.#reach(0, codes, 0, current);
    for (const [at, code] of codes.entries()) {
      const next = new Set<number>();
      for (const index of current) {
        const step = this.#program[index];
        if (step?.kind === 'one' && step.takes(code)) this.#reach(index + 1, codes, at + 1, next);
      }
      current = next;
    }
    return current.has(end);
  }

  /** Adds a step, and all that follow it without taking a character. */
  #reach(from: number, text: readonly number[], at: number, into: Set<number>): void {
    const open = [from];
    for (let index = open.pop(); index !== undefined; index = open.pop()) {
      if (into.has(index)) continue;
      into.add(index);
      const step = this.#program[index];
      if (step?.kind === 'fork') open.push(step.first, step.second);
      else if (step?.kind === 'assert' && step.holds(text, at)) open.push(index + 1);
    }
  }
}

const codeOf = (character: string): number => character.codePointAt(0)!;
const newline = codeOf('\n');

/** Pairs of first and last, all in one string. */
function setOf(ranges: string): Takes {
  const ends = Array.from(ranges, codeOf);
  return (code) => ends.some((first, i) => i % 2 === 0 && first <= code && code <= ends[i + 1]!);
}

const not =
  (takes: Takes): Takes =>
  (code) =>
    !takes(code);

const digit = setOf('09');
const word = setOf('09AZaz__');
const space = setOf('\t\n\f\r  ');

const classes: Readonly<Record<string, Takes>> = {
  d: digit,
  D: not(digit),
  w: word,
  W: not(word),
  s: space,
  S: not(space),
};

const namedClasses: Readonly<Record<string, Takes>> = {
  alnum: setOf('09AZaz'),
  alpha: setOf('AZaz'),
  ascii: setOf('\0\x7f'),
  blank: setOf('\t\t  '),
  cntrl: setOf('\0\x1f\x7f\x7f'),
  digit,
  graph: setOf('!~'),
  lower: setOf('az'),
  print: setOf(' ~'),
  punct: setOf('!/:@[`{~'),
  space: setOf('\t\r  '),
  upper: setOf('AZ'),
  word,
  xdigit: setOf('09AFaf'),
};

const escapes: Readonly<Record<string, string>> = {
  a: '\x07',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
};

const isWordAt = (text: readonly number[], at: number): boolean => {
  const code = text[at];
  return code !== undefined && word(code);
};
const isBoundary = (text: readonly number[], at: number): boolean =>
  isWordAt(text, at - 1) !== isWordAt(text, at);

const assertions: Readonly<Record<string, (text: readonly number[], at: number) => boolean>> = {
  '^': (_, at) => at === 0,
  A: (_, at) => at === 0,
  $: (text, at) => at === text.length,
  z: (text, at) => at === text.length,
  b: isBoundary,
  B: (text, at) => !isBoundary(text, at),
};

interface Flags {
  readonly isFolded: boolean;
  readonly dotTakesAll: boolean;
}

function write(program: Step[], step: Step): void {
  if (program.length === maxSteps) throw new SyntaxError('the expression is too large');
  program.push(step);
}

/** To the next step, and to one that is yet to be said. */
function fork(program: Step[]): Fork {
  const step: Fork = { kind: 'fork', first: program.length + 1, second: -1 };
  write(program, step);
  return step;
}

const nothing: Part = () => undefined;

function inTurn(parts: readonly Part[]): Part {
  return (program) => {
    for (const part of parts) part(program);
  };
}

function either(parts: readonly Part[]): Part {
  return (program) => {
    const leaving: Fork[] = [];
    for (const part of parts.slice(0, -1)) {
      const branch = fork(program);
      part(program);
      leaving.push(fork(program));
      branch.second = program.length;
    }
    parts.at(-1)!(program);
    for (const leave of leaving) leave.first = leave.second = program.length;
  };
}

function repeated(part: Part, least: number, most: number): Part {
  return (program) => {
    for (let i = 0; i < least; i++) part(program);
    const from = program.length;
    const leaving: Fork[] = [];
    const isEndless = most === Infinity;
    if (isEndless) {
      leaving.push(fork(program));
      part(program);
      const again = fork(program);
      again.first = again.second = from;
    }
    for (let left = isEndless ? 0 : most - least; left > 0; left--) {
      leaving.push(fork(program));
      part(program);
    }
    for (const leave of leaving) leave.second = program.length;
  };
}

/** Reads an expression from left to right. */
class Parser {
  readonly #text: readonly string[];
  #at = 0;
  #depth = 0;
  #flags: Flags = { isFolded: false, dotTakesAll: false };

  constructor(source: string) {
    this.#text = Array.from(source);
  }

  whole(): Part {
    const part = this.#alternatives();
    if (this.#at < this.#text.length) throw new SyntaxError('unexpected )');
    return part;
  }

  #next(): string | undefined {
    return this.#text[this.#at];
  }

  #take(): string {
    const character = this.#text[this.#at++];
    if (character === undefined) throw new SyntaxError('the expression ends too early');
    return character;
  }

  /** Whether these characters come next: then they are passed. */
  #passes(characters: string): boolean {
    const found = this.#text.slice(this.#at, this.#at + characters.length).join('');
    if (found !== characters) return false;
    this.#at += characters.length;
    return true;
  }

  /** As `pattern` finds it at this place, which it must begin with ^; null: nothing. */
  #found(pattern: RegExp): RegExpExecArray | null {
    const found = pattern.exec(this.#text.slice(this.#at, this.#at + 100).join(''));
    if (found !== null) this.#at += Array.from(found[0]).length;
    return found;
  }

  #alternatives(): Part {
    if (++this.#depth > maxDepth) throw new SyntaxError('parentheses are nested too deeply');
    const flags = this.#flags;
    const parts = [this.#sequence()];
    while (this.#passes('|')) parts.push(this.#sequence());
    this.#flags = flags;
    this.#depth--;
    return parts.length === 1 ? parts[0]! : either(parts);
  }

  #sequence(): Part {
    const parts: Part[] = [];
    for (let next = this.#next(); next !== undefined; next = this.#next()) {
      if (next === '|' || next === ')') break;
      if (this.#passes('\\Q')) parts.push(...this.#quoted());
      else parts.push(this.#repetition(this.#atom()));
    }
    return parts.length === 1 ? parts[0]! : inTurn(parts);
  }

  #quoted(): Part[] {
    const parts: Part[] = [];
    while (this.#at < this.#text.length && !this.#passes('\\E')) {
      parts.push(this.#one(this.#literal(codeOf(this.#take()))));
    }
    const last = parts.pop();
    return last === undefined ? [] : [...parts, this.#repetition(last)];
  }

  #repetition(part: Part): Part {
    const bounds = this.#bounds();
    if (bounds === null) return part;
    this.#passes('?');
    if (this.#bounds() !== null) throw new SyntaxError('a repetition of a repetition');
    return repeated(part, ...bounds);
  }

  #bounds(): [least: number, most: number] | null {
    if (this.#passes('*')) return [0, Infinity];
    if (this.#passes('+')) return [1, Infinity];
    if (this.#passes('?')) return [0, 1];
    const found = this.#found(/^\{(\d+)(,(\d*))?\}/);
    if (found === null) return null;
    const [, least, comma, last] = found;
    const most = comma === undefined ? least : last === '' ? Infinity : last;
    const bounds: [number, number] = [Number(least), Number(most)];
    const largest = bounds[1] === Infinity ? bounds[0] : bounds[1];
    if (bounds[0] > bounds[1] || largest > maxRepeat) {
      throw new SyntaxError(`${found[0]}: expected at most ${maxRepeat}, the lower bound first`);
    }
    return bounds;
  }

  #atom(): Part {
    const character = this.#take();
    if (character === '(') return this.#group();
    if (character === '[') return this.#one(this.#set());
    if (character === '^' || character === '$') return assertion(character);
    if (character === '*' || character === '+' || character === '?') {
      throw new SyntaxError(`nothing is before ${character}`);
    }
    if (character === '.') {
      return this.#one(this.#flags.dotTakesAll ? () => true : (code) => code !== newline);
    }
    if (character !== '\\') return this.#one(this.#literal(codeOf(character)));
    const next = this.#next();
    if (next !== undefined && /^[AzbB]$/.test(next)) return assertion(this.#take());
    return this.#one(this.#class() ?? this.#literal(this.#escape()));
  }

  #one(takes: Takes): Part {
    return (program) => write(program, { kind: 'one', takes });
  }

  #literal(literal: number): Takes {
    return this.#folded((code) => code === literal);
  }

  #folded(takes: Takes): Takes {
    if (!this.#flags.isFolded) return takes;
    return (code) => {
      const character = String.fromCodePoint(code);
      return [character, character.toLowerCase(), character.toUpperCase()].some((each) =>
        takes(codeOf(each)),
      );
    };
  }

  #group(): Part {
    if (this.#passes('?')) {
      const flags = this.#found(/^([a-zA-Z]*)(?:-([a-zA-Z]+))?([:)])/);
      if (flags !== null) {
        const [, on = '', off = '', end] = flags;
        const before = this.#flags;
        for (const flag of on) this.#turn(flag, true);
        for (const flag of off) this.#turn(flag, false);
        if (end === ')') return nothing;
        const part = this.#inside();
        this.#flags = before;
        return part;
      }
      if (this.#found(/^P?<[A-Za-z0-9_]+>/) === null) {
        throw new SyntaxError('a group that is not known after (?');
      }
    }
    return this.#inside();
  }

  #turn(flag: string, isOn: boolean): void {
    if (flag === 'i') this.#flags = { ...this.#flags, isFolded: isOn };
    else if (flag === 's') this.#flags = { ...this.#flags, dotTakesAll: isOn };
    else throw new SyntaxError(`the flag ${flag} is not known`);
  }

  #inside(): Part {
    const part = this.#alternatives();
    if (!this.#passes(')')) throw new SyntaxError('a ) is missing');
    return part;
  }

  /** One of many by a letter; null: what follows the backslash stands for one character. */
  #class(): Takes | null {
    const found = classes[this.#next() ?? ''];
    if (found === undefined) return null;
    this.#at++;
    return this.#folded(found);
  }

  #escape(): number {
    const hex = this.#found(/^x(?:([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]{1,6})\})/);
    if (hex !== null) {
      const code = parseInt(hex[1] ?? hex[2]!, 16);
      if (code <= 0x10_ffff) return code;
      throw new SyntaxError(`\\${hex[0]} is no character`);
    }
    const octal = this.#found(/^(?:0[0-7]{0,2}|[1-7][0-7]{1,2})/);
    if (octal !== null) return parseInt(octal[0], 8);
    const character = this.#take();
    const known = escapes[character];
    if (known !== undefined) return codeOf(known);
    if (character === '_' || !word(codeOf(character))) return codeOf(character);
    throw new SyntaxError(`\\${character} is not known`);
  }

  #set(): Takes {
    const isNegated = this.#passes('^');
    const parts: Takes[] = [];
    for (let isFirst = true; isFirst || this.#next() !== ']'; isFirst = false) {
      parts.push(this.#element());
    }
    this.#at++;
    const takes = this.#folded((code) => parts.some((part) => part(code)));
    return isNegated ? not(takes) : takes;
  }

  #element(): Takes {
    const named = this.#found(/^\[:(\^?)([a-z]+):\]/);
    if (named !== null) {
      const found = namedClasses[named[2]!];
      if (found === undefined) throw new SyntaxError(`${named[0]} is not known`);
      return named[1] === '' ? found : not(found);
    }
    const isEscaped = this.#passes('\\');
    const group = isEscaped ? this.#class() : null;
    if (group !== null) return group;
    const first = isEscaped ? this.#escape() : codeOf(this.#take());
    if (this.#next() !== '-' || this.#text[this.#at + 1] === ']') return (code) => code === first;
    this.#at++;
    const last = this.#passes('\\') ? this.#escape() : codeOf(this.#take());
    if (last < first) throw new SyntaxError('a range ends before it begins');
    return (code) => first <= code && code <= last;
  }
}

function assertion(name: string): Part {
  return (program) => write(program, { kind: 'assert', holds: assertions[name]! });
}
