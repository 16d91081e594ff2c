import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { topicNameProblem, topicNamesCollide } from '../src/topic-name.js';

const vectors = JSON.parse(
  readFileSync(new URL('vectors/files.json', import.meta.url), 'utf8'),
) as {
  topicNames: { name: string; valid: boolean }[];
  topicNameCollisions: [one: string, other: string, collide: boolean][];
};

describe('topicNameProblem', () => {
  it.each(vectors.topicNames)('"$name": $valid', ({ name, valid }) => {
    const repeated = /^(\d+) x a$/.exec(name)?.[1];
    const problem = topicNameProblem(repeated === undefined ? name : 'a'.repeat(Number(repeated)));
    expect(problem === null).toBe(valid);
  });

  it('says what was expected and what came', () => {
    expect(topicNameProblem('a b')).toBe('a topic name consists of a-z A-Z 0-9 . _ -, got "a b"');
    expect(topicNameProblem('a'.repeat(250))).toBe(
      'a topic name has at most 249 characters, got 250',
    );
    expect(topicNameProblem('a\n')).not.toBeNull();
  });
});

describe('topicNamesCollide', () => {
  it.each(vectors.topicNameCollisions)('%s and %s: %s', (one, other, collide) => {
    expect(topicNamesCollide(one, other)).toBe(collide);
    expect(topicNamesCollide(other, one)).toBe(collide);
  });
});
