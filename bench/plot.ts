import { mostMs, type Result } from './harness.js';

const width = 960;
const left = 330;
const right = 110;
const rowHeight = 22;
const top = 58;

/**
 * A plot of results: by row a dot for the rate, a bar for the floor's, and a ring where the goal is; the
 * axis is logarithmic.
 */
export function plot(results: readonly Result[]): string {
  const rates = results.flatMap(({ rate, floorRate }) => [rate, floorRate]);
  const first = Math.floor(Math.log10(Math.min(...rates)));
  const last = Math.ceil(Math.log10(Math.max(...rates)));
  const x = (rate: number): string =>
    (left + ((Math.log10(rate) - first) / (last - first)) * (width - left - right)).toFixed(1);
  const bottom = top + results.length * rowHeight;
  const lines = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${bottom + 16}" role="img">`,
    '<title>Rates of Ottla and of the floors beneath them</title>',
    `<style>
text { font: 12px system-ui, sans-serif; fill: #24292f }
.grid { stroke: #d0d7de } .gap { stroke: #8c959f } .floor { stroke: #57606a; stroke-width: 3 }
.rate { fill: #0969da } .goal { fill: none; stroke: #bc4c00; stroke-width: 1.5 } .end { text-anchor: end }
.middle { text-anchor: middle }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .grid { stroke: #30363d } .gap { stroke: #6e7681 } .floor { stroke: #9198a1 }
.rate { fill: #4493f8 } .goal { stroke: #f0883e }
}
</style>`,
    ...legend(),
  ];
  for (let power = first; power <= last; power++) {
    const at = x(10 ** power);
    lines.push(
      `<text class="middle" x="${at}" y="${top - 10}">${powerOfTen(power)}</text>`,
      `<line class="grid" x1="${at}" x2="${at}" y1="${top - 4}" y2="${bottom}"/>`,
    );
  }
  for (const [i, result] of results.entries()) {
    lines.push(...row(result, top + i * rowHeight + rowHeight / 2, x));
  }
  return `${[...lines, '</svg>'].join('\n')}\n`;
}

function powerOfTen(power: number): string {
  if (power >= 6) return `${10 ** (power - 6)} M`;
  return power >= 3 ? `${10 ** (power - 3)} k` : String(10 ** power);
}

function legend(): string[] {
  return [
    `<circle class="rate" cx="8" cy="14" r="5"/><text x="18" y="18">Ottla, per second</text>`,
    `<line class="floor" x1="158" x2="158" y1="7" y2="21"/><text x="168" y="18">its floor</text>`,
    `<circle class="goal" cx="250" cy="14" r="5"/><text x="260" y="18">goal: at least this</text>`,
    `<text class="end" x="${width}" y="18">ratio</text>`,
  ];
}

function row(result: Result, y: number, x: (rate: number) => string): string[] {
  const { name, rate, floorRate, ratio, goal } = result;
  const at = (y + 4).toFixed(1);
  const marks = [
    `<text x="0" y="${at}">${escaped(name)}</text>`,
    `<line class="gap" x1="${x(rate)}" x2="${x(floorRate)}" y1="${y}" y2="${y}"/>`,
    `<line class="floor" x1="${x(floorRate)}" x2="${x(floorRate)}" y1="${y - 7}" y2="${y + 7}"/>`,
    `<circle class="rate" cx="${x(rate)}" cy="${y}" r="5"/>`,
    `<text class="end" x="${width}" y="${at}">${ratio.toPrecision(2)}</text>`,
  ];
  if (goal === null) return marks;
  const asked =
    'mostMs' in goal
      ? 1000 / mostMs(goal, floorRate)
      : floorRate * ('least' in goal ? goal.least : 1 / goal.most);
  return [...marks, `<circle class="goal" cx="${x(asked)}" cy="${y}" r="5"/>`];
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
