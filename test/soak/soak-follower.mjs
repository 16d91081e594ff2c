/** Reads beside the owner, in read-only mode, until its input ends. Started by soak-load.mjs. */
import { setTimeout as sleep } from 'node:timers/promises';
import { readThrough, soakTopics } from './soak-model.mjs';

const [entry, directory] = process.argv.slice(2);
const { Ottla } = await import(entry);
process.stdin.resume();
let count = 0;
while (!process.stdin.readableEnded) {
  const ottla = await Ottla.open(directory, { readOnly: true });
  for (let i = 0; i < 20 && !process.stdin.readableEnded; i++) {
    for (const topic of Object.keys(soakTopics)) count += await readThrough(ottla, topic);
    await sleep(200);
  }
  await ottla.close();
}
console.log(count);
