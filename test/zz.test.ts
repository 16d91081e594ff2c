import { it } from 'vitest';
import { callsOf, warmUp, workloads, faultsAt, runWithFault } from './fault-loop.js';
import { writeFileSync, appendFileSync } from 'node:fs';
process.on('unhandledRejection', (e) => appendFileSync('/tmp/ftry/out.txt', `UNHANDLED ${String((e as Error).stack)}\n`));
it('x', async () => {
  await warmUp();
  writeFileSync('/tmp/ftry/out.txt', '');
  const seen = new Map<string, string>();
  let runs = 0;
  const only = process.env['ONLY']?.split(',');
  const kinds = process.env['KINDS']?.split(',');
  for (const name of Object.keys(workloads)) {
    if (only && !only.some((o) => name.includes(o))) continue;
    const t0 = performance.now();
    const { calls, problems } = await callsOf(name);
    if (problems.length) appendFileSync('/tmp/ftry/out.txt', `${name} CLEAN ${problems.join('\n')}\n`);
    const bySite = new Map<string, number>();
    for (const [i, { call, site }] of calls.entries()) {
      const nth = (bySite.get(site) ?? 0) + 1;
      bySite.set(site, nth);
      if (nth > Number(process.env['NTH'] ?? 2)) continue;
      for (const fault of faultsAt(name, i, call)) {
        if (kinds && !kinds.includes(fault.kind)) continue;
        if (process.env['FMODE'] === 'once' && (fault.forEver || fault.dies)) continue;
        runs++; appendFileSync('/tmp/ftry/last.txt', JSON.stringify(fault) + ' ' + site + '\n');
        let found: readonly string[];
        try { found = (await runWithFault(fault)).problems; } catch (e) { found = [`THROWN ${(e as Error).stack}`]; }
        for (const p of found.slice(0, 3)) {
          const key = `${site} ${fault.kind} ${p.replace(/\d+/g, '#').slice(0, 80)}`;
          if (seen.has(key)) continue;
          seen.set(key, p);
          appendFileSync('/tmp/ftry/out.txt', `${JSON.stringify(fault)} ${site} ${call.path}\n    ${p.slice(0, 400)}\n`);
        }
      }
    }
    console.log(name, runs, (performance.now() - t0).toFixed(0));
  }
}, 3000000);
