import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { basename } from 'node:path';
import type { Result } from './harness.js';
import { plot } from './plot.js';
import { goalText, rateText } from './table.js';

const begin = '<!-- results -->';
const end = '<!-- end of results -->';

/**
 * Puts a table of results between the marks in a page, and the plot beside it, under the page's name with
 * `.svg`.
 */
export function writePage(path: string, results: readonly Result[], rounds: number): void {
  const page = readFileSync(path, 'utf8');
  const [from, to] = [page.indexOf(begin), page.indexOf(end)];
  if (from === -1 || to < from) throw new Error(`${path}: expected ${begin} and ${end}`);
  const image = path.replace(/\.md$/, '.svg');
  writeFileSync(image, plot(results));
  const parts = [
    begin,
    caption(rounds),
    `![The rates of the table, beside their floors](${basename(image)})`,
    table(results),
    `<details><summary>What each row measures</summary>`,
    results.map(({ name, what }) => `- **${name}**: ${what}`).join('\n'),
    '</details>',
    '',
  ];
  writeFileSync(path, page.slice(0, from) + parts.join('\n\n') + page.slice(to));
}

function caption(rounds: number): string {
  const { version, platform, arch } = process;
  const cores = availableParallelism();
  const load = loadavg()[0]!;
  const remark =
    load > cores ? ' That is a busy machine: an idle one is faster, and steadier.' : '';
  return `Node ${version}, ${platform} ${arch}, ${cores} cores, load ${load.toFixed(1)}, median of ${rounds} rounds.${remark}`;
}

function table(results: readonly Result[]): string {
  const head = ['Row', 'Per second', 'Floor', 'Ratio', 'Goal'];
  const rows = results.map(({ name, rate, floorRate, ratio, goal }) => [
    name,
    rateText(goal, rate),
    rateText(goal, floorRate),
    ratio.toPrecision(2),
    goalText(goal),
  ]);
  const widths = head.map((_, i) => Math.max(3, ...[head, ...rows].map((row) => row[i]!.length)));
  const pad = (cell: string, i: number): string =>
    i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!);
  const rule = widths.map((width, i) =>
    i === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`,
  );
  return [head.map(pad), rule, ...rows.map((row) => row.map(pad))]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .join('\n');
}
