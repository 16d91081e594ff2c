/** Kafka's limit, so that `<topic>-<partition>` fits a file name. */
const maxLength = 249;

/**
 * Why a string cannot name a topic; null if it can. The rules are Kafka's (Topic.validate): 1 to 249 of
 * the characters a-z A-Z 0-9 . _ - and neither "." nor "..", so no name leaves its directory.
 */
export function topicNameProblem(name: string): string | null {
  if (name === '') return 'a topic name must not be empty';
  if (name === '.' || name === '..') return `a topic name must not be "${name}"`;
  if (name.length > maxLength) {
    return `a topic name has at most ${maxLength} characters, got ${name.length}`;
  }
  if (!/^[a-zA-Z0-9._-]+$/.test(name)) {
    return `a topic name consists of a-z A-Z 0-9 . _ -, got ${JSON.stringify(name)}`;
  }
  return null;
}

/**
 * Whether two topics get the same names in Kafka's metrics, which write '.' as '_': Kafka refuses the
 * second (Topic.hasCollision).
 */
export function topicNamesCollide(one: string, other: string): boolean {
  return one.replaceAll('.', '_') === other.replaceAll('.', '_');
}
