// The broker that is measured: an Ottla in a directory, served at a port until the process is told to end.
//
//   node build/bench/kafka/served.js DIRECTORY PORT

import { Ottla } from 'ottla';
import { serve } from 'ottla/server';

const [directory, port] = process.argv.slice(2);
const ottla = await Ottla.open(directory!);
await serve(ottla, { port: Number(port) });
process.once('SIGTERM', () => void ottla.close());
