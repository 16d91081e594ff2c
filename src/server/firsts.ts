/**
 * A filter that each key passes once: what is asked for twice is answered once, or a small request could have
 * an answer many times as large as all there is.
 */
export function firsts(): (key: string) => boolean {
  const seen = new Set<string>();
  return (key) => seen.size < seen.add(key).size;
}
