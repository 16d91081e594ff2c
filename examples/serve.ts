// An Ottla in memory for the tests of a program in any language: prints the address for its `bootstrap.servers`,
// and ends with the process that started it, or when that closes its input.
//
//   npm run build:all && node build/examples/serve.js

import { Ottla } from 'ottla';
import { serve } from 'ottla/server';

const ottla = Ottla.memory();
const server = await serve(ottla);
console.log(server.bootstrap);
process.stdin.resume().once('close', () => void ottla.close());
