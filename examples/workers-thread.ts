/** Runs in a worker thread: work for the processor alone. */
export default function countPrimes(limit: number): number {
  let count = 0;
  for (let candidate = 2; candidate < limit; candidate++) {
    let isPrime = true;
    for (let i = 2; i * i <= candidate && isPrime; i++) isPrime = candidate % i !== 0;
    if (isPrime) count++;
  }
  return count;
}
