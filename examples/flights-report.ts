import type { Consumer } from 'ottla';
import type { Delays } from './flights-file.js';

const { stdout } = process;
const print = (line = ''): void => void stdout.write(`${line}\n`);
const number = (value: number): string => Math.round(value).toLocaleString('en-US');

/** Says where the data is, and what an earlier run left there. */
export function start(
  directory: string,
  recovery: readonly string[],
  { group, committed, airports }: { group: string; committed: number; airports: number },
): void {
  print(`Data directory: ${directory}`);
  for (const sentence of recovery) print(`Recovered: ${sentence}`);
  if (committed === 0) {
    print(`Group ${group} has committed nothing yet: it begins at the first flight.`);
  } else {
    print(`Resuming: group ${group} has committed ${number(committed)} flights; only newer ones`);
    print(`are read. The results up to there, of ${airports} airports, are in topic delays.`);
  }
}

/** Which partitions each consumer has. */
export function assignment(
  title: string,
  consumers: readonly { readonly name: string; readonly consumer: Consumer }[],
): void {
  print(`\n${title}`);
  for (const { name, consumer } of consumers) {
    const partitions = consumer.assignment().map(({ partition }) => partition);
    print(`  consumer ${name}  partitions ${partitions.toSorted((a, b) => a - b).join(', ')}`);
  }
}

/** Shows how many flights are processed: on a terminal in one line that changes, else every quarter. */
export function progress(total: number): (processed: number) => void {
  let shown = 0;
  return (processed) => {
    if (stdout.isTTY) {
      const newline = processed >= total ? '\n' : '';
      stdout.write(`\r  ${number(processed)} of ${number(total)} flights${newline}`);
      return;
    }
    const quarter = Math.floor((processed / total) * 4);
    if (quarter > shown) print(`  ${number(processed)} of ${number(total)} flights`);
    shown = quarter;
  };
}

function rate(count: number, ms: number): string {
  if (count === 0) return 'nothing new';
  return `${number(count)} flights in ${number(ms)} ms, ${number((count / ms) * 1000)}/s`;
}

export function rates(sent: number, sentMs: number, processed: number, processedMs: number): void {
  print(`\nIn   ${rate(sent, sentMs)}`);
  print(`Out  ${rate(processed, processedMs)}`);
}

/** A table of the ten airports with the most flights. */
export function busiest(results: ReadonlyMap<string, Delays>): void {
  const row = (airport: string, flights: string, delay: string): void =>
    print(`${airport.padEnd(9)}${flights.padStart(7)}${delay.padStart(15)}`);
  print();
  row('Airport', 'Flights', 'Average delay');
  const byFlights = [...results].toSorted(([, a], [, b]) => b.flights - a.flights);
  for (const [airport, { flights, minutes }] of byFlights.slice(0, 10)) {
    row(airport, number(flights), `${(minutes / flights).toFixed(1)} min`);
  }
}

/** Compares all results with the ones expected, and says how that went. */
export function check(
  results: ReadonlyMap<string, Delays>,
  expected: ReadonlyMap<string, Delays>,
): boolean {
  const differing = [...new Set([...results.keys(), ...expected.keys()])].filter((airport) => {
    const [actual, wanted] = [results.get(airport), expected.get(airport)];
    return actual?.flights !== wanted?.flights || actual?.minutes !== wanted?.minutes;
  });
  if (differing.length === 0) {
    print(`\nChecked: all ${expected.size} airports agree with the file.`);
    return true;
  }
  print(`\nWRONG: ${differing.length} of ${expected.size} airports differ from the file:`);
  for (const airport of differing) {
    const [actual, wanted] = [results.get(airport), expected.get(airport)];
    print(`  ${airport}: got ${JSON.stringify(actual)}, expected ${JSON.stringify(wanted)}`);
  }
  return false;
}

export function end(directory: string): void {
  print(`The data stays in ${directory}: run this again to resume, delete it to start afresh.`);
}
