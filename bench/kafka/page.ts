import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, loadavg, totalmem } from 'node:os';
import { basename } from 'node:path';

/** What a row found of the two. */
export interface Compared {
  readonly name: string;
  readonly unit: 'records/s' | 'ms' | 'MiB';
  readonly what: string;
  readonly kafka: number;
  readonly ottla: number;
}

/** How many times Ottla is better: of rates by its own, of times and memory by Kafka's. */
export function ahead({ unit, kafka, ottla }: Compared): number {
  return unit === 'records/s' ? ottla / kafka : kafka / ottla;
}

/** A line for who watches. */
export function text(row: Compared): string {
  const cells = cellsOf(row);
  return [cells[0]!.padEnd(42), ...cells.slice(1).map((cell) => cell.padStart(18))].join('');
}

function cellsOf(row: Compared): string[] {
  const { name, unit, kafka, ottla } = row;
  return [name, figure(kafka, unit), figure(ottla, unit), `${ahead(row).toPrecision(2)}×`];
}

function figure(value: number, unit: Compared['unit']): string {
  if (unit !== 'records/s')
    return `${value < 100 ? value.toPrecision(3) : value.toFixed(0)} ${unit}`;
  return value >= 1e6 ? `${(value / 1e6).toFixed(2)} M/s` : `${(value / 1000).toFixed(0)} k/s`;
}

const begin = '<!-- results -->';
const end = '<!-- end of results -->';

/** Puts a table of results between the marks in a page, and the plot beside it, under the page's name with `.svg`. */
export function writePage(path: string, rows: readonly Compared[], rounds: number): void {
  const page = readFileSync(path, 'utf8');
  const [from, to] = [page.indexOf(begin), page.indexOf(end)];
  if (from === -1 || to < from) throw new Error(`${path}: expected ${begin} and ${end}`);
  const image = path.replace(/\.md$/, '.svg');
  writeFileSync(image, plot(rows));
  const whats = rows.map(({ name, what }) => `- **${name}**: ${what}.`);
  const parts = [
    begin,
    `Node ${process.version}, ${availableParallelism()} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, load ${loadavg()[0]!.toFixed(1)}, median of ${rounds} rounds.`,
    `![How many times better Ottla is, by row](${basename(image)})`,
    table([['Row', 'Kafka', 'Ottla', 'Ottla is better'], ...rows.map(cellsOf)]),
    whats.join('\n'),
    '',
  ];
  writeFileSync(path, page.slice(0, from) + parts.join('\n\n') + page.slice(to));
}

function table(rows: readonly (readonly string[])[]): string {
  const [head = [], ...body] = rows;
  const widths = head.map((_, i) => Math.max(3, ...rows.map((row) => row[i]!.length)));
  const pad = (cell: string, i: number): string =>
    i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!);
  const rule = widths.map((width, i) =>
    i === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`,
  );
  return [head.map(pad), rule, ...body.map((row) => row.map(pad))]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .join('\n');
}

const width = 960;
const left = 290;
const right = 60;
const rowHeight = 22;
const top = 44;

/** A bar for each row from 1, where both are equal, to how many times better Ottla is; the axis is logarithmic. */
function plot(rows: readonly Compared[]): string {
  const logs = rows.map((row) => Math.log2(ahead(row)));
  const first = Math.floor(Math.min(-1, ...logs));
  const last = Math.ceil(Math.max(1, ...logs));
  const x = (log: number): number =>
    left + ((log - first) / (last - first)) * (width - left - right);
  const bottom = top + rows.length * rowHeight;
  const ticks = Array.from({ length: last - first + 1 }, (_, i) => first + i);
  const lines = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${bottom + 16}" role="img">`,
    '<title>How many times better Ottla is than Apache Kafka</title>',
    `<style>
text { font: 12px system-ui, sans-serif; fill: #24292f }
.grid { stroke: #d0d7de } .equal { stroke: #57606a; stroke-width: 2 }
.ahead { fill: #0969da } .behind { fill: #bc4c00 } .end { text-anchor: end } .middle { text-anchor: middle }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .grid { stroke: #30363d } .equal { stroke: #9198a1 }
.ahead { fill: #4493f8 } .behind { fill: #f0883e }
}
</style>`,
    '<text x="0" y="14">Apache Kafka is 1; to the right Ottla is better</text>',
    ...ticks.flatMap((log) => [
      `<text class="middle" x="${x(log).toFixed(1)}" y="${top - 10}">${log < 0 ? `1/${2 ** -log}` : 2 ** log}</text>`,
      `<line class="${log === 0 ? 'equal' : 'grid'}" x1="${x(log).toFixed(1)}" x2="${x(log).toFixed(1)}" y1="${top - 4}" y2="${bottom}"/>`,
    ]),
    ...rows.flatMap((row, i) => {
      const [from, to] = [x(Math.min(0, logs[i]!)), x(Math.max(0, logs[i]!))];
      const y = top + i * rowHeight;
      return [
        `<text x="0" y="${y + 15}">${row.name}</text>`,
        `<rect class="${logs[i]! < 0 ? 'behind' : 'ahead'}" x="${from.toFixed(1)}" y="${y + 4}" width="${(to - from).toFixed(1)}" height="${rowHeight - 8}"/>`,
        `<text class="end" x="${width}" y="${y + 15}">${ahead(row).toPrecision(2)}×</text>`,
      ];
    }),
  ];
  return `${[...lines, '</svg>'].join('\n')}\n`;
}
