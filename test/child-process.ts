import { fork, spawnSync, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** `src`, compiled for child processes to run: Node 20 does not take TypeScript. */
export interface CompiledSource {
  readonly directory: string;
  remove(): void;
}

export function compileSource(): CompiledSource {
  const root = new URL('../', import.meta.url);
  const directory = mkdtempSync(join(tmpdir(), 'ottla-compiled-'));
  const tsc = fileURLToPath(new URL('node_modules/typescript/bin/tsc', root));
  const off = ['declaration', 'isolatedDeclarations', 'declarationMap', 'emitDeclarationOnly'];
  const settings = off.flatMap((setting) => [`--${setting}`, 'false']);
  const { status, stdout } = spawnSync(
    process.execPath,
    [
      tsc,
      '-p',
      'tsconfig.build.json',
      '--noCheck',
      '--outDir',
      join(directory, 'dist'),
      ...settings,
    ],
    { cwd: root, encoding: 'utf8' },
  );
  if (status !== 0) throw new Error(`tsc failed with ${status}: ${stdout}`);
  writeFileSync(join(directory, 'package.json'), '{"type":"module"}');
  const modules = fileURLToPath(new URL('node_modules', root));
  symlinkSync(modules, join(directory, 'node_modules'), 'junction');
  return { directory, remove: () => rmSync(directory, { recursive: true, force: true }) };
}

/** What a child process said and how it ended. */
export interface Child {
  readonly process: ChildProcess;
  /** The next message that it sends with process.send(); rejects if it ends before. */
  next(): Promise<unknown>;
  /** Resolves when it has ended, with its exit code or the signal that killed it. */
  ended(): Promise<number | NodeJS.Signals | null>;
  stderr(): string;
}

/**
 * Runs a module in a child process. It may import './dist/….js' and what the project depends on.
 * @param shell run before Node, in the same process: limits, for instance
 */
export function startChild(source: CompiledSource, module: string, shell?: string): Child {
  const script = join(source.directory, `child-${randomUUID()}.mjs`);
  writeFileSync(script, module);
  const child = fork(script, [], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    ...(shell === undefined
      ? {}
      : { execPath: '/bin/sh', execArgv: ['-c', `${shell}; exec "${process.execPath}" "$0"`] }),
  });
  const messages: unknown[] = [];
  let stderr = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  child.on('message', (message) => messages.push(message));
  const end = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
  return {
    process: child,
    async next() {
      while (messages.length === 0) {
        if (child.exitCode !== null || child.signalCode !== null) {
          throw new Error(`the child ended: ${stderr}`);
        }
        await Promise.race([once(child, 'message'), end]);
      }
      return messages.shift();
    },
    async ended() {
      const [code, signal] = await end;
      return code ?? signal;
    },
    stderr: () => stderr,
  };
}
