import { readFileSync } from 'node:fs';

export interface Flight {
  readonly date: string;
  /** Minutes late; negative: early. */
  readonly delay: number;
  /** Miles. */
  readonly distance: number;
  readonly origin: string;
  readonly destination: string;
}

/** Flights from one airport, and their delays added up. */
export interface Delays {
  readonly flights: number;
  readonly minutes: number;
}

/** 20,000 flights in the United States, January to March 2001, from the npm package vega-datasets. */
export function readFlights(): Flight[] {
  const url = new URL('../data/flights-20k.json', import.meta.resolve('vega-datasets'));
  return JSON.parse(readFileSync(url, 'utf8')) as Flight[];
}

/** The delays straight from the file, without a log, to check the results against. */
export function delaysIn(flights: readonly Flight[]): Map<string, Delays> {
  const delays = new Map<string, Delays>();
  for (const { origin, delay } of flights) {
    const { flights: count, minutes } = delays.get(origin) ?? { flights: 0, minutes: 0 };
    delays.set(origin, { flights: count + 1, minutes: minutes + delay });
  }
  return delays;
}
