/**
 * Runs the tests under other majors of Node, each fetched as the npm package `node`:
 * `node tools/test-nodes.mjs 22 24`. Exit code 1 if a test failed, 3 if none did but a version could
 * not be had; its closing line then says why.
 */
import { spawn, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const outcomes = [];
for (const major of process.argv.slice(2)) outcomes.push(await test(major));
for (const { line } of outcomes) console.log(line);
const codes = outcomes.map(({ code }) => code);
process.exitCode = codes.includes(1) ? 1 : Math.max(0, ...codes);

async function test(major) {
  const node = find(major);
  if (node.path === undefined) return { code: 3, line: `Node ${major}: not run: ${node.why}` };
  console.log(`Node ${node.version}`);
  const { code, line } = await run(node.path, ['node_modules/vitest/vitest.mjs', 'run']);
  const closed = /^\d+ passed, 0 failed/.test(line);
  return {
    code: code === 0 && closed ? 0 : 1,
    line: `Node ${node.version}: ${/^\d+ passed, /.test(line) ? line : `exit code ${code}`}`,
  };
}

/** The executable is asked for its version: npx falls back to the Node it runs on without a word. */
function find(major) {
  const npx = spawnSync('npx', ['-y', '-p', `node@${major}`, 'node', '-p', 'process.execPath'], {
    cwd: root,
    encoding: 'utf8',
    shell: process.platform === 'win32',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const path = npx.stdout?.trim();
  if (npx.status !== 0 || !path) return { why: npx.error?.message ?? reason(npx.stderr) };
  const version = spawnSync(path, ['-v'], { encoding: 'utf8' }).stdout?.trim();
  if (!version?.startsWith(`v${major}.`)) return { why: `npx answered with Node ${version}` };
  return { path, version };
}

/** Passes the output on and keeps its last line. */
async function run(path, args) {
  const child = spawn(path, args, {
    cwd: root,
    // What is random is tried at length under one Node: here it is enough that it runs.
    env: { OTTLA_SEEDS: '3', ...process.env, NO_COLOR: '1' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const closed = new Promise((resolve) => child.once('close', resolve));
  let output = '';
  for await (const chunk of child.stdout.setEncoding('utf8')) {
    process.stdout.write(chunk);
    output += chunk;
  }
  return { code: await closed, line: lastLine(output) };
}

/** npm ends what it says of a failure with the path of its log: the reason stands before. */
function reason(text) {
  const lines = text.split('\n').filter((line) => /^npm error (?!code |A complete log)/.test(line));
  return lines[0]?.slice('npm error '.length) ?? lastLine(text);
}

function lastLine(text) {
  return text.trim().split('\n').at(-1) ?? '';
}
