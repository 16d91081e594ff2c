import { join, relative } from 'node:path';
import { API, type Project } from 'typescript/unstable/sync';
import { isCallExpression, isPropertyAccessExpression } from 'typescript/unstable/ast/is';
import type { Identifier, Node } from 'typescript/unstable/ast';

const root = process.cwd();

/**
 * Every place in src/ that calls a method of one of these interfaces, as `file.ts:line Interface.method`,
 * by the types: whatever the variable is called. A method that is taken off its object without a call is
 * listed too, as `…taken off`: nobody could tell where that is called.
 */
export function callSitesOf(interfaces: readonly string[]): string[] {
  const api = new API({ cwd: root });
  try {
    const snapshot = api.updateSnapshot({ openProjects: [join(root, 'tsconfig.build.json')] });
    const [project] = snapshot.getProjects();
    const sites = project!.rootFiles.flatMap((path) => sitesIn(project!, path, interfaces));
    return [...new Set(sites)].toSorted();
  } finally {
    api.close();
  }
}

function sitesIn(project: Project, path: string, interfaces: readonly string[]): string[] {
  const file = project.program.getSourceFile(path)!;
  const names: Identifier[] = [];
  const called = new Set<Node>();
  const visit = (node: Node): void => {
    if (isCallExpression(node)) called.add(node.expression);
    if (isPropertyAccessExpression(node)) names.push(node.name as Identifier);
    node.forEachChild(visit);
  };
  visit(file);
  return project.checker.getSymbolAtLocation(names).flatMap((symbol, i) => {
    const owner = symbol?.getParent();
    if (owner === undefined || !interfaces.includes(owner.name)) return [];
    const name = names[i]!;
    const line = file.text.slice(0, name.getStart(file)).split('\n').length;
    const takenOff = called.has(name.parent) ? '' : ' taken off';
    return [
      `${relative(join(root, 'src'), path)}:${line} ${owner.name}.${symbol!.name}${takenOff}`,
    ];
  });
}

/** Where in src/ the running call to a method of one of the interfaces came from, without the method. */
export function callerInSource(): string {
  const before = Error.stackTraceLimit;
  Error.stackTraceLimit = 30;
  const { stack } = new Error();
  Error.stackTraceLimit = before;
  return /\/src\/([^\s:)]+\.ts:\d+):\d+/.exec(stack ?? '')?.[1] ?? 'elsewhere';
}
