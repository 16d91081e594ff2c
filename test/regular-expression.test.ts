import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { RegularExpression } from '../src/regular-expression.js';

/** What RE2/J says: test/interop/kafka/src/Re2Vectors.java makes it. */
interface Re2Vectors {
  readonly texts: readonly string[];
  readonly vectors: readonly {
    readonly pattern: string;
    readonly matches: readonly number[] | null;
  }[];
}

const file = new URL('vectors/re2.json', import.meta.url);
const { texts, vectors } = JSON.parse(readFileSync(file, 'utf8')) as Re2Vectors;

/** Indexes of the texts that it matches; null: it is refused. */
function matchesOf(source: string): readonly number[] | null {
  try {
    const expression = new RegularExpression(source);
    return texts.flatMap((text, i) => (expression.matches(text) ? [i] : []));
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

describe('a regular expression is what RE2 takes it for', () => {
  it.each(vectors)('$pattern', ({ pattern, matches }) => {
    expect(matchesOf(pattern)).toEqual(matches);
  });
});

describe('a regular expression', () => {
  it('takes time linear in the text, however it is written', () => {
    const expression = new RegularExpression('(a*)*(a|aa)+(a?){30}b');
    expect(expression.matches('a'.repeat(10_000))).toBe(false);
    expect(expression.matches(`${'a'.repeat(10_000)}b`)).toBe(true);
  });

  it('is bounded in size and depth', () => {
    const tooLarge = ['(((a{100}){100}){100}){100}', '('.repeat(20_000), `${'('.repeat(2000)}a`];
    for (const source of tooLarge) {
      expect(() => new RegularExpression(source)).toThrow(SyntaxError);
    }
  });

  it('has no sets of Unicode, and no flags but two', () => {
    for (const source of ['\\pL', '\\p{Greek}', '(?m)^a', '(?U)a*', '\\C']) {
      expect(() => new RegularExpression(source)).toThrow(SyntaxError);
    }
  });
});
