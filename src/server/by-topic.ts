/** Partitions as messages list them, topic by topic: `first` is the first of its topic. */
export function byTopic<At extends { readonly partition: number }>(
  list: readonly At[],
  topicOf: (at: At) => string,
): { readonly first: At; readonly partitions: number[] }[] {
  const topics = new Map<string, { readonly first: At; readonly partitions: number[] }>();
  for (const at of list) {
    const found = topics.get(topicOf(at));
    if (found === undefined) topics.set(topicOf(at), { first: at, partitions: [at.partition] });
    else found.partitions.push(at.partition);
  }
  return [...topics.values()];
}
